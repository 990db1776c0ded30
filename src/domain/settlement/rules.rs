//! The rules of settling.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::change::{
    Attempt, ChatChange, Loss, Note, NoteKind, OrderChange, QueueChange, Reject, Settlement, Suspicion, Verdict,
};
use crate::domain::{
    ClaimedOrder, Conversation, Coverage, Failure, FailureKind, Fault, HeldKind, OrderState, Outcome, Then, backoff,
};

/// The settings of section `queue` for settling.
#[derive(Debug, Clone)]
pub struct QueuePolicy {
    /// An order with this many counted failures in a row is dead.
    pub max_failures: i32,
    /// Wait after the first failure; doubles with each further failure.
    pub retry_backoff: Duration,
    /// The longest wait after a failure.
    pub retry_backoff_max: Duration,
    /// An open order is due again this long after a good read.
    pub refresh_after: Duration,
    /// How long the API keeps a conversation readable after the order is completed.
    pub readable_window: Duration,
    /// An order without changes for this long, whose API never reports expiry, is quiet.
    pub quiet_after: Duration,
}

/// Turns the outcome of a fetch into the new state of its order.
///
/// `asked_at` and `answered_at` are times of the database's clock. Both matter for the proof of completeness: a
/// conversation is as old as its request, an expiry as young as its reply. `jitter` between 0 and 1 spreads retries.
#[must_use]
pub fn settle(
    order: &ClaimedOrder,
    outcome: Outcome,
    asked_at: DateTime<Utc>,
    answered_at: DateTime<Utc>,
    policy: &QueuePolicy,
    jitter: f64,
) -> Settlement {
    let attempt = Attempt { asked_at, answered_at, http_status: outcome.http_status(), requests: 0, note: None };
    let mut settled = unchanged(order, attempt, policy);
    match outcome {
        Outcome::Read(conversation, reply_hash) => {
            settled.chat.has_storable_messages = !conversation.messages.is_empty();
            settled.chat.messages_left_out = conversation.messages_left_out();
            if conversation.is_expired == Some(true) {
                settled.expire(order, conversation, policy);
            } else {
                settled.read(order, conversation, reply_hash, policy);
            }
        }
        Outcome::Same => {
            settled.queue.fetched_at = Some(asked_at);
            settled.chat.has_storable_messages = order.has_messages;
        }
        Outcome::NotFound => {
            settled.close(order, policy);
            let suspicion = if order.was_read() { Suspicion::Vanished } else { Suspicion::Unknown };
            // Closed before and still closed: the guard has nothing to doubt.
            settled.suspicion = (!order.was_closed).then_some(suspicion);
        }
        Outcome::NotFoundUncoded(failure) => {
            settled.close(order, policy);
            settled.suspicion = Some(Suspicion::Uncoded);
            settled.rejects = rejected_reply(failure.kind, failure.http_status, failure.reject);
        }
        Outcome::Failed(failure) => settled.fail(order, failure, policy, jitter),
    }
    settled.loss = loss(order, &settled);
    settled
}

/// A good read that changed nothing.
fn unchanged(order: &ClaimedOrder, attempt: Attempt, policy: &QueuePolicy) -> Settlement {
    Settlement {
        order_id: order.order_id.clone(),
        queue: QueueChange {
            lease: order.lease,
            state: OrderState::Open,
            due_in: policy.refresh_after,
            failures: 0,
            counted_failures: 0,
            fetched_at: None,
            content_hash: None,
            expired_at: None,
            reply_hash: order.reply_hash.clone(),
            token_kind: order.token_kind,
            held: None,
        },
        chat: ChatChange {
            is_stored: order.is_stored,
            order: None,
            conversation: None,
            marks_removed: false,
            has_storable_messages: false,
            messages_left_out: 0,
        },
        attempt,
        rejects: Vec::new(),
        verdict: Verdict::Unchanged,
        suspicion: None,
        refusal: None,
        loss: None,
    }
}

/// Returns the loss. A loss counts once: a stored one was counted by the run that found it.
fn loss(order: &ClaimedOrder, settled: &Settlement) -> Option<Loss> {
    match settled.chat.order.as_ref()?.coverage {
        coverage if coverage == order.coverage => None,
        Coverage::ExpiredUnread => Some(Loss::Unread),
        Coverage::ExpiredPartial => Some(Loss::Unproven),
        _ => None,
    }
}

/// Settles an order by its held result because an operator confirms it. Returns `None` if nothing is held.
#[must_use]
pub fn confirm(order: &ClaimedOrder, now: DateTime<Utc>, policy: &QueuePolicy) -> Option<Settlement> {
    let outcome = match order.held.as_ref()?.kind {
        HeldKind::Closed | HeldKind::NotFoundUncoded => Outcome::NotFound,
        HeldKind::Expired => {
            Outcome::Read(Conversation { is_expired: Some(true), ..Conversation::default() }, Vec::new())
        }
        HeldKind::Refused => Outcome::Failed(Failure {
            kind: FailureKind::Refused,
            message: "refused for good, and confirmed by an operator".to_owned(),
            in_outage: false,
            http_status: None,
            code: None,
            reject: None,
        }),
    };
    Some(settle(order, outcome, now, now, policy, 0.5))
}

