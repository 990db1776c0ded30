//! The policy: what the outcome of a fetch means for its order.
//!
//! [`settle`] is a pure function of what the queue knew, what the API said and when. `sync` calls it for every
//! claimed order; `db` writes the result in one transaction. All rules about states, due times and coverage stand
//! here and nowhere else.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    ClaimedOrder, Conversation, Coverage, FailureKind, Fault, HeldKind, HeldResult, IdSpace, Lease, OrderId,
    OrderState, Then, TokenKind,
};

/// A held result is asked for again after these waits, then always after the last: it never blocks the head of the
/// queue.
const HELD_WAITS: [Duration; 3] = [Duration::from_hours(1), Duration::from_hours(6), Duration::from_hours(24)];

/// The settings of section `queue` that the policy needs.
#[derive(Debug, Clone)]
pub struct QueuePolicy {
    /// An order that failed this many times in a row is dead.
    pub max_failures: i32,
    /// Wait after the first failure; doubles with each further one.
    pub retry_backoff: Duration,
    /// The longest wait after a failure.
    pub retry_backoff_max: Duration,
    /// An open order is due again this long after a good read.
    pub refresh_after: Duration,
    /// How long the API keeps a conversation readable after the order is completed.
    pub readable_window: Duration,
    /// Quiet for this long without any word of `is_expired`: settled.
    pub quiet_after: Duration,
}

/// What came of asking the API for one order.
#[derive(Debug)]
pub enum Outcome {
    /// 200 and understood, at least in part; with the [`reply_hash`](super::reply_hash).
    Read(Conversation, Vec<u8>),
    /// 200 and the same reply as before, byte for byte: [`ClaimedOrder::knows`].
    Same,
    /// 404 with the API's own error body, code 4000 in it.
    NotFound,
    /// 404 with the API's own error body, but without code 4000.
    NotFoundUncoded(Failure),
    /// Anything else.
    Failed(Failure),
}

/// Why no answer about the order was had.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The row of the policy table.
    pub kind: FailureKind,
    /// For people; free of chat text, names and tokens.
    pub message: String,
    /// Whether the API was out of order as a whole: then it does not count.
    pub in_outage: bool,
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    /// The API's error code, if it gave one.
    pub code: Option<i64>,
    /// The reply itself, if it is worth keeping for inspection.
    pub reject: Option<Fault>,
}

/// The way in which the API refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
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
    /// The refusal that it was. 404 says something about the order or the server; 408, 421, 425 and 429 pass.
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
    /// Answered, and something is new.
    Changed,
    /// Answered, nothing new.
    Unchanged,
    /// The API does not know it.
    Closed,
    /// Will be tried again later.
    Failed,
    /// Given up.
    Dead,
    /// Not believed yet.
    Held,
}

/// An end that a wrong server, banner, id space or account would bring upon **every** order. It is believed only on
/// evidence: `sync::guard` weighs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Read before, and now unknown (404, code 4000).
    Vanished,
    /// Never read, and unknown (404, code 4000).
    Unknown,
    /// 404 in the API's shape, but without code 4000.
    Uncoded,
    /// Expired and empty, although the order cannot be that old by what is known of it.
    ExpiredEarly {
        /// From when on it can have expired.
        possible_at: DateTime<Utc>,
    },
    /// Refused for good.
    Refused,
}

impl Suspicion {
    /// Whether what the API says of other orders can speak for it or against it.
    #[must_use]
    pub const fn is_weighed(self) -> bool {
        matches!(self, Self::Vanished | Self::Unknown | Self::Refused)
    }

    /// What is held back if it is not believed.
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

/// What a settlement finds lost for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The conversation: it had expired before the first good read.
    Unread,
    /// The proof that it is complete: the last good read was too early.
    Unproven,
}

/// The new face of an order in `chat.orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderChange {
    /// `open`, `closed`, `expired` or `settled`.
    pub status: OrderState,
    /// What is proven about completeness.
    pub coverage: Coverage,
    /// When the API was seen not to know the order.
    pub closed_at: Option<DateTime<Utc>>,
}

