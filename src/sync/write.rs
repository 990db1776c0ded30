//! One transaction per batch: conversations, rejects, counters, and the queue rows that they settle.
//!
//! A batch that PostgreSQL refuses is split until the order is found whose rows it refuses; that one fails, with what
//! the API said of it put aside in `sync.rejects` as far as that takes it, and all others are written.

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

/// Stored in any database.
const NOT_STORABLE: &str = "the database refuses its rows, and what it was told of the refusal";

/// An order on its way into the database. It changes places many times on it, so it is small.
pub(super) struct Answered {
    pub(super) order: Box<ClaimedOrder>,
    pub(super) settlement: Box<Settlement>,
    /// The memory that the conversation takes.
    pub(super) reservation: Reservation,
}

/// Writes the answers of one run.
pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) run_id: Uuid,
    pub(super) policy: &'a QueuePolicy,
    pub(super) rejects: &'a RejectLimits,
    pub(super) failures: &'a Failures,
}

impl Writer<'_> {
    /// Writes a batch; `sent` are the requests and 429s of the run so far. Orders whose lease was lost write nothing.
    pub(super) async fn write(&self, mut batch: Vec<Answered>, sent: (u64, u64)) -> Result<(), db::Error> {
        // By key, so that concurrent workers lock rows in one order.
        batch.sort_unstable_by(|one, other| one.order.order_id.cmp(&other.order.order_id));
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let at_rejects = AtomicBool::new(false);
            let Err(error) = self.transact(&part, sent, &at_rejects).await else { continue };
            if !error.is_about_the_rows() {
                return Err(error);
            }
            if part.len() > 1 {
                parts.push(part.split_off(part.len() / 2));
                parts.push(part);
            } else if part[0].give_way(&error, at_rejects.into_inner(), self.policy) {
                parts.push(part);
            } else {
                self.leave(part[0].order.order_id.as_str(), error).await?;
            }
        }
        Ok(())
    }

    /// Not even its queue row accepts anything: the order stays leased, and counts as failed. Fails if there are many.
    async fn leave(&self, order_id: &str, error: db::Error) -> Result<(), db::Error> {
        if !self.failures.leave(order_id) {
            return Err(error);
        }
        tracing::error!(order_id, "left to a later run: its row in sync.order_queue accepts no settlement: {error}");
        self.failures.note(FailureKind::NotStorable.as_str(), order_id);
        let counters = &Counters { claimed: 1, failed: 1, ..Counters::default() };
        let count = |mut connection: db::Link| async move { runs::count(&mut connection, self.run_id, counters).await };
        self.store.run(count).await
    }

    /// Says in `at_rejects` whether it had come to them when it failed.
    async fn transact(&self, batch: &[Answered], sent: (u64, u64), at_rejects: &AtomicBool) -> Result<(), db::Error> {
        let settlements: Vec<&Settlement> = batch.iter().map(|answered| &*answered.settlement).collect();
        let settlements = settlements.as_slice();
        let run_id = self.run_id;
        let operation = |mut connection: db::Link| async move {
            at_rejects.store(false, Relaxed);
            // The queue first: it tells whose lease still holds, and keeps everybody else away until the commit.
            let held = queue::settle(&mut connection, settlements).await?;
            let kept = still_held(settlements, &held);
            let written = chat::upsert(&mut connection, &kept).await?;
            at_rejects.store(true, Relaxed);
            rejects::insert(&mut connection, run_id, &kept).await?;
            at_rejects.store(false, Relaxed);
            let mut counters = count(&kept);
            (counters.requests, counters.throttled) = sent;
            counters.messages_inserted = written.messages_inserted;
            counters.messages_updated = written.messages_updated;
            counters.users_written = written.users;
            runs::count(&mut connection, run_id, &counters).await?;
            Ok(kept)
        };
        let kept = self.store.run_by_key(operation).await?;
        self.rejects.note(&kept);
        self.failures.count(&kept);
        Ok(())
    }
}

impl Answered {
    /// Not believed: the order stays live and is asked for again.
    pub(super) fn hold(mut self, suspicion: Suspicion, id_space: &IdSpace) -> Self {
        self.settlement = Box::new(self.settlement.hold(&self.order, suspicion, id_space));
        self
    }

    /// Takes out of the settlement what PostgreSQL refuses, a little more each time: the bodies of its rejects, the
    /// rejects, the conversation, everything but the queue row. False if nothing is left to take out.
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
            // Somebody took the order's row out of chat.orders by hand, and left others.
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

    /// Fails the order: PostgreSQL refuses what the API said of it, which is kept for inspection.
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
