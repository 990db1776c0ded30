//! A run's part of the pace: taken from the database at the start, agreed upon every few seconds, kept at the end.
//!
//! The pace belongs to the API; of `n` running workers each sends an `n`-th of it. Every worker finds it out from its
//! own replies and tells the database, which keeps a mean. A worker that joins or leaves changes `n`, not the pace.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connect::Client;
use crate::db::pace::{self, Report};
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
        let api = client.base_url();
        let join = |mut connection: Link| async move { pace::join(&mut connection, run_id, api).await };
        match store.run(join).await {
            Ok(shared) => {
                pace.share(shared.workers, shared.total);
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
        self.turn().await;
        if let Some(found) = self.client.pace().found() {
            tracing::info!(run_id = %self.run_id, requests_per_second = found.round(), "pace found");
        }
    }

    async fn turn(&mut self) {
        let pace = self.client.pace();
        let before = self.workers;
        let report = &Report { rate: pace.rate(), found: pace.found(), workers: before };
        let (run_id, api) = (self.run_id, self.client.base_url());
        let tell = |mut connection: Link| async move { pace::report(&mut *connection, run_id, api, report).await };
        let shared = match self.store.run(tell).await {
            Ok(shared) => shared,
            Err(error) => return tracing::debug!("the pace was not shared: {error}"),
        };
        if shared.workers != before {
            // What was found meanwhile was found against an unknown number of others.
            pace.share(shared.workers, shared.total);
            tracing::debug!(workers = shared.workers, requests_per_second = pace.rate(), "the pace is shared anew");
        } else if let Some(total) = shared.total.filter(|_| shared.workers > 1) {
            pace.lean_to(total);
        }
        self.workers = shared.workers;
    }
}
