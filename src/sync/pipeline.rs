//! The stages of a run, and what flows between them.
//!
//! Claim, fetch and write are three futures; fetches are tasks of their own so that decoding uses all cores. A fourth
//! renews leases for as long as the run lasts. A stage that fails, or a signal, makes the claiming stop; what is in
//! flight is finished and written, then leases that were not used are given back. Nothing here is unbounded: the claim
//! stage waits for room in the first channel, a finished fetch for room in the second.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::clock::DatabaseClock;
use super::held::Held;
use super::write::{Answered, write};
use super::{Error, Progress, Worker};
use crate::connect::{Answer, Client};
use crate::db::queue::{self, Cursor, Scope};
use crate::db::{self, runs};
use crate::domain::{ClaimedOrder, QueuePolicy, settle};

/// Most orders written in one transaction. Larger ones gain nothing measurable and hold locks longer.
const BATCH_ORDERS: usize = 500;

/// One run's way from the queue through the API into the tables.
pub(super) struct Pipeline {
    pub(super) scope: Scope,
    pool: PgPool,
    run_id: Uuid,
    lease: Duration,
    max_in_flight: usize,
    held: Held,
    fetcher: Arc<Fetcher>,
}

/// What every fetch needs.
struct Fetcher {
    client: Arc<Client>,
    clock: DatabaseClock,
    policy: QueuePolicy,
}

impl Pipeline {
    pub(super) fn new(worker: &Worker, run_id: Uuid, scope: Scope, clock: DatabaseClock) -> Self {
        let fetcher = Fetcher { client: Arc::clone(&worker.client), clock, policy: worker.queue.policy.clone() };
        Self {
            scope,
            pool: worker.pool.clone(),
            run_id,
            lease: worker.queue.lease,
            max_in_flight: worker.max_in_flight,
            held: Held::default(),
            fetcher: Arc::new(fetcher),
        }
    }

    /// Walks once through the queue in due order; returns how many orders were claimed and settled.
    pub(super) async fn pass(&self, limit: u64, stop: &CancellationToken, progress: &Progress) -> Result<u64, Error> {
        // Cancelled by a signal or by the first stage that fails.
        let halt = stop.child_token();
        let (claimed_out, claimed_in) = mpsc::channel(self.max_in_flight);
        let (answered_out, answered_in) = mpsc::channel(BATCH_ORDERS);
        let (claim, fetch, write) = tokio::join!(
            halt_on_error(&halt, self.claim(limit, claimed_out, &halt)),
            halt_on_error(&halt, self.fetch(claimed_in, answered_out, &halt)),
            halt_on_error(&halt, self.write(answered_in, progress)),
        );
        // Whatever was claimed but not settled: the rest after a signal, or after an error.
        let rest = self.held.take();
        if !rest.is_empty() {
            match queue::release(&self.pool, &rest).await {
                Ok(()) => tracing::info!(orders = rest.len(), "claimed orders given back"),
                Err(error) => {
                    tracing::warn!(orders = rest.len(), "claimed orders come free when their leases end: {error}");
                }
            }
        }
        // The write stage knows best: a failed write makes the stages before it fail as well.
        let claimed = write.and(fetch).and(claim)?;
        Ok(claimed - rest.len() as u64)
    }

    /// Returns how many orders it claimed, whatever became of them.
    async fn claim(&self, limit: u64, out: Sender<ClaimedOrder>, halt: &CancellationToken) -> Result<u64, Error> {
        let chunk = (self.max_in_flight * 2).clamp(32, 1_000);
        let mut cursor = Cursor::start();
        let mut claimed = 0;
        while claimed < limit && !halt.is_cancelled() {
            let size = chunk.min(usize::try_from(limit - claimed).unwrap_or(usize::MAX));
            let orders = queue::claim(&self.pool, &self.scope, &mut cursor, size, self.lease).await?;
            self.held.add(&orders);
            let count = orders.len();
            claimed += count as u64;
            for order in orders {
                // Both ends mean the same: nobody will fetch it, and it is given back as held.
                match halt.run_until_cancelled(out.send(order)).await {
                    Some(Ok(())) => {}
                    Some(Err(_)) | None => return Ok(claimed),
                }
            }
            if count < size {
                break;
            }
        }
        Ok(claimed)
    }

