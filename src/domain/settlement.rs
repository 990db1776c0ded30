//! The policy: what the outcome of a fetch means for its order.
//!
//! [`settle`] is a pure function of what the queue knew, what the API replied and when. `sync` calls it for every
//! claimed order; `db` writes the result in one transaction. All rules about states, due times and coverage are here
//! and nowhere else.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    ClaimedOrder, Conversation, Coverage, FailureKind, Fault, HeldKind, HeldResult, IdSpace, Lease, OrderId,
    OrderState, Then, TokenKind,
};

/// An order with a held result is fetched again after these waits, then always after the last one, so that it never
/// blocks the head of the queue.
const HELD_WAITS: [Duration; 3] = [Duration::from_hours(1), Duration::from_hours(6), Duration::from_hours(24)];

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

/// The outcome of a fetch.
#[derive(Debug)]
pub enum Outcome {
    /// 200 and decoded, at least partly; with the [`reply_hash`](super::reply_hash).
    Read(Conversation, Vec<u8>),
    /// 200 and the same reply as before, byte for byte: [`ClaimedOrder::knows`].
    Same,
    /// 404 with the API's error body and code 4000.
    NotFound,
    /// 404 with the API's error body, but without code 4000.
    NotFoundUncoded(Failure),
    /// Anything else.
    Failed(Failure),
}

/// Why a fetch came to no reply about the order.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The row of the policy table.
    pub kind: FailureKind,
    /// Text for people, free of chat text, names and tokens.
    pub message: String,
    /// Whether there was an outage of the whole API: then the failure does not count.
    pub in_outage: bool,
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    /// The API's error code, if it gave one.
    pub code: Option<i64>,
    /// The reply itself, if it is kept for inspection.
    pub reject: Option<Fault>,
}

/// How the API refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// The API's error code, if it gave one.
    pub code: Option<i64>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "{}, code {code}", self.status),
            None => write!(f, "{}", self.status),
        }
    }
}

impl Failure {
    /// Returns the refusal, if it was one. A 404 says something about the order or the server; 408, 421, 425 and 429
    /// are temporary.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let status = self
            .http_status
            .filter(|status| (400..500).contains(status) && !matches!(status, 404 | 408 | 421 | 425 | 429))?;
        Some(Refusal { status, code: self.code })
    }
}

/// How an order counts in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Read, and something changed.
    Changed,
    /// Read, nothing changed.
    Unchanged,
    /// The API does not know it.
    Closed,
    /// Is fetched again later.
    Failed,
    Dead,
    /// Held back by the guard.
    Held,
}

/// An end that a wrong server, banner, id space or account would cause for **every** order. It is believed only on
/// evidence, which `sync::guard` weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Read before, and now unknown (404, code 4000).
    Vanished,
    /// Never read, and unknown (404, code 4000).
    Unknown,
    /// 404 in the API's shape, but without code 4000.
    Uncoded,
    /// Expired and empty, although the order cannot be that old.
    ExpiredEarly {
        /// The earliest time at which it can have expired.
        possible_at: DateTime<Utc>,
    },
    /// A final refusal.
    Refused,
}

impl Suspicion {
    /// Returns whether replies about other orders are evidence for or against it.
    #[must_use]
    pub const fn is_weighed(self) -> bool {
        matches!(self, Self::Vanished | Self::Unknown | Self::Refused)
    }

    /// Returns the kind of result to hold if it is not believed.
    #[must_use]
    pub const fn held_kind(self) -> HeldKind {
        match self {
            Self::Vanished | Self::Unknown => HeldKind::Closed,
            Self::Uncoded => HeldKind::NotFoundUncoded,
            Self::ExpiredEarly { .. } => HeldKind::Expired,
            Self::Refused => HeldKind::Refused,
        }
    }
}

/// A permanent loss that a settlement finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The conversation is lost: it had expired before the first good read.
    Unread,
    /// The proof of completeness is lost: the last good read was too early.
    Unproven,
}

/// The new values of an order's row in `chat.orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderChange {
    /// `open`, `closed`, `expired` or `settled`.
    pub status: OrderState,
    pub coverage: Coverage,
    /// When the API first did not know the order.
    pub closed_at: Option<DateTime<Utc>>,
}

