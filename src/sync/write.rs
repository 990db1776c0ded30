//! One transaction per batch: conversations, rejects, counters, and the queue rows that they settle.
//!
//! If PostgreSQL refuses a batch, it is split until the refused order is found. That order fails, its reply goes to
//! `sync.rejects` as far as possible, and all others are written.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use uuid::Uuid;

use super::failures::Failures;
use super::rejects::RejectLimits;
use crate::connect::Reservation;
use crate::db::runs::Counters;
use crate::db::{self, Store, chat, queue, rejects, runs};
use crate::domain::{
    ClaimedOrder, Failure, FailureKind, Fault, IdSpace, Loss, Outcome, QueuePolicy, Settlement, Suspicion, Verdict,
    settle,
};

const NOT_STORABLE: &str = "the database refuses its rows, and the text of the refusal";

/// A fetched and settled order on its way into the database. It is moved often, so it is small.
pub(super) struct Answered {
    pub(super) order: Box<ClaimedOrder>,
    pub(super) settlement: Box<Settlement>,
    /// The memory that its conversation occupies.
    pub(super) reservation: Reservation,
}

pub(super) struct BatchWriter<'a> {
    pub(super) store: &'a Store,
    pub(super) run_id: Uuid,
    pub(super) policy: &'a QueuePolicy,
    pub(super) rejects: &'a RejectLimits,
    pub(super) failures: &'a Failures,
}

impl BatchWriter<'_> {
    /// Writes a batch; `sent` are the requests and 429s of the run so far. Writes nothing for orders whose lease was
    /// lost.
    pub(super) async fn write(&self, mut batch: Vec<Answered>, sent: (u64, u64)) -> Result<(), db::Error> {
        // By key, so that concurrent workers lock rows in the same order.
        batch.sort_unstable_by(|one, other| one.order.order_id.cmp(&other.order.order_id));
        let mut pieces = vec![batch];
        while let Some(mut piece) = pieces.pop() {
            let at_rejects = AtomicBool::new(false);
            let Err(error) = self.transact(&piece, sent, &at_rejects).await else { continue };
            if !error.is_about_the_rows() {
                return Err(error);
            }
            if piece.len() > 1 {
                pieces.push(piece.split_off(piece.len() / 2));
                pieces.push(piece);
            } else if piece[0].give_way(&error, at_rejects.into_inner(), self.policy) {
                pieces.push(piece);
            } else {
                self.leave(piece[0].order.order_id.as_str(), error).await?;
            }
        }
        Ok(())
    }

    /// Leaves an order leased whose queue row accepts no settlement, and counts it as failed. Fails if there are many.
    async fn leave(&self, order_id: &str, error: db::Error) -> Result<(), db::Error> {
        if !self.failures.leave(order_id) {
            return Err(error);
        }
        tracing::error!(order_id, "left to a later run: its row in sync.order_queue accepts no settlement: {error}");
        self.failures.note(FailureKind::NotStorable.as_str(), order_id);
        let counters = &Counters { claimed: 1, failed: 1, ..Counters::default() };
        let count = |mut transaction: db::Transaction| async move {
            runs::count(&mut transaction, self.run_id, counters).await
        };
        self.store.run(count).await
    }

    /// Writes a batch in one transaction. Sets `at_rejects` while it writes rejects, so that a failure there is
    /// recognised.
    async fn transact(&self, batch: &[Answered], sent: (u64, u64), at_rejects: &AtomicBool) -> Result<(), db::Error> {
        let settlements: Vec<&Settlement> = batch.iter().map(|answered| &*answered.settlement).collect();
        let settlements = settlements.as_slice();
        let run_id = self.run_id;
        let operation = |mut transaction: db::Transaction| async move {
            at_rejects.store(false, Relaxed);
            // The queue first: it shows which leases still hold, and its row locks keep other workers away until the
            // commit. Anything written before could belong to an order that another worker has taken over.
            let held = queue::settle(&mut transaction, settlements).await?;
            let kept = still_held(settlements, &held);
            let written = chat::upsert(&mut transaction, &kept).await?;
            at_rejects.store(true, Relaxed);
            rejects::insert(&mut transaction, run_id, &kept).await?;
            at_rejects.store(false, Relaxed);
            let mut counters = count(&kept);
            (counters.requests, counters.throttled) = sent;
            counters.messages_inserted = written.messages_inserted;
            counters.messages_updated = written.messages_updated;
            counters.users_written = written.users;
            runs::count(&mut transaction, run_id, &counters).await?;
            Ok(kept)
        };
        let kept = self.store.run_by_key(operation).await?;
        self.rejects.note(&kept);
        self.failures.count(&kept);
        Ok(())
    }
}

