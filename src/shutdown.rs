//! Shutdown: the first signal ends the process in an orderly way, the second aborts it.
//!
//! `cli` listens for signals. Long work gets the [`CancellationToken`] and stops at the next safe point: it finishes
//! and writes what is in flight and releases all other leases. On the second signal the command's future is dropped,
//! which stops an embedded PostgreSQL through its `Drop`.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGHUP within this time after the first signal count as the same request: `timeout` sends two, and so
/// do a terminal and its shell when they close.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// The two stages of a shutdown.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled by the first signal: finish what is in flight.
    pub soft: CancellationToken,
    /// Cancelled by the second signal: stop immediately.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Handles SIGINT, SIGTERM and SIGHUP until the process ends. An ignored SIGHUP, as under `nohup`, stays ignored.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let tokens = shutdown.clone();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = if is_ignored(Signal::SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) };
        tokio::spawn(async move {
            // Returns whether the signal comes from a person at a terminal, for whom every signal counts.
            let mut next = async || {
                let hung_up = async {
                    match &mut hangup {
                        Some(hangup) => hangup.recv().await,
                        None => std::future::pending().await,
                    }
                };
                // Of several pending signals, SIGINT comes last: it always aborts.
                tokio::select! {
                    biased;
                    _ = terminate.recv() => false,
                    _ = hung_up => false,
                    _ = interrupt.recv() => true,
                }
            };
            next().await;
            let asked_at = Instant::now();
            tracing::info!("signal received, stopping: what is in flight is finished; a second signal aborts");
            tokens.soft.cancel();
            while !next().await && asked_at.elapsed() < SAME_REQUEST {}
            tracing::info!("signal received, aborting");
            tokens.hard.cancel();
        });
        Ok(shutdown)
    }
}

/// Returns whether the process was started with a signal ignored. False without `/proc`, because asking the system
/// takes `unsafe`.
fn is_ignored(signal: Signal) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignored(&status) >> (signal as u32 - 1) & 1 == 1)
}

/// Returns the mask in `SigIgn`; its lowest bit is signal 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status =
            "Name:\tchatsync\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert_eq!(ignored(status), 1 | 1 << 12);
        assert_eq!(ignored("Name:\tchatsync\n"), 0);
    }
}
