//! An orderly end: the first signal asks, the second insists.
//!
//! `cli` listens; long work gets the [`CancellationToken`] and stops at the next safe point: what is in flight is
//! finished and written, other leases are given back. Dropping the command's future on the second signal stops an
//! embedded PostgreSQL through its `Drop`.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGHUP within this time after the first signal are the same request: `timeout` sends two, and so do a
/// terminal and its shell when they go.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// The two stages of an end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// First signal: finish what is in flight.
    pub soft: CancellationToken,
    /// Second signal: stop at once.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Handles SIGINT, SIGTERM and SIGHUP from now on, until the process ends. A SIGHUP that is ignored, as under `nohup`,
    /// stays ignored.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let tokens = shutdown.clone();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = if is_ignored(Signal::SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) };
        tokio::spawn(async move {
            // Whether it comes from a person at a terminal, who means every single one.
            let mut next = async || {
                let hung_up = async {
                    match &mut hangup {
                        Some(hangup) => hangup.recv().await,
                        None => std::future::pending().await,
                    }
                };
                // Of several at once the one that insists comes last.
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

/// Whether the process was started with a signal ignored. Without `/proc` it is taken for not: to ask the system itself
/// takes `unsafe`.
fn is_ignored(signal: Signal) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignored(&status) >> (signal as u32 - 1) & 1 == 1)
}

/// The mask in `SigIgn`: the lowest bit is signal 1.
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
