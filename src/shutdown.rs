//! An orderly end: the first signal asks, the second insists.
//!
//! `cli` listens; long work gets the [`CancellationToken`] and stops at the next safe point: what is in flight is
//! finished and written, other leases are given back. Dropping the command's future on the second signal stops an
//! embedded PostgreSQL through its `Drop`.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two stages of an end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// First signal: finish what is in flight.
    pub soft: CancellationToken,
    /// Second signal: stop at once.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Handles SIGINT, SIGTERM and SIGHUP from now on, until the process ends.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let tokens = shutdown.clone();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            let stages = [
                (tokens.soft, "stopping: what is in flight is finished; a second signal aborts"),
                (tokens.hard, "aborting"),
            ];
            for (token, message) in stages {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                tracing::info!("signal received, {message}");
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}