/// Everything that one transaction writes about one order.
#[derive(Debug)]
pub struct Settlement {
    /// The order.
    pub order_id: OrderId,
    /// Repeated by the write: without it nothing is written.
    pub lease: Lease,
    /// Its new state in the queue.
    pub state: OrderState,
    /// Due again this long from now; zero in a terminal state, which it thereby dates.
    pub due_in: Duration,
    /// Consecutive failures.
    pub failures: i32,
    /// Those that were no outage.
    pub counted_failures: i32,
    /// Kind and text of what went wrong, or of what was left out of a reply understood in part.
    pub note: Option<(&'static str, String)>,
    /// Set by a good read, one that understood every message and whether the conversation had expired: when the request
    /// was sent.
    pub fetched_at: Option<DateTime<Utc>>,
    /// Set by a read that brought something new.
    pub content_hash: Option<Vec<u8>>,
    /// Set when the API said `is_expired`.
    pub expired_at: Option<DateTime<Utc>>,
    /// The queue's new [`ClaimedOrder::reply_hash`].
    pub reply_hash: Option<Vec<u8>>,
    /// The queue's new [`ClaimedOrder::token_kind`]: as it was, unless whoever fetched learned better.
    pub token_kind: Option<TokenKind>,
    /// [`ClaimedOrder::is_stored`]: what to write is to be merged with what is there.
    pub is_stored: bool,
    /// What changes in `chat.orders`, if anything.
    pub order: Option<OrderChange>,
    /// What to upsert into the other tables of schema `chat`, if anything.
    pub conversation: Option<Conversation>,
    /// Whether stored messages that `conversation` lacks are to be marked as removed.
    pub marks_removed: bool,
    /// Whether the reply held messages that are stored, by this settlement or an earlier one.
    pub has_storable_messages: bool,
    /// [`Conversation::messages_left_out`].
    pub messages_left_out: usize,
    /// When the request was sent, in the database's time.
    pub asked_at: DateTime<Utc>,
    /// When the reply came, in the database's time.
    pub answered_at: DateTime<Utc>,
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    /// HTTP requests that it took. [`settle`] does not see them; whoever counted them fills them in.
    pub requests: u32,
    /// What goes to `sync.rejects`: status, kind, and the part itself.
    pub rejects: Vec<(Option<u16>, &'static str, Fault)>,
    /// How the order counts.
    pub verdict: Verdict,
    /// Why it is not simply believed.
    pub suspicion: Option<Suspicion>,
    /// What the guard holds back of the order from now on.
    pub held: Option<HeldResult>,
    /// How the request was refused, if it was.
    pub refusal: Option<Refusal>,
    /// What it finds lost that was not known to be.
    pub loss: Option<Loss>,
}

impl Settlement {
    /// How the attempt ended, in a word for the order's history: `read`, `unchanged`, `partly_understood`, `expired`,
    /// `closed`, `held`, or the kind of the failure.
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

    /// The same reply, not believed: the order stays live, no failure is counted, and it is asked for again after a
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
            // Once is enough.
            rejects: if times == 1 { self.rejects } else { Vec::new() },
            verdict: Verdict::Held,
            // Nothing is lost that may still be there.
            loss: None,
            held: Some(HeldResult { kind, since, times, id_space: id_space.to_string() }),
            ..self
        }
    }

    /// Whether the reply held messages, storable or not.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.has_storable_messages || self.messages_left_out > 0
    }

    /// From the request, waits for its turn included, to its reply.
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
/// `asked_at` and `answered_at` are times of the database's clock. The pair matters for the proof of completeness: a
/// conversation is as old as the request for it, and an expiry is as young as its reply. `jitter` between 0 and 1
/// spreads retries.
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
            // Closed before and still closed: nothing that the guard could doubt.
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

/// A loss counts once: what is stored as lost was counted by the run that found it.
fn loss(order: &ClaimedOrder, settled: &Settlement) -> Option<Loss> {
    match settled.order.as_ref()?.coverage {
        coverage if coverage == order.coverage => None,
        Coverage::ExpiredUnread => Some(Loss::Unread),
        Coverage::ExpiredPartial => Some(Loss::Unproven),
        _ => None,
    }
}

