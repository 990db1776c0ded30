//! The stages of a run, and what flows between them.
//!
//! Claim, fetch and write are three futures. Each fetch and each batch being written is a task, so that decoding and
//! encoding use all cores. A fourth future renews the leases. After an error or a signal, claiming stops, requests in
//! flight are completed and written, and unused leases are released. Memory is bounded: each stage waits until its
//! channel has capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::{BatchQueue, MOST_ORDERS};
use super::clock::DatabaseClock;
use super::failures::Failures;
use super::guard::Guard;
use super::held::HeldLeases;
use super::rejects::RejectLimits;
use super::write::{Answered, BatchWriter};
use super::{Error, Progress, Worker};
use crate::connect::{Answer, Session};
use crate::db::queue::{self, Claimed, Cursor, Due, Scope};
use crate::db::runs::{self, Counters};
use crate::db::{self, Store};
use crate::domain::{ClaimedOrder, FailureKind, Lease, OrderId, QueuePolicy, Settlement, settle};

/// Batches written at once. The second uses the time in which the first waits for the network and the disk; more would
/// slow each other down.
const WRITERS: usize = 2;

/// The pipeline of one run: from the queue through the API into the tables.
pub(super) struct Pipeline {
    pub(super) scope: Scope,
    pub(super) store: Store,
    pub(super) session: Arc<Session>,
    pub(super) failures: Arc<Failures>,
    run_id: Uuid,
    lease: Duration,
    max_in_flight: usize,
    held: HeldLeases,
    clock: DatabaseClock,
    policy: Arc<QueuePolicy>,
    pub(super) rejects: Arc<RejectLimits>,
    /// Whether a message of this run was stored.
    pub(super) has_stored: Arc<AtomicBool>,
    /// Cancelled by a signal or by the first stage that fails.
    halt: CancellationToken,
}

/// The orders of a written batch, which need no lease any more.
type WriteResult = Result<Vec<OrderId>, db::Error>;

struct Fetch {
    session: Arc<Session>,
    clock: DatabaseClock,
    policy: Arc<QueuePolicy>,
    order: ClaimedOrder,
    out: Sender<Answered>,
}

impl Pipeline {
    pub(super) fn new(
        worker: &Worker,
        run_id: Uuid,
        scope: Scope,
        clock: DatabaseClock,
        store: Store,
        halt: CancellationToken,
    ) -> Self {
        let session = Session::new(Arc::clone(&worker.client), worker.outage_after, halt.clone());
        let rejects = RejectLimits::new(worker.rejects, &store, worker.patience.timeout, halt.clone());
        Self {
            scope,
            store,
            rejects: Arc::new(rejects),
            session: Arc::new(session),
            failures: Arc::default(),
            run_id,
            lease: worker.queue.lease,
            max_in_flight: worker.max_in_flight,
            held: HeldLeases::default(),
            clock,
            policy: Arc::new(worker.queue.policy.clone()),
            has_stored: Arc::default(),
            halt,
        }
    }

    /// Looks at what is left to do, orders of other workers included.
    pub(super) async fn due(&self) -> Result<Option<Due>, Error> {
        let look = |mut transaction: db::Transaction| async move {
            queue::due(&mut *transaction, &self.scope, self.lease).await
        };
        Ok(self.about_orders(look).await?)
    }

    /// Runs a statement about the orders of the run. A given list of orders gets a custom plan; otherwise plans that
    /// scan the table are forbidden.
    async fn about_orders<T, F>(&self, operation: impl FnMut(db::Transaction) -> F) -> Result<T, db::Error>
    where
        F: Future<Output = Result<T, db::Error>>,
    {
        if self.scope.only.is_some() { self.store.run(operation).await } else { self.store.run_by_key(operation).await }
    }

    /// Walks once through the due orders, up to `limit`. Returns how many were claimed and settled.
    pub(super) async fn pass(
        &self,
        due: &Due,
        limit: u64,
        guard: &mut Guard,
        progress: &Progress,
    ) -> Result<u64, Error> {
        let (claimed_out, claimed_in) = mpsc::channel(self.max_in_flight);
        let (answered_out, answered_in) = mpsc::channel(self.max_in_flight);
        // Also ends early if the guard must judge what waits before more is fetched.
        let pass = self.halt.child_token();
        let (claim, fetch, write) = tokio::join!(
            self.halt_on_error(self.claim(&due.from, limit.min(due.free), claimed_out, progress, &pass)),
            self.halt_on_error(self.fetch(claimed_in, answered_out, &pass)),
            self.halt_on_error(self.write(answered_in, guard, progress, &pass)),
        );
        let judged = self.halt_on_error(self.judge(guard, progress)).await;
        // Claimed but not settled: the rest after a signal or an error.
        let rest = &self.held.take();
        if !rest.is_empty() {
            let release =
                |mut transaction: db::Transaction| async move { queue::release(&mut *transaction, rest).await };
            match self.store.run(release).await {
                Ok(()) => tracing::info!(orders = rest.len(), "claimed orders released"),
                Err(error) => {
                    tracing::warn!(
                        orders = rest.len(),
                        "claimed orders were not released, their leases will expire: {error}"
                    );
                }
            }
        }
        // The first cause is in the write stage: if it fails, the stages before it fail as well.
        let claimed = write.and(fetch).and(claim)?;
        judged?;
        Ok(claimed - rest.len() as u64)
    }

