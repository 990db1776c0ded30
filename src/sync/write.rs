//! One transaction per batch: conversations, rejects, counters, and the queue rows that they settle.
//!
//! A batch that PostgreSQL refuses is split until the order is found whose rows it refuses; that one fails, with what
//! the API said of it put aside in `sync.rejects`, and all others are written.

use std::collections::HashSet;

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
            match self.transact(&part, sent).await {
                Ok(()) => {}
                Err(error) if error.is_about_the_rows() && part.len() > 1 => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Err(error) if error.is_duplicate() && !part[0].settlement.is_stored => {
                    // Somebody took the order's row out of chat.orders by hand, and left others.
                    part[0].settlement.is_stored = true;
                    parts.push(part);
                }
                Err(error) if error.is_about_the_rows() && !part[0].is_put_aside() => {
                    part[0].put_aside(&error, self.policy);
                    parts.push(part);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn transact(&self, batch: &[Answered], sent: (u64, u64)) -> Result<(), db::Error> {
        let settlements: Vec<&Settlement> = batch.iter().map(|answered| &*answered.settlement).collect();
        let settlements = settlements.as_slice();
        let run_id = self.run_id;
        let operation = |mut connection: db::Link| async move {
            // The queue first: it tells whose lease still holds, and keeps everybody else away until the commit.
            let held = queue::settle(&mut connection, settlements).await?;
            let kept = still_held(settlements, &held);
            let written = chat::upsert(&mut connection, &kept).await?;
            rejects::insert(&mut connection, run_id, &kept).await?;
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

    fn is_put_aside(&self) -> bool {
        self.settlement.note.as_ref().is_some_and(|(kind, _)| *kind == FailureKind::NotStorable.as_str())
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