impl Settlement {
    fn read(
        &mut self,
        order: &ClaimedOrder,
        mut conversation: Conversation,
        reply_hash: Vec<u8>,
        policy: &QueuePolicy,
    ) {
        let asked_at = self.attempt.asked_at;
        let is_whole = self.chat.messages_left_out == 0;
        // The older API empties an expired conversation without saying so. Such a reply is no good read, and changes
        // nothing unless a value in it could not be read.
        let is_empty = !self.chat.has_messages();
        let may_be_emptied = order.has_messages && is_empty;
        let is_emptied = may_be_emptied && conversation.faults.is_empty();
        let hash = conversation.content_hash();
        let is_changed = !is_emptied && order.content_hash.as_ref() != Some(&hash);
        // Without a change although it was never read, it was emptied before it was fed again.
        let changed_at = order.last_changed_at.unwrap_or(order.enqueued_at);
        let is_quiet =
            !is_changed && conversation.is_expired.is_none() && asked_at - changed_at >= time_delta(policy.quiet_after);
        if is_quiet {
            (self.queue.state, self.queue.due_in) = (OrderState::Quiet, Duration::ZERO);
        }
        // Only a reply with content ends a proof.
        let says_nothing = may_be_emptied || (is_empty && conversation.is_expired.is_none());
        let coverage =
            if says_nothing && order.coverage.is_complete() { order.coverage } else { Coverage::CapturedOpen };
        // The same reply again would change nothing. A reply that is silent about expiry may still settle the order.
        let is_final = !is_emptied && conversation.faults.is_empty() && conversation.is_expired.is_some();
        self.queue.reply_hash = is_final.then_some(reply_hash);
        // If a message was left out, or if it may say that it is expired, this read proves nothing about completeness.
        self.queue.fetched_at = (!may_be_emptied && is_whole && !conversation.hides_expiry()).then_some(asked_at);
        // An order that was put back is open, whatever it was before, even if it only gets an emptied reply.
        self.chat.order = (is_changed || is_quiet || order.content_hash.is_none()).then_some(OrderChange {
            status: self.queue.state,
            coverage,
            closed_at: None,
        });
        self.attempt.note = note_on_faults(&conversation.faults);
        if is_changed {
            self.queue.content_hash = Some(hash);
            // A message that was left out may be one of those that seem to be missing.
            self.chat.marks_removed =
                order.has_messages && !conversation.messages.is_empty() && is_whole && !conversation.hides_expiry();
            self.rejects = rejected_parts(&mut conversation);
            self.chat.conversation = Some(conversation);
            self.verdict = Verdict::Changed;
        }
    }

    fn expire(&mut self, order: &ClaimedOrder, mut conversation: Conversation, policy: &QueuePolicy) {
        let answered_at = self.attempt.answered_at;
        let first_seen = order.first_seen(|kind| kind == HeldKind::Expired, answered_at);
        let expired_at = order.expired_at.unwrap_or(first_seen);
        let brings_messages = self.chat.has_messages();
        let coverage = match order.last_fetched_at {
            // An earlier read found nothing, but there are messages: it proved nothing.
            _ if brings_messages && !order.has_messages => Coverage::ExpiredPartial,
            _ if order.coverage.is_complete() => order.coverage,
            None if order.has_messages => Coverage::ExpiredPartial,
            None => known_loss(order).unwrap_or(Coverage::ExpiredUnread),
            Some(read) => coverage_after_the_end(order, read, Some(expired_at), policy),
        };
        self.end(OrderState::Expired, coverage, None);
        self.queue.expired_at = Some(expired_at);
        self.attempt.note = note_on_faults(&conversation.faults);
        self.rejects = rejected_parts(&mut conversation);
        // After a full reply the empty one adds nothing; before any, its metadata is all there will ever be.
        let is_worth_writing = brings_messages || !order.has_messages;
        self.chat.conversation = is_worth_writing.then_some(conversation);
        self.verdict = Verdict::Changed;
        self.suspicion = expiry_possible_at(order, policy)
            .filter(|possible_at| !brings_messages && answered_at < *possible_at)
            .map(|possible_at| Suspicion::ExpiredEarly { possible_at });
    }

    fn close(&mut self, order: &ClaimedOrder, policy: &QueuePolicy) {
        let coverage = match order.last_fetched_at {
            _ if order.coverage.is_complete() => order.coverage,
            None if order.has_messages => Coverage::ExpiredPartial,
            None => known_loss(order).unwrap_or(Coverage::NotFound),
            Some(read) => coverage_after_the_end(order, read, order.expired_at, policy),
        };
        let closed_at = order.first_seen(HeldKind::is_closure, self.attempt.answered_at);
        self.end(OrderState::Closed, coverage, Some(closed_at));
        self.verdict = Verdict::Closed;
    }

    /// Ends the order: it is not fetched any more.
    fn end(&mut self, state: OrderState, coverage: Coverage, closed_at: Option<DateTime<Utc>>) {
        (self.queue.state, self.queue.due_in) = (state, Duration::ZERO);
        self.chat.order = Some(OrderChange { status: state, coverage, closed_at });
    }