    /// Claims orders and sends them to the fetch stage. Returns how many it claimed, fetched or not.
    async fn claim(
        &self,
        from: &Cursor,
        limit: u64,
        out: Sender<ClaimedOrder>,
        progress: &Progress,
        pass: &CancellationToken,
    ) -> Result<u64, Error> {
        let chunk = (self.max_in_flight * 2).clamp(64, 1_000);
        let mut cursor = from.clone();
        let mut claimed = 0;
        while claimed < limit && !pass.is_cancelled() {
            let size = chunk.min(usize::try_from(limit - claimed).unwrap_or(usize::MAX));
            // Committed before any order is sent on: no transaction may stay open during a request, and a crash must leave
            // a lease that others can take over.
            let (scope, place, lease) = (&self.scope, &cursor, Lease::new_v4());
            let claim = |mut transaction: db::Transaction| async move {
                let claimed = queue::claim(&mut transaction, scope, place, size, lease, self.lease).await?;
                let dead = claimed.unusable.len() as u64;
                if dead > 0 {
                    let counters = Counters { claimed: dead, dead, ..Counters::default() };
                    runs::count(&mut transaction, self.run_id, &counters).await?;
                }
                Ok(claimed)
            };
            let Claimed { orders, unusable, next } = self.about_orders(claim).await?;
            cursor = next;
            // Before the first order is sent, so that none is in flight without renewal.
            self.held.add(&orders);
            self.give_up(&unusable, progress);
            let count = orders.len() + unusable.len();
            claimed += count as u64;
            for order in orders {
                // Either way it will not be fetched. It is still in `held`, so it is released.
                match pass.run_until_cancelled(out.send(order)).await {
                    Some(Ok(())) => {}
                    Some(Err(_)) | None => return Ok(claimed),
                }
            }
            // The end of the queue, or nearly: a row that was locked at this moment is left to the next pass.
            if count < size {
                break;
            }
        }
        Ok(claimed)
    }

    /// Counts and logs orders whose rows cannot be used. The claim has settled them as dead.
    fn give_up(&self, unusable: &[String], progress: &Progress) {
        let Some(example) = unusable.first() else { return };
        let kind = FailureKind::BadRow.as_str();
        for order_id in unusable {
            self.failures.note(kind, order_id);
        }
        progress.settle(unusable.len() as u64);
        tracing::warn!(orders = unusable.len(), ?example, kind, "rows of the queue cannot be used: chatsync why ORDER");
    }