/// Settles an order by the result that is held of it, because an operator confirms it. `None` if nothing is held.
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
    // The older API empties an expired conversation without a word. Such a reply is no good read, and no news unless a
    // part of it was not understood.
    let is_empty = !blank.has_messages();
    let may_be_emptied = order.has_messages && is_empty;
    let is_emptied = may_be_emptied && conversation.faults.is_empty();
    let hash = conversation.content_hash();
    let is_changed = !is_emptied && order.content_hash.as_ref() != Some(&hash);
    // Nothing new although it was never read: it was emptied before it was fed again.
    let changed_at = order.last_changed_at.unwrap_or(order.enqueued_at);
    let is_quiet =
        !is_changed && conversation.is_expired.is_none() && asked_at - changed_at >= time_delta(policy.quiet_after);
    let (state, due_in) = if is_quiet { (OrderState::Quiet, Duration::ZERO) } else { (OrderState::Open, blank.due_in) };
    // Only a reply that says something puts an end to a proof.
    let says_nothing = may_be_emptied || (is_empty && conversation.is_expired.is_none());
    let coverage = if says_nothing && order.coverage.is_complete() { order.coverage } else { Coverage::CapturedOpen };
    // Said again, this reply has nothing to add. One that is silent about expiry has: it may settle the order.
    let is_final = !is_emptied && conversation.faults.is_empty() && conversation.is_expired.is_some();
    let settled = Settlement {
        state,
        due_in,
        reply_hash: is_final.then_some(reply_hash),
        // With a message left out, or if it may have said that it is expired, this read proves nothing about
        // completeness.
        fetched_at: (!may_be_emptied && is_whole && !conversation.hides_expiry()).then_some(asked_at),
        // Put back by a person, the order is open whatever it was called before, even if all it gets is an emptied reply.
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
        // If there was a read, it found nothing, and yet there is something: it proved nothing.
        _ if brings_messages && !order.has_messages => Coverage::ExpiredPartial,
        _ if order.coverage.is_complete() => order.coverage,
        None if order.has_messages => Coverage::ExpiredPartial,
        None => known_loss(order).unwrap_or(Coverage::ExpiredUnread),
        Some(read) => coverage_after_the_end(order, read, Some(expired_at), policy),
    };
    // After a full reply the empty one has nothing to add; before any, its metadata is all there will ever be.
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

/// An order expires `readable_window` after its completion. If the feeder does not tell when that was, it was not before
/// the last message; and that was written before the read that brought it, whatever its time says. Where neither is
/// known anything is possible: an order can be enqueued at any age.
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
        // What was proven before stays proven.
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
        // A failure says nothing about what is held.
        held: order.held.clone(),
        ..failed
    }
}

/// What is lost of an order that the queue knows no good read of: it was answered nevertheless, or it was in the queue
/// before and its loss is stored.
fn known_loss(order: &ClaimedOrder) -> Option<Coverage> {
    match order.coverage {
        _ if order.last_changed_at.is_some() => Some(Coverage::ExpiredUnread),
        Coverage::CapturedOpen | Coverage::ExpiredPartial => Some(Coverage::ExpiredPartial),
        Coverage::ExpiredUnread => Some(Coverage::ExpiredUnread),
        _ => None,
    }
}

/// What is proven once no further read is possible, given the last good read.
///
/// A conversation is readable for `readable_window` after the order's completion. First seen expired at T, the order
/// was completed before T − window; a read at or after that moment therefore saw everything.
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

/// Exponential, spread over a quarter to either side so that failures of one moment do not come back as one.
fn backoff(policy: &QueuePolicy, failures: i32, jitter: f64) -> Duration {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(30);
    let wait = policy.retry_backoff.saturating_mul(1 << doublings).min(policy.retry_backoff_max);
    wait.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0).min(policy.retry_backoff_max)
}

const fn held_note(kind: HeldKind) -> &'static str {
    match kind {
        HeldKind::Closed => "the API does not know it (404, code 4000), which is not believed yet",
        HeldKind::NotFoundUncoded => "404 in the API's shape but without code 4000, which is not believed yet",
        HeldKind::Expired => {
            "expired and empty sooner than possible: not before completed_at, or the last message, plus queue.readable_window"
        }
        HeldKind::Refused => "refused for good like too many others, which is not believed yet",
    }
}

fn note_on_faults(faults: &[Fault]) -> Option<(&'static str, String)> {
    let first = faults.first()?;
    Some((
        "partly_understood",
        format!("{} part(s) of the reply left out, see sync.rejects; first: {first}", faults.len()),
    ))
}

/// Moved, not copied: they may be as large as the reply.
fn rejected_parts(conversation: &mut Conversation) -> Vec<(Option<u16>, &'static str, Fault)> {
    std::mem::take(&mut conversation.faults).into_iter().map(|fault| (Some(200), "partly_understood", fault)).collect()
}

fn time_delta(duration: Duration) -> chrono::TimeDelta {
    // Longer than 290 million years: as good as never.
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

#[cfg(test)]
mod tests;