    async fn fetch(
        &self,
        mut claimed: Receiver<ClaimedOrder>,
        out: Sender<Answered>,
        halt: &CancellationToken,
    ) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let mut result = Ok(());
        loop {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended.map_err(Error::from).flatten() {
                        halt.cancel();
                        result = result.and(Err(error));
                    }
                }
                order = claimed.recv(), if tasks.len() < self.max_in_flight && !halt.is_cancelled() => {
                    let Some(order) = order else { break };
                    let fetch = Arc::clone(&self.fetcher).fetch(order, out.clone(), halt.clone());
                    tasks.spawn(fetch);
                }
                () = halt.cancelled() => break,
            }
        }
        // In flight already: let them come to their end, so that nothing that was answered is asked again.
        while let Some(ended) = tasks.join_next().await {
            result = result.and(ended.map_err(Error::from).flatten());
        }
        result
    }

    async fn write(&self, mut answered: Receiver<Answered>, progress: &Progress) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH_ORDERS);
        while answered.recv_many(&mut batch, BATCH_ORDERS).await > 0 {
            let orders: Vec<_> = batch.iter().map(|answered| answered.settlement.order_id.clone()).collect();
            // A task of its own: building the columns of a batch must not keep this one from claiming.
            let (pool, run_id, batch) = (self.pool.clone(), self.run_id, std::mem::take(&mut batch));
            tokio::spawn(async move { write(&pool, run_id, batch).await }).await??;
            self.held.remove(orders.iter());
            progress.settle(orders.len() as u64);
        }
        Ok(())
    }

    /// Extends all leases, and the run's own sign of life, at a third of their length, so that one missed turn loses
    /// none. A turn that fails is not the end of the run: the stages meet the database too, and a lease that was lost
    /// after all keeps its order from being written.
    pub(super) async fn stay_alive(&self, ended: &CancellationToken) {
        while ended.run_until_cancelled(tokio::time::sleep(self.lease / 3)).await.is_some() {
            if let Err(error) = self.renew().await {
                tracing::warn!("leases were not renewed: {error}");
            }
        }
    }

    async fn renew(&self) -> Result<(), db::Error> {
        runs::stay_alive(&self.pool, self.run_id, self.lease).await?;
        let held = self.held.list();
        if !held.is_empty() {
            queue::renew(&self.pool, &held, self.lease).await?;
        }
        Ok(())
    }
}

impl Fetcher {
    /// One order from claim to settlement. An error stops the run; no answer leaves the order held, to be given back.
    async fn fetch(
        self: Arc<Self>,
        order: ClaimedOrder,
        out: Sender<Answered>,
        halt: CancellationToken,
    ) -> Result<(), Error> {
        let fetched = self.client.fetch(&order, &halt).await;
        let outcome = match fetched.answer {
            Answer::Outcome(outcome) => outcome,
            Answer::GivenUp => return Ok(()),
            Answer::StopRun(error) => return Err(error.into()),
        };
        let asked_at = self.clock.time_of(fetched.asked_at);
        let answered_at = self.clock.time_of(Instant::now());
        let settlement = settle(&order, outcome, asked_at, answered_at, &self.policy, fastrand::f64());
        if let Some((kind, message)) = &settlement.note {
            tracing::warn!(order_id = %order.order_id, kind, verdict = ?settlement.verdict, "{message}");
        }
        // Nobody receives only after the write stage has failed, which is reported there.
        let _ = out.send(Answered { settlement, tally: fetched.tally }).await;
        Ok(())
    }
}

async fn halt_on_error<T>(halt: &CancellationToken, stage: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let result = stage.await;
    if result.is_err() {
        halt.cancel();
    }
    result
}