    async fn fetch(
        &self,
        mut claimed: Receiver<ClaimedOrder>,
        out: Sender<Answered>,
        pass: &CancellationToken,
    ) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let mut result = Ok(());
        loop {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended.map_err(Error::from).flatten() {
                        self.halt.cancel();
                        result = result.and(Err(error));
                    }
                }
                order = claimed.recv(), if tasks.len() < self.max_in_flight && !pass.is_cancelled() => {
                    let Some(order) = order else { break };
                    tasks.spawn(self.fetch_one(order, out.clone()).run());
                }
                () = pass.cancelled() => break,
            }
        }
        // Complete the requests in flight, so that no reply is lost and fetched again.
        while let Some(ended) = tasks.join_next().await {
            result = result.and(ended.map_err(Error::from).flatten());
        }
        result
    }

    fn fetch_one(&self, order: ClaimedOrder, out: Sender<Answered>) -> Fetch {
        let (session, policy) = (Arc::clone(&self.session), Arc::clone(&self.policy));
        Fetch { session, clock: self.clock, policy, order, out }
    }

    async fn write(
        &self,
        answered: Receiver<Answered>,
        guard: &mut Guard,
        progress: &Progress,
        pass: &CancellationToken,
    ) -> Result<(), Error> {
        let mut writes = JoinSet::new();
        let mut result = self.write_batches(answered, guard, &mut writes, progress, pass).await;
        while let Some(written) = writes.join_next().await {
            result = result.and(self.note_written(written, progress));
        }
        result
    }

    /// Writes batches until all replies have come and are written. After an error some writes may still be running.
    async fn write_batches(
        &self,
        mut answered: Receiver<Answered>,
        guard: &mut Guard,
        writes: &mut JoinSet<WriteResult>,
        progress: &Progress,
        pass: &CancellationToken,
    ) -> Result<(), Error> {
        let (mut incoming, mut ready, mut is_open) = (Vec::new(), BatchQueue::new(), true);
        loop {
            // A full batch, or the last one, is written as soon as a writer is free. Others wait a while and only start
            // if no writer is busy, so that batches grow under load.
            while !ready.is_empty()
                && writes.len() < WRITERS
                && (ready.is_full() || !is_open || (writes.is_empty() && ready.waits_until() <= Instant::now()))
            {
                writes.spawn(self.write_batch(ready.take()));
            }
            tokio::select! {
                Some(written) = writes.join_next() => self.note_written(written, progress)?,
                count = answered.recv_many(&mut incoming, MOST_ORDERS / 4), if is_open && !ready.is_full() => {
                    is_open = count > 0;
                    // The guard first: one batch must not close orders that a wrong server claims not to know.
                    ready.add(guard.admit(incoming.drain(..), |order| self.session.client().id_space(order)));
                    if guard.is_full() {
                        pass.cancel();
                    }
                }
                () = tokio::time::sleep_until(ready.waits_until()), if !ready.is_empty() && writes.is_empty() => {}
                else => return Ok(()),
            }
        }
    }

    /// Writes these answers, batch by batch.
    pub(super) async fn write_all(&self, answers: Vec<Answered>, progress: &Progress) -> Result<(), Error> {
        let mut ready = BatchQueue::new();
        ready.add(answers);
        while !ready.is_empty() {
            self.note_written(Ok(self.write_batch(ready.take()).await), progress)?;
        }
        Ok(())
    }

    /// Once true, no new request is sent.
    pub(super) fn is_stopping(&self) -> bool {
        self.halt.is_cancelled()
    }

    pub(super) fn policy(&self) -> &QueuePolicy {
        &self.policy
    }

    /// Spawned as a task: building the columns of a batch would otherwise delay the other stages.
    fn write_batch(&self, batch: Vec<Answered>) -> impl Future<Output = WriteResult> + use<> {
        let (store, run_id, policy) = (self.store.clone(), self.run_id, Arc::clone(&self.policy));
        let (sent, rejects, halt) = (self.session.counts(), Arc::clone(&self.rejects), self.halt.clone());
        let (has_stored, failures) = (Arc::clone(&self.has_stored), Arc::clone(&self.failures));
        async move {
            let order_ids = batch.iter().map(|answered| answered.order.order_id.clone()).collect();
            let has_storable_messages = batch.iter().any(|answered| answered.settlement.has_storable_messages);
            let writer = BatchWriter { store: &store, run_id, policy: &policy, rejects: &rejects, failures: &failures };
            writer.write(batch, sent).await?;
            has_stored.fetch_or(has_storable_messages, Relaxed);
            rejects.apply_to_flood(&halt).await;
            Ok(order_ids)
        }
    }

    fn note_written(&self, written: Result<WriteResult, JoinError>, progress: &Progress) -> Result<(), Error> {
        let order_ids = written??;
        self.held.remove(order_ids.iter());
        progress.settle(order_ids.len() as u64);
        Ok(())
    }

    /// Renews all leases and the sign of life of the run, at a third of their length, so that one failed renewal loses
    /// none. A failure does not end the run: the stages notice the database too, and an order whose lease was lost is
    /// not written.
    pub(super) async fn stay_alive(&self, ended: &CancellationToken) {
        while ended.run_until_cancelled(tokio::time::sleep(self.lease / 3)).await.is_some() {
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "leases were not renewed");
            }
        }
    }

    async fn renew(&self) -> Result<(), db::Error> {
        let held = &self.held.list();
        let renew = |mut transaction: db::Transaction| async move {
            runs::stay_alive(&mut *transaction, self.run_id, self.lease).await?;
            if !held.is_empty() {
                queue::renew(&mut *transaction, held, self.lease).await?;
            }
            Ok(())
        };
        self.store.run(renew).await
    }

    async fn halt_on_error<T>(&self, stage: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let result = stage.await;
        if result.is_err() {
            self.halt.cancel();
        }
        result
    }
}

impl Fetch {
    /// Fetches and settles one order. An error stops the run. Without a reply the order stays held and is released.
    async fn run(mut self) -> Result<(), Error> {
        if let Some(held) = &self.order.held
            && held.id_space != self.session.client().id_space(&self.order).to_string()
        {
            // The held result belongs to another server, banner or kind of ids and means nothing here.
            self.order.held = None;
        }
        let fetched = self.session.fetch(&self.order).await;
        let outcome = match fetched.answer {
            Answer::Outcome(outcome) => outcome,
            Answer::GivenUp => return Ok(()),
            Answer::StopRun(error) => return Err(error.into()),
        };
        let asked_at = self.clock.time_of(fetched.asked_at);
        let answered_at = self.clock.now();
        let settlement = settle(&self.order, outcome, asked_at, answered_at, &self.policy, fastrand::f64());
        let settlement =
            Box::new(Settlement { requests: fetched.requests, token_kind: fetched.token_kind, ..settlement });
        if let Some((kind, message)) = &settlement.note {
            tracing::warn!(order_id = %self.order.order_id, kind, verdict = ?settlement.verdict, "{message}");
        }
        let answered = Answered { order: Box::new(self.order), settlement, reservation: fetched.reservation };
        // The receiver is gone only after the write stage has failed, which is reported there.
        let _ = self.out.send(answered).await;
        Ok(())
    }
}