    fn fail(&mut self, order: &ClaimedOrder, failure: Failure, policy: &QueuePolicy, jitter: f64) {
        let then = match failure.kind.policy().then {
            Then::LaterCounted if failure.in_outage => Then::Later,
            then => then,
        };
        let failures = order.failures.saturating_add(1);
        let counted_failures = order.counted_failures.saturating_add(i32::from(then != Then::Later));
        let is_dead = match then {
            Then::Dead => true,
            Then::LaterCounted => counted_failures >= policy.max_failures,
            Then::Later => false,
        };
        (self.queue.failures, self.queue.counted_failures) = (failures, counted_failures);
        self.refusal = failure.refusal();
        self.rejects = rejected_reply(failure.kind, failure.http_status, failure.reject);
        self.attempt.note = Some(Note { kind: NoteKind::Failure(failure.kind), text: failure.message });
        if is_dead {
            // A proof stays valid.
            let coverage = match (order.last_fetched_at, order.expired_at) {
                _ if order.coverage.is_complete() => order.coverage,
                (Some(read), Some(expired)) => coverage_after_the_end(order, read, Some(expired), policy),
                _ => Coverage::Failed,
            };
            (self.queue.state, self.queue.due_in) = (OrderState::Dead, Duration::ZERO);
            self.chat.order = Some(OrderChange { status: OrderState::Open, coverage, closed_at: None });
            self.verdict = Verdict::Dead;
            self.suspicion = (then == Then::Dead).then_some(Suspicion::Refused);
        } else {
            self.queue.state = order.live_state();
            self.queue.due_in = retry_wait(policy, failures, jitter);
            self.verdict = Verdict::Failed;
            // A failure says nothing about a held result.
            self.queue.held.clone_from(&order.held);
        }
    }
}

/// Returns the earliest possible expiry: `readable_window` after completion. Without a completion time, the order was
/// completed after its last message, which was written before the read that returned it, whatever its own time says.
/// Without either, any expiry is possible: an order can be enqueued at any age.
fn expiry_possible_at(order: &ClaimedOrder, policy: &QueuePolicy) -> Option<DateTime<Utc>> {
    let written_at = order.last_message_at.map(|at| order.last_changed_at.map_or(at, |read| at.min(read)));
    order.completed_at.or(written_at)?.checked_add_signed(time_delta(policy.readable_window))
}

/// Returns the loss of an order without a good read in the queue: it had another reply, or it was in the queue before
/// and its loss is stored.
fn known_loss(order: &ClaimedOrder) -> Option<Coverage> {
    match order.coverage {
        _ if order.last_changed_at.is_some() => Some(Coverage::ExpiredUnread),
        Coverage::CapturedOpen | Coverage::ExpiredPartial => Some(Coverage::ExpiredPartial),
        Coverage::ExpiredUnread => Some(Coverage::ExpiredUnread),
        _ => None,
    }
}

/// Returns what is proven once no further read is possible, given the last good read.
///
/// A conversation is readable for `readable_window` after the order's completion. If it is first seen expired at T,
/// the order was completed before T − window, so a read at or after that moment saw everything.
fn coverage_after_the_end(
    order: &ClaimedOrder,
    read: DateTime<Utc>,
    expired_at: Option<DateTime<Utc>>,
    policy: &QueuePolicy,
) -> Coverage {
    let is_proven = expired_at.is_some_and(|expired| expired - read <= time_delta(policy.readable_window));
    match (is_proven, order.has_messages) {
        (true, true) => Coverage::Captured,
        (true, false) => Coverage::NoChat,
        (false, _) => Coverage::ExpiredPartial,
    }
}

/// Returns an exponential wait, spread by up to a quarter to either side, so that failures of one moment do not come
/// back at once.
pub(super) fn retry_wait(policy: &QueuePolicy, failures: i32, jitter: f64) -> Duration {
    let wait = backoff(policy.retry_backoff, u32::try_from(failures).unwrap_or(0), policy.retry_backoff_max);
    wait.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0).min(policy.retry_backoff_max)
}

fn note_on_faults(faults: &[Fault]) -> Option<Note> {
    let first = faults.first()?;
    let text = format!("{} value(s) of the reply left out, see sync.rejects; first: {first}", faults.len());
    Some(Note { kind: NoteKind::PartlyUnderstood, text })
}

/// Takes the faults. They are moved, not copied: they may be as large as the reply.
fn rejected_parts(conversation: &mut Conversation) -> Vec<Reject> {
    let faults = std::mem::take(&mut conversation.faults).into_iter();
    faults.map(|fault| Reject { http_status: Some(200), kind: NoteKind::PartlyUnderstood, fault }).collect()
}

fn rejected_reply(kind: FailureKind, http_status: Option<u16>, reply: Option<Fault>) -> Vec<Reject> {
    reply.map(|fault| Reject { http_status, kind: NoteKind::Failure(kind), fault }).into_iter().collect()
}

fn time_delta(duration: Duration) -> chrono::TimeDelta {
    // More than 290 million years means never.
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}