impl Answered {
    /// Holds the result back: the order stays live and is fetched again.
    pub(super) fn hold(mut self, suspicion: Suspicion, id_space: &IdSpace) -> Self {
        self.settlement = Box::new(self.settlement.hold(&self.order, suspicion, id_space));
        self
    }

    /// Removes from the settlement what PostgreSQL may refuse, a little more each time: the bodies of its rejects, the
    /// rejects, the conversation, everything but the queue row. Returns false if nothing is left to remove.
    fn give_way(&mut self, refusal: &db::Error, at_rejects: bool, policy: &QueuePolicy) -> bool {
        let settlement = &mut self.settlement;
        let is_put_aside = |settlement: &Settlement| {
            settlement.note.as_ref().is_some_and(|(kind, _)| *kind == FailureKind::NotStorable.as_str())
        };
        if at_rejects && settlement.rejects.iter().any(|(.., fault)| !fault.body().is_empty()) {
            tracing::warn!(order_id = %self.order.order_id, "its reject is kept without the body: {refusal}");
            settlement.rejects.iter_mut().for_each(|(.., fault)| fault.drop_body());
        } else if at_rejects && !settlement.rejects.is_empty() {
            tracing::warn!(order_id = %self.order.order_id, "sync.rejects takes no row of it: {refusal}");
            settlement.rejects.clear();
        } else if refusal.is_duplicate() && !settlement.is_stored {
            // The row in chat.orders was deleted by hand while rows in other tables were left.
            settlement.is_stored = true;
        } else if !is_put_aside(settlement) {
            self.put_aside(refusal, policy);
        } else if settlement.order.is_some() || settlement.note.as_ref().is_some_and(|(_, text)| text != NOT_STORABLE) {
            settlement.order = None;
            settlement.rejects.clear();
            settlement.note = Some((FailureKind::NotStorable.as_str(), NOT_STORABLE.to_owned()));
        } else {
            return false;
        }
        true
    }

    /// Fails the order, and keeps the refused reply for inspection.
    fn put_aside(&mut self, refusal: &db::Error, policy: &QueuePolicy) {
        let conversation = self.settlement.conversation.take();
        let mut rejects = std::mem::take(&mut self.settlement.rejects);
        let body = serde_json::to_string(&conversation).unwrap_or_default();
        let reason = refusal.to_string();
        let failure = Failure {
            kind: FailureKind::NotStorable,
            message: format!("the database refuses its rows: {reason}"),
            in_outage: false,
            http_status: Some(200),
            code: None,
            reject: Some(Fault::new("$", reason, body.as_bytes())),
        };
        tracing::warn!(order_id = %self.order.order_id, "{}", failure.message);
        let (asked_at, answered_at) = (self.settlement.asked_at, self.settlement.answered_at);
        let outcome = Outcome::Failed(failure);
        let settlement = settle(&self.order, outcome, asked_at, answered_at, policy, fastrand::f64());
        rejects.extend(settlement.rejects);
        let (requests, token_kind) = (self.settlement.requests, self.settlement.token_kind);
        *self.settlement = Settlement { token_kind, requests, rejects, ..settlement };
    }
}

fn still_held<'a>(settlements: &[&'a Settlement], held: &HashSet<String>) -> Vec<&'a Settlement> {
    let kept: Vec<_> = settlements.iter().copied().filter(|settled| held.contains(settled.order_id.as_str())).collect();
    if kept.len() < settlements.len() {
        let orders = settlements.len() - kept.len();
        tracing::warn!(orders, "leases had ended before their orders were written; these orders are fetched again");
    }
    kept
}

fn count(kept: &[&Settlement]) -> Counters {
    let mut counters = Counters { claimed: kept.len() as u64, ..Counters::default() };
    for settled in kept {
        counters.messages_left_out += settled.messages_left_out as u64;
        counters.lost += u64::from(settled.loss == Some(Loss::Unread));
        counters.unproven += u64::from(settled.loss == Some(Loss::Unproven));
        match settled.verdict {
            Verdict::Changed => counters.fetched += 1,
            Verdict::Unchanged => {
                counters.fetched += 1;
                counters.unchanged += 1;
            }
            Verdict::Closed => counters.closed += 1,
            Verdict::Failed => counters.failed += 1,
            Verdict::Dead => counters.dead += 1,
            Verdict::Held => counters.held += 1,
        }
    }
    counters
}
