//! Keeps `sync.rejects` within its limits.
//!
//! At the end of a run, and within one as often as an eighth of `rejects.max_bytes` was added: a flood does not fill the
//! disk before the run ends. Nothing here fails a run, or waits for a database that is away.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Patience};
use crate::db::{self, Store, rejects};
use crate::domain::Settlement;
use crate::waits::Waits;

/// Rejects dropped by one statement: the locks are short, even if each is as large as it may be.
const AT_ONCE: i64 = 1_000;
/// After so long the rest is left to the next time.
const LONGEST: Duration = Duration::from_secs(10);
/// What a row counts for beside its text, as in the table's `kept_bytes`.
const ROW_BYTES: usize = 300;

pub(super) struct RejectLimits {
    limits: config::RejectSettings,
    /// Its own: what fails here must not be held against the database.
    store: Store,
    /// Added since they were last dropped.
    added: AtomicU64,
}

impl RejectLimits {
    pub(super) fn new(
        limits: config::RejectSettings,
        pool: sqlx::PgPool,
        timeout: Duration,
        stop: CancellationToken,
    ) -> Self {
        // Nor is it waited for.
        let patience = Patience { timeout, give_up_after: Duration::ZERO };
        let store = Store::new(pool, patience, stop, Waits::default());
        Self { limits, store, added: AtomicU64::default() }
    }

    /// Notes what was written.
    pub(super) fn note(&self, settlements: &[&Settlement]) {
        let rejects = settlements.iter().flat_map(|settled| &settled.rejects);
        let bytes: usize = rejects.map(|(.., fault)| fault.body().len() + ROW_BYTES).sum();
        self.added.fetch_add(bytes as u64, Relaxed);
    }

    /// Drops what is too much, if enough was added since the last time.
    pub(super) async fn apply_to_flood(&self, stop: &CancellationToken) {
        let added = self.added.load(Relaxed);
        if self.limits.max_bytes.is_some_and(|max_bytes| added > 0 && added >= max_bytes / 8) {
            self.apply(stop).await;
        }
    }

    /// Drops what is too old or too much.
    pub(super) async fn apply(&self, stop: &CancellationToken) {
        self.added.store(0, Relaxed);
        let mut dropped = 0;
        if let Err(error) = self.drop_oldest(&mut dropped, stop).await {
            tracing::warn!("sync.rejects stays larger than its limits for now: {error}");
        }
        if dropped > 0 {
            tracing::info!(rejects = dropped, "the oldest rejects dropped: rejects.keep, rejects.max_bytes");
        }
    }

    async fn drop_oldest(&self, dropped: &mut u64, stop: &CancellationToken) -> Result<(), db::Error> {
        let config::RejectSettings { keep, max_bytes } = self.limits;
        let excess = match max_bytes {
            None => None,
            Some(max_bytes) => {
                let look =
                    |mut connection: db::Link| async move { rejects::newest_excess(&mut *connection, max_bytes).await };
                self.store.run_by_key(look).await?
            }
        };
        let end = Instant::now() + LONGEST;
        while (excess.is_some() || keep.is_some()) && Instant::now() < end && !stop.is_cancelled() {
            let drop = |mut connection: db::Link| async move {
                rejects::drop_oldest(&mut *connection, excess, keep, AT_ONCE).await
            };
            match self.store.run_by_key(drop).await? {
                0 => break,
                rejects => *dropped += rejects,
            }
        }
        Ok(())
    }
}