/// Everything that one transaction writes about one order.
#[derive(Debug)]
pub struct Settlement {
    pub order_id: OrderId,
    /// The lease that the write repeats. If it is lost, nothing is written.
    pub lease: Lease,
    /// The new state in the queue.
    pub state: OrderState,
    /// Due again this long from now; zero in a terminal state, whose end it dates.
    pub due_in: Duration,
    pub failures: i32,
    /// Counted failures in a row.
    pub counted_failures: i32,
    /// Kind and text of a failure, or of what was left out of a partly decoded reply.
    pub note: Option<(&'static str, String)>,
    /// Time of sending, set by a good read: one that decoded every message and whether the conversation is expired.
    pub fetched_at: Option<DateTime<Utc>>,
    /// Set by a read that changed something.
    pub content_hash: Option<Vec<u8>>,
    /// Set when the API said `is_expired`.
    pub expired_at: Option<DateTime<Utc>>,
    /// The queue's new [`ClaimedOrder::reply_hash`].
    pub reply_hash: Option<Vec<u8>>,
    /// The queue's new [`ClaimedOrder::token_kind`]: unchanged, unless the fetch found another kind.
    pub token_kind: Option<TokenKind>,
    /// [`ClaimedOrder::is_stored`]: the rows to write are merged with stored ones.
    pub is_stored: bool,
    /// The change to `chat.orders`, if any.
    pub order: Option<OrderChange>,
    /// What to upsert into the other tables of schema `chat`, if anything.
    pub conversation: Option<Conversation>,
    /// Whether stored messages that `conversation` lacks are marked as removed.
    pub marks_removed: bool,
    /// Whether the reply has messages that are stored, by this settlement or an earlier one.
    pub has_storable_messages: bool,
    /// [`Conversation::messages_left_out`].
    pub messages_left_out: usize,
    /// When the request was sent, in the database's time.
    pub asked_at: DateTime<Utc>,
    /// When the reply came, in the database's time.
    pub answered_at: DateTime<Utc>,
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    /// Number of HTTP requests. [`settle`] does not know it; the caller sets it.
    pub requests: u32,
    /// Rows for `sync.rejects`: status, kind, and the value itself.
    pub rejects: Vec<(Option<u16>, &'static str, Fault)>,
    pub verdict: Verdict,
    /// Why the guard must weigh it, if it must.
    pub suspicion: Option<Suspicion>,
    /// The result that the guard holds back from now on.
    pub held: Option<HeldResult>,
    pub refusal: Option<Refusal>,
    /// The loss that it finds, if it was not known before.
    pub loss: Option<Loss>,
}

impl Settlement {
    /// Returns how the attempt ended, as one word for the order's history: `read`, `unchanged`, `partly_understood`,
    /// `expired`, `closed`, `held`, or the kind of the failure.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match (self.state, self.verdict, &self.note) {
            (_, Verdict::Held, _) => "held",
            (OrderState::Closed, ..) => "closed",
            (OrderState::Expired, ..) => "expired",
            (_, _, Some((kind, _))) => kind,
            (_, Verdict::Unchanged, None) => "unchanged",
            _ => "read",
        }
    }

    /// Turns it into a held result: the order stays live, no failure is counted, and it is fetched again after a
    /// while. `suspicion` is this settlement's.
    #[must_use]
    pub fn hold(self, order: &ClaimedOrder, suspicion: Suspicion, id_space: &IdSpace) -> Self {
        let kind = suspicion.held_kind();
        let before = order.held.as_ref().filter(|held| held.kind == kind);
        let times = before.map_or(0, |held| held.times).saturating_add(1);
        let since = order.first_seen(|held| held == kind, self.answered_at);
        let turn = usize::try_from(times - 1).unwrap_or(0).min(HELD_WAITS.len() - 1);
        let due_in = match suspicion {
            Suspicion::ExpiredEarly { possible_at } => {
                HELD_WAITS[turn].min((possible_at - self.answered_at).to_std().unwrap_or_default())
            }
            _ => HELD_WAITS[turn],
        };
        Self {
            state: order.live_state(),
            due_in,
            failures: order.failures,
            counted_failures: order.counted_failures,
            note: Some(("held", held_note(kind).to_owned())),
            fetched_at: None,
            content_hash: None,
            expired_at: None,
            reply_hash: order.reply_hash.clone(),
            order: None,
            conversation: None,
            marks_removed: false,
            // Keep the reject only once.
            rejects: if times == 1 { self.rejects } else { Vec::new() },
            verdict: Verdict::Held,
            // Nothing is lost yet: the conversation may still be there.
            loss: None,
            held: Some(HeldResult { kind, since, times, id_space: id_space.to_string() }),
            ..self
        }
    }

