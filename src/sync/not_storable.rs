//! Writes a batch although PostgreSQL may refuse some of its rows.
//!
//! A refused batch is split until the refused order is found. That order fails, its reply goes to `sync.rejects` as far
//! as possible, and all others are written.

use super::answered::Answered;
use super::run::RunContext;
use crate::db::runs::Counters;
use crate::db::settle::NotWritten;
use crate::db::{self, runs, settle};
use crate::domain::{self, Attempt, Failure, FailureKind, Fault, Note, NoteKind, Outcome, QueuePolicy, Settlement};

const NOT_STORABLE: &str = "the database refuses its rows, and the text of the refusal";

/// Writes a batch. Writes nothing for orders whose lease was lost.
pub(super) async fn write(run: &RunContext, mut batch: Vec<Answered>) -> Result<(), db::Error> {
    // By key, so that concurrent workers lock rows in the same order.
    batch.sort_unstable_by(|one, other| one.order.order_id.cmp(&other.order.order_id));
    let mut pieces = vec![batch];
    while let Some(mut piece) = pieces.pop() {
        let settlements: Vec<&Settlement> = piece.iter().map(|answered| &*answered.settlement).collect();
        let refusal = match settle::write(&run.store, run.id, &settlements, run.sent()).await {
            Ok(kept) => {
                run.rejects.note(&kept);
                run.failures.count(&kept);
                continue;
            }
            Err(refusal) if refusal.error.is_about_the_rows() => refusal,
            Err(NotWritten { error, .. }) => return Err(error),
        };
        if piece.len() > 1 {
            pieces.push(piece.split_off(piece.len() / 2));
            pieces.push(piece);
        } else if piece[0].give_way(&refusal, &run.policy) {
            pieces.push(piece);
        } else {
            leave(run, piece[0].order.order_id.as_str(), refusal.error).await?;
        }
    }
    Ok(())
}

/// Leaves an order leased whose queue row accepts no settlement, and counts it as failed. Fails if there are many.
async fn leave(run: &RunContext, order_id: &str, error: db::Error) -> Result<(), db::Error> {
    if !run.failures.leave(order_id) {
        return Err(error);
    }
    tracing::error!(order_id, %error, "left to a later run: its row in sync.order_queue accepts no settlement");
    run.failures.note(FailureKind::NotStorable.as_str(), order_id);
    runs::count(&run.store, run.id, &Counters { claimed: 1, failed: 1, ..Counters::default() }).await
}

impl Answered {
    /// Removes from the settlement what PostgreSQL may refuse, a little more each time: the bodies of its rejects, the
    /// rejects, the conversation, everything but the queue row. Returns false if nothing is left to remove.
    fn give_way(&mut self, refusal: &NotWritten, policy: &QueuePolicy) -> bool {
        let (settlement, order_id, error) = (&mut self.settlement, &self.order.order_id, &refusal.error);
        let is_put_aside = |note: &&Note| note.kind == NoteKind::Failure(FailureKind::NotStorable);
        let put_aside = settlement.attempt.note.as_ref().filter(is_put_aside);
        if refusal.is_of_rejects && settlement.rejects.iter().any(|reject| !reject.fault.body().is_empty()) {
            tracing::warn!(%order_id, %error, "its reject is kept without the body");
            settlement.rejects.iter_mut().for_each(|reject| reject.fault.drop_body());
        } else if refusal.is_of_rejects && !settlement.rejects.is_empty() {
            tracing::warn!(%order_id, %error, "sync.rejects takes no row of it");
            settlement.rejects.clear();
        } else if error.is_duplicate() && !settlement.chat.is_stored {
            // The row in chat.orders was deleted by hand while rows in other tables were left.
            settlement.chat.is_stored = true;
        } else if let Some(note) = put_aside {
            if settlement.chat.order.is_none() && note.text == NOT_STORABLE {
                return false;
            }
            settlement.chat.order = None;
            settlement.rejects.clear();
            let kind = NoteKind::Failure(FailureKind::NotStorable);
            settlement.attempt.note = Some(Note { kind, text: NOT_STORABLE.to_owned() });
        } else {
            self.put_aside(error, policy);
        }
        true
    }

    /// Fails the order, and keeps the refused reply for inspection.
    fn put_aside(&mut self, refusal: &db::Error, policy: &QueuePolicy) {
        let conversation = self.settlement.chat.conversation.take();
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
        let Attempt { asked_at, answered_at, requests, .. } = self.settlement.attempt;
        let token_kind = self.settlement.queue.token_kind;
        let outcome = Outcome::Failed(failure);
        let mut settlement = domain::settle(&self.order, outcome, asked_at, answered_at, policy, fastrand::f64());
        rejects.append(&mut settlement.rejects);
        (settlement.rejects, settlement.attempt.requests) = (rejects, requests);
        settlement.queue.token_kind = token_kind;
        *self.settlement = settlement;
    }
}
