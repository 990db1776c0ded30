//! A run's share of the pace: read from the database at the start, agreed on every few seconds, stored at the end.
//!
//! The pace belongs to the API; each of `n` running workers sends an `n`-th of it. Every worker finds it from its own
//! replies and reports it to the database, which keeps a mean of the findings, or the highest rate served. A worker
//! that joins or leaves changes `n`, not the pace.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connect::{Client, Pace};
use crate::db::Store;
use crate::db::pace::{self, PaceReport, Shared, Total};

/// Interval of reports. Until then a worker does not know about new ones.
const TURN: Duration = Duration::from_secs(5);

/// The first report is earlier: workers with the same schedule start a moment apart.
const FIRST_TURN: Duration = Duration::from_secs(1);

pub(super) struct Share {
    store: Store,
    client: Arc<Client>,
    run_id: Uuid,
    /// Workers at the last report; 0 if others were there at the start that do not know of this one yet.
    workers: u32,
}

impl Share {
    /// Joins with a share of the known pace. If the pace cannot be read, the first report corrects it.
    pub(super) async fn join(store: Store, client: Arc<Client>, run_id: Uuid) -> Self {
        let pace = client.pace();
        let mut workers = 0;
        let (api, initial) = (client.base_url(), pace.initial());
        match pace::join(&store, run_id, api, initial).await {
            Ok(shared) => {
                start(pace, &shared);
                if shared.workers == 1 {
                    workers = 1;
                } else if pace.has_ceiling() {
                    // The others use the whole ceiling until they know of this worker.
                    pace.hold_for(TURN + FIRST_TURN);
                }
                tracing::debug!(workers = shared.workers, requests_per_second = pace.rate(), "initial pace");
            }
            Err(error) => tracing::warn!(%error, "the pace of other runs is unknown"),
        }
        Self { store, client, run_id, workers }
    }

    /// Reports until the run has ended. The next report makes up for a failed one.
    pub(super) async fn keep(mut self, ended: &CancellationToken) {
        let mut wait = FIRST_TURN;
        while ended.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            self.turn().await;
            wait = TURN;
        }
        if let Some(total) = self.turn().await {
            tracing::info!(requests_per_second = total.per_second.round(), is_limit = total.is_limit, "pace kept");
        }
    }

    /// Reports, and adopts the result. Returns what is kept for the next run.
    async fn turn(&mut self) -> Option<Total> {
        let pace = self.client.pace();
        let before = self.workers;
        let report = &PaceReport {
            rate: pace.rate(),
            served: pace.served(),
            found: pace.found(),
            workers: before,
            initial: pace.initial(),
        };
        let (run_id, api) = (self.run_id, self.client.base_url());
        let shared = match pace::report(&self.store, run_id, api, report).await {
            Ok(shared) => shared,
            Err(error) => {
                tracing::debug!(%error, "the pace was not shared");
                return None;
            }
        };
        let limit = shared.total.filter(|total| total.is_limit).map(|limit| limit.per_second);
        if shared.workers != before {
            if before == 0 {
                start(pace, &shared);
            } else {
                // It was found against an unknown number of others, so it is dropped.
                pace.share(shared.workers, limit);
            }
            tracing::debug!(
                workers = shared.workers,
                requests_per_second = pace.rate(),
                "the shares of the pace have changed"
            );
        } else if let Some(limit) = limit.filter(|_| shared.workers > 1) {
            pace.approach(limit);
        }
        self.workers = shared.workers;
        shared.total
    }
}

/// Starts with the share of what earlier runs kept.
fn start(pace: &Pace, shared: &Shared) {
    match shared.total {
        Some(served) if !served.is_limit => pace.search_from(shared.workers, served.per_second),
        total => pace.share(shared.workers, total.map(|limit| limit.per_second)),
    }
}