    /// Returns whether the reply has messages, storable or not.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.has_storable_messages || self.messages_left_out > 0
    }

    /// Returns the time from the request to its reply, including the wait for its turn.
    #[must_use]
    pub fn latency(&self) -> chrono::TimeDelta {
        self.answered_at - self.asked_at
    }
}

impl Outcome {
    fn http_status(&self) -> Option<u16> {
        match self {
            Self::Read(..) | Self::Same => Some(200),
            Self::NotFound => Some(404),
            Self::NotFoundUncoded(failure) | Self::Failed(failure) => failure.http_status,
        }
    }
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
    let blank = Settlement {
        order_id: order.order_id.clone(),
        lease: order.lease,
        state: OrderState::Open,
        due_in: policy.refresh_after,
        failures: 0,
        counted_failures: 0,
        note: None,
        fetched_at: None,
        content_hash: None,
        expired_at: None,
        reply_hash: order.reply_hash.clone(),
        token_kind: order.token_kind,
        is_stored: order.is_stored,
        order: None,
        conversation: None,
        marks_removed: false,
        has_storable_messages: false,
        messages_left_out: 0,
        asked_at,
        answered_at,
        http_status: outcome.http_status(),
        requests: 0,
        rejects: Vec::new(),
        verdict: Verdict::Unchanged,
        suspicion: None,
        held: None,
        refusal: None,
        loss: None,
    };
    let blank = match &outcome {
        Outcome::Read(conversation, _) => Settlement {
            has_storable_messages: !conversation.messages.is_empty(),
            messages_left_out: conversation.messages_left_out(),
            ..blank
        },
        _ => blank,
    };
    let settled = match outcome {
        Outcome::Read(conversation, _) if conversation.is_expired == Some(true) => {
            expire(blank, order, conversation, policy)
        }
        Outcome::Read(conversation, reply_hash) => read(blank, order, conversation, reply_hash, policy),
        Outcome::Same => Settlement { fetched_at: Some(asked_at), has_storable_messages: order.has_messages, ..blank },
        Outcome::NotFound => {
            let suspicion = if order.was_read() { Suspicion::Vanished } else { Suspicion::Unknown };
            // Closed before and still closed: the guard has nothing to doubt.
            let suspicion = (!order.was_closed).then_some(suspicion);
            Settlement { suspicion, ..close(blank, order, policy) }
        }
        Outcome::NotFoundUncoded(failure) => {
            let kind = failure.kind.as_str();
            let rejects = failure.reject.map(|fault| (failure.http_status, kind, fault)).into_iter().collect();
            Settlement { suspicion: Some(Suspicion::Uncoded), rejects, ..close(blank, order, policy) }
        }
        Outcome::Failed(failure) => fail(blank, order, failure, policy, jitter),
    };
    Settlement { loss: loss(order, &settled), ..settled }
}

