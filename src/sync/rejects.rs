//! Keeps `sync.rejects` within its limits.
//!
//! Runs at the end of a run, and during it whenever an eighth of `rejects.max_bytes` was added: otherwise a flood could
//! fill the disk before the run ends. Never fails a run or waits for a database that is unavailable.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::db::{self, Store, rejects};
use crate::domain::Settlement;

/// Rejects dropped by one statement. Few, so that locks are short even if each is large.
const AT_ONCE: i64 = 1_000;
/// After this time the rest is left to the next call.
const LONGEST: Duration = Duration::from_secs(10);
/// Bytes that a row counts beside its text, as in `kept_bytes` of the table.
const ROW_BYTES: usize = 300;

pub(super) struct RejectLimits {
    limits: config::RejectSettings,
    /// A separate store: a failure here must not count as an outage for the run.
    store: Store,
    /// Bytes added since the last drop.
    added: AtomicU64,
}

impl RejectLimits {
    pub(super) fn new(
        limits: config::RejectSettings,
        store: &Store,
        timeout: Duration,
        stop: CancellationToken,
    ) -> Self {
        let store = store.beside(timeout, stop);
        Self { limits, store, added: AtomicU64::default() }
    }

    /// Counts the rejects of a written batch.
    pub(super) fn note(&self, settlements: &[&Settlement]) {
        let rejects = settlements.iter().flat_map(|settled| &settled.rejects);
        let bytes: usize = rejects.map(|reject| reject.fault.body().len() + ROW_BYTES).sum();
        self.added.fetch_add(bytes as u64, Relaxed);
    }

    /// Drops rejects if enough was added since the last time.
    pub(super) async fn apply_to_flood(&self, stop: &CancellationToken) {
        let added = self.added.load(Relaxed);
        if self.limits.max_bytes.is_some_and(|max_bytes| added > 0 && added >= max_bytes / 8) {
            self.apply(stop).await;
        }
    }

    /// Drops rejects that are too old or too many. A failure is only logged.
    pub(super) async fn apply(&self, stop: &CancellationToken) {
        self.added.store(0, Relaxed);
        let mut dropped = 0;
        if let Err(error) = self.drop_oldest(&mut dropped, stop).await {
            tracing::warn!(%error, "sync.rejects stays larger than its limits for now");
        }
        if dropped > 0 {
            tracing::info!(rejects = dropped, "the oldest rejects dropped: rejects.keep, rejects.max_bytes");
        }
    }

    async fn drop_oldest(&self, dropped: &mut u64, stop: &CancellationToken) -> Result<(), db::Error> {
        let config::RejectSettings { keep, max_bytes } = self.limits;
        let excess = match max_bytes {
            None => None,
            Some(max_bytes) => rejects::newest_excess(&self.store, max_bytes).await?,
        };
        let end = Instant::now() + LONGEST;
        while (excess.is_some() || keep.is_some()) && Instant::now() < end && !stop.is_cancelled() {
            match rejects::drop_oldest(&self.store, excess, keep, AT_ONCE).await? {
                0 => break,
                rejects => *dropped += rejects,
            }
        }
        Ok(())
    }
}
