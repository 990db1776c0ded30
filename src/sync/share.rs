//! A run's part of the pace: taken from the database at the start, agreed upon every few seconds, kept at the end.
//!
//! The pace belongs to the API; of `n` running workers each sends an `n`-th of it. Every worker finds it out from its
//! own replies and tells the database, which keeps a mean of what was found, or the most that was served. A worker that joins or leaves changes `n`, not the pace.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connect::{Client, Pace};
use crate::db::pace::{self, Report, Shared, Total};
use crate::db::{Link, Store};

/// A worker hears of others after this long, and tells what it found.
const TURN: Duration = Duration::from_secs(5);

/// The first time is earlier: workers that one schedule starts together come a moment apart.
const FIRST_TURN: Duration = Duration::from_secs(1);

pub(super) struct Share {
    store: Store,
    client: Arc<Client>,
    run_id: Uuid,
    /// How many shared the pace at the last turn; 0 if others were there at the start, who have not heard of it yet.
    workers: u32,
}

impl Share {
    /// Begins a run with its part of what is known. If that cannot be had the first turn makes up for it.
    pub(super) async fn join(store: Store, client: Arc<Client>, run_id: Uuid) -> Self {
        let pace = client.pace();
        let mut workers = 0;
        let (api, initial) = (client.base_url(), pace.initial());
        let join = |mut connection: Link| async move { pace::join(&mut connection, run_id, api, initial).await };
        match store.run(join).await {
            Ok(shared) => {
                start(pace, &shared);
                if shared.workers == 1 {
                    workers = 1;
                } else if pace.has_ceiling() {
                    // The others use all of the ceiling until they have heard of this one.
                    pace.hold_for(TURN + FIRST_TURN);
                }
                tracing::debug!(workers = shared.workers, requests_per_second = pace.rate(), "the pace to start with");
            }
            Err(error) => tracing::warn!("the pace of other runs is unknown: {error}"),
        }
        Self { store, client, run_id, workers }
    }

    /// Keeps to the agreement until the run has ended. A turn that fails is made up for by the next.
    pub(super) async fn keep(mut self, ended: &CancellationToken) {
        let mut wait = FIRST_TURN;
        while ended.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            self.turn().await;
            wait = TURN;
        }
        if let Some(total) = self.turn().await {
            let (run_id, rate) = (self.run_id, total.per_second.round());
            tracing::info!(%run_id, requests_per_second = rate, is_limit = total.is_limit, "pace kept");
        }
    }

    /// Returns what is kept for the next run.
    async fn turn(&mut self) -> Option<Total> {
        let pace = self.client.pace();
        let before = self.workers;
        let report = &Report {
            rate: pace.rate(),
            served: pace.served(),
            found: pace.found(),
            workers: before,
            initial: pace.initial(),
        };
        let (run_id, api) = (self.run_id, self.client.base_url());
        let tell = |mut connection: Link| async move { pace::report(&mut *connection, run_id, api, report).await };
        let shared = match self.store.run(tell).await {
            Ok(shared) => shared,
            Err(error) => {
                tracing::debug!("the pace was not shared: {error}");
                return None;
            }
        };
        let limit = shared.total.filter(|total| total.is_limit).map(|limit| limit.per_second);
        if shared.workers != before {
            if before == 0 {
                start(pace, &shared);
            } else {
                // What was found meanwhile was found against an unknown number of others.
                pace.share(shared.workers, limit);
            }
            tracing::debug!(workers = shared.workers, requests_per_second = pace.rate(), "the pace is shared anew");
        } else if let Some(limit) = limit.filter(|_| shared.workers > 1) {
            pace.approach(limit);
        }
        self.workers = shared.workers;
        shared.total
    }
}

/// Starts with this worker's part of what earlier runs kept.
fn start(pace: &Pace, shared: &Shared) {
    match shared.total {
        Some(served) if !served.is_limit => pace.search_from(shared.workers, served.per_second),
        total => pace.share(shared.workers, total.map(|limit| limit.per_second)),
    }
}