/// Returns the loss. A loss counts once: a stored one was counted by the run that found it.
fn loss(order: &ClaimedOrder, settled: &Settlement) -> Option<Loss> {
    match settled.order.as_ref()?.coverage {
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

fn read(
    blank: Settlement,
    order: &ClaimedOrder,
    mut conversation: Conversation,
    reply_hash: Vec<u8>,
    policy: &QueuePolicy,
) -> Settlement {
    let asked_at = blank.asked_at;
    let is_whole = blank.messages_left_out == 0;
    // The older API empties an expired conversation without saying so. Such a reply is no good read, and changes
    // nothing unless a value in it could not be read.
    let is_empty = !blank.has_messages();
    let may_be_emptied = order.has_messages && is_empty;
    let is_emptied = may_be_emptied && conversation.faults.is_empty();
    let hash = conversation.content_hash();
    let is_changed = !is_emptied && order.content_hash.as_ref() != Some(&hash);
    // Without a change although it was never read, it was emptied before it was fed again.
    let changed_at = order.last_changed_at.unwrap_or(order.enqueued_at);
    let is_quiet =
        !is_changed && conversation.is_expired.is_none() && asked_at - changed_at >= time_delta(policy.quiet_after);
    let (state, due_in) = if is_quiet { (OrderState::Quiet, Duration::ZERO) } else { (OrderState::Open, blank.due_in) };
    // Only a reply with content ends a proof.
    let says_nothing = may_be_emptied || (is_empty && conversation.is_expired.is_none());
    let coverage = if says_nothing && order.coverage.is_complete() { order.coverage } else { Coverage::CapturedOpen };
    // The same reply again would change nothing. A reply that is silent about expiry may still settle the order.
    let is_final = !is_emptied && conversation.faults.is_empty() && conversation.is_expired.is_some();
    let settled = Settlement {
        state,
        due_in,
        reply_hash: is_final.then_some(reply_hash),
        // If a message was left out, or if it may say that it is expired, this read proves nothing about completeness.
        fetched_at: (!may_be_emptied && is_whole && !conversation.hides_expiry()).then_some(asked_at),
        // An order that was put back is open, whatever it was before, even if it only gets an emptied reply.
        order: (is_changed || is_quiet || order.content_hash.is_none()).then_some(OrderChange {
            status: state,
            coverage,
            closed_at: None,
        }),
        note: note_on_faults(&conversation.faults),
        ..blank
    };
    if !is_changed {
        return settled;
    }
    Settlement {
        content_hash: Some(hash),
        // A message that was left out may be one of those that seem to be missing.
        marks_removed: order.has_messages
            && !conversation.messages.is_empty()
            && is_whole
            && !conversation.hides_expiry(),
        rejects: rejected_parts(&mut conversation),
        conversation: Some(conversation),
        verdict: Verdict::Changed,
        ..settled
    }
}

fn expire(blank: Settlement, order: &ClaimedOrder, mut conversation: Conversation, policy: &QueuePolicy) -> Settlement {
    let first_seen = order.first_seen(|kind| kind == HeldKind::Expired, blank.answered_at);
    let expired_at = order.expired_at.unwrap_or(first_seen);
    let brings_messages = blank.has_messages();
    let coverage = match order.last_fetched_at {
        // An earlier read found nothing, but there are messages: it proved nothing.
        _ if brings_messages && !order.has_messages => Coverage::ExpiredPartial,
        _ if order.coverage.is_complete() => order.coverage,
        None if order.has_messages => Coverage::ExpiredPartial,
        None => known_loss(order).unwrap_or(Coverage::ExpiredUnread),
        Some(read) => coverage_after_the_end(order, read, Some(expired_at), policy),
    };
    // After a full reply the empty one adds nothing; before any, its metadata is all there will ever be.
    let is_worth_writing = brings_messages || !order.has_messages;
    Settlement {
        state: OrderState::Expired,
        due_in: Duration::ZERO,
        expired_at: Some(expired_at),
        order: Some(OrderChange { status: OrderState::Expired, coverage, closed_at: None }),
        note: note_on_faults(&conversation.faults),
        rejects: rejected_parts(&mut conversation),
        conversation: is_worth_writing.then_some(conversation),
        verdict: Verdict::Changed,
        suspicion: expiry_possible_at(order, policy)
            .filter(|possible_at| !brings_messages && blank.answered_at < *possible_at)
            .map(|possible_at| Suspicion::ExpiredEarly { possible_at }),
        ..blank
    }
}

/// Returns the earliest possible expiry: `readable_window` after completion. Without a completion time, the order was
/// completed after its last message, which was written before the read that returned it, whatever its own time says.
/// Without either, any expiry is possible: an order can be enqueued at any age.
fn expiry_possible_at(order: &ClaimedOrder, policy: &QueuePolicy) -> Option<DateTime<Utc>> {
    let written_at = order.last_message_at.map(|at| order.last_changed_at.map_or(at, |read| at.min(read)));
    order.completed_at.or(written_at)?.checked_add_signed(time_delta(policy.readable_window))
}

fn close(blank: Settlement, order: &ClaimedOrder, policy: &QueuePolicy) -> Settlement {
    let coverage = match order.last_fetched_at {
        _ if order.coverage.is_complete() => order.coverage,
        None if order.has_messages => Coverage::ExpiredPartial,
        None => known_loss(order).unwrap_or(Coverage::NotFound),
        Some(read) => coverage_after_the_end(order, read, order.expired_at, policy),
    };
    let closed_at = order.first_seen(HeldKind::is_closure, blank.answered_at);
    Settlement {
        state: OrderState::Closed,
        due_in: Duration::ZERO,
        order: Some(OrderChange { status: OrderState::Closed, coverage, closed_at: Some(closed_at) }),
        verdict: Verdict::Closed,
        ..blank
    }
}

fn fail(blank: Settlement, order: &ClaimedOrder, failure: Failure, policy: &QueuePolicy, jitter: f64) -> Settlement {
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
    let (kind, refusal) = (failure.kind.as_str(), failure.refusal());
    let rejects = failure.reject.map(|fault| (failure.http_status, kind, fault)).into_iter().collect();
    let failed =
        Settlement { failures, counted_failures, note: Some((kind, failure.message)), rejects, refusal, ..blank };
    if is_dead {
        // A proof stays valid.
        let coverage = match (order.last_fetched_at, order.expired_at) {
            _ if order.coverage.is_complete() => order.coverage,
            (Some(read), Some(expired)) => coverage_after_the_end(order, read, Some(expired), policy),
            _ => Coverage::Failed,
        };
        let order = OrderChange { status: OrderState::Open, coverage, closed_at: None };
        return Settlement {
            state: OrderState::Dead,
            due_in: Duration::ZERO,
            order: Some(order),
            verdict: Verdict::Dead,
            suspicion: (then == Then::Dead).then_some(Suspicion::Refused),
            ..failed
        };
    }
    Settlement {
        state: order.live_state(),
        due_in: backoff(policy, failures, jitter),
        verdict: Verdict::Failed,
        // A failure says nothing about a held result.
        held: order.held.clone(),
        ..failed
    }
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
fn backoff(policy: &QueuePolicy, failures: i32, jitter: f64) -> Duration {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(30);
    let wait = policy.retry_backoff.saturating_mul(1 << doublings).min(policy.retry_backoff_max);
    wait.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0).min(policy.retry_backoff_max)
}

const fn held_note(kind: HeldKind) -> &'static str {
    match kind {
        HeldKind::Closed => "the API does not know the order (404, code 4000); not believed yet",
        HeldKind::NotFoundUncoded => "404 in the API's format but without code 4000; not believed yet",
        HeldKind::Expired => {
            "expired and empty sooner than possible, which is completed_at, or the last message, plus queue.readable_window"
        }
        HeldKind::Refused => "refused for good like too many other orders; not believed yet",
    }
}

fn note_on_faults(faults: &[Fault]) -> Option<(&'static str, String)> {
    let first = faults.first()?;
    Some((
        "partly_understood",
        format!("{} value(s) of the reply left out, see sync.rejects; first: {first}", faults.len()),
    ))
}

/// Takes the faults. They are moved, not copied: they may be as large as the reply.
fn rejected_parts(conversation: &mut Conversation) -> Vec<(Option<u16>, &'static str, Fault)> {
    std::mem::take(&mut conversation.faults).into_iter().map(|fault| (Some(200), "partly_understood", fault)).collect()
}

fn time_delta(duration: Duration) -> chrono::TimeDelta {
    // More than 290 million years means never.
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

#[cfg(test)]
mod tests;
