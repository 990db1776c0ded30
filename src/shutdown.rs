//! An orderly end: the first signal asks, the second insists.
//!
//! `main` listens; long work gets the [`CancellationToken`] and stops at the next safe point: what is in flight is
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
            for token in [tokens.soft, tokens.hard] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                tracing::info!("signal received; the first finishes what is in flight, a second aborts");
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}
