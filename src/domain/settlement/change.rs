//! What a settlement changes, in the parts that are written to different tables.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::{
    ClaimedOrder, Conversation, Coverage, FailureKind, Fault, HeldKind, HeldResult, IdSpace, Lease, OrderId,
    OrderState, Refusal, TokenKind,
};

/// An order with a held result is fetched again after these waits, then always after the last one, so that it never
/// blocks the head of the queue.
const HELD_WAITS: [Duration; 3] = [Duration::from_hours(1), Duration::from_hours(6), Duration::from_hours(24)];

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
    /// `open`, `closed`, `expired` or `quiet`.
    pub status: OrderState,
    pub coverage: Coverage,
    /// When the API first did not know the order.
    pub closed_at: Option<DateTime<Utc>>,
}

/// What a [`Note`] or a [`Reject`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    Failure(FailureKind),
    /// Parts of the reply were left out.
    PartlyUnderstood,
    /// The guard holds the result back.
    Held,
}

impl NoteKind {
    /// Returns the text in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failure(kind) => kind.as_str(),
            Self::PartlyUnderstood => "partly_understood",
            Self::Held => "held",
        }
    }
}

/// Why an attempt was not a full read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub kind: NoteKind,
    /// Free of chat text, names and tokens.
    pub text: String,
}

/// A row for `sync.rejects`.
#[derive(Debug)]
pub struct Reject {
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    pub kind: NoteKind,
    /// The value itself.
    pub fault: Fault,
}

/// Everything that one transaction writes about one order.
#[derive(Debug)]
pub struct Settlement {
    pub order_id: OrderId,
    pub queue: QueueChange,
    pub chat: ChatChange,
    pub attempt: Attempt,
    pub rejects: Vec<Reject>,
    pub verdict: Verdict,
    /// Why the guard must weigh it, if it must.
    pub suspicion: Option<Suspicion>,
    pub refusal: Option<Refusal>,
    /// The loss that it finds, if it was not known before.
    pub loss: Option<Loss>,
}

/// The new values of an order's row in the queue.
#[derive(Debug)]
pub struct QueueChange {
    /// The lease that the write repeats. If it is lost, nothing is written.
    pub lease: Lease,
    pub state: OrderState,
    /// Due again this long from now; zero in a terminal state, whose end it dates.
    pub due_in: Duration,
    pub failures: i32,
    /// Counted failures in a row.
    pub counted_failures: i32,
    /// Time of sending, set by a good read: one that decoded every message and whether the conversation is expired.
    pub fetched_at: Option<DateTime<Utc>>,
    /// Set by a read that changed something.
    pub content_hash: Option<Vec<u8>>,
    /// Set when the API said `is_expired`.
    pub expired_at: Option<DateTime<Utc>>,
    /// [`ClaimedOrder::reply_hash`].
    pub reply_hash: Option<Vec<u8>>,
    /// [`ClaimedOrder::token_kind`]: unchanged, unless the fetch found another kind.
    pub token_kind: Option<TokenKind>,
    /// The result that the guard holds back from now on.
    pub held: Option<HeldResult>,
}

/// What changes in schema `chat`.
#[derive(Debug)]
pub struct ChatChange {
    /// [`ClaimedOrder::is_stored`]: the rows to write are merged with stored ones.
    pub is_stored: bool,
    /// The change to `chat.orders`, if any.
    pub order: Option<OrderChange>,
    /// What to upsert into the other tables, if anything.
    pub conversation: Option<Conversation>,
    /// Whether stored messages that `conversation` lacks are marked as removed.
    pub marks_removed: bool,
    /// Whether the reply has messages that are stored, by this settlement or an earlier one.
    pub has_storable_messages: bool,
    /// [`Conversation::messages_left_out`].
    pub messages_left_out: usize,
}

impl ChatChange {
    /// Returns whether the reply has messages, storable or not.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        self.has_storable_messages || self.messages_left_out > 0
    }
}

/// The attempt, for the order's history.
#[derive(Debug)]
pub struct Attempt {
    /// When the request was sent, in the database's time.
    pub asked_at: DateTime<Utc>,
    /// When the reply came, in the database's time.
    pub answered_at: DateTime<Utc>,
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    /// Number of HTTP requests. [`settle`](super::settle) does not know it; the caller sets it.
    pub requests: u32,
    /// Why it failed, or what was left out of a partly decoded reply.
    pub note: Option<Note>,
}

impl Attempt {
    /// Returns the time from the request to its reply, including the wait for its turn.
    #[must_use]
    pub fn latency(&self) -> TimeDelta {
        self.answered_at - self.asked_at
    }
}

impl Settlement {
    /// Returns how the attempt ended, as one word for the order's history: `read`, `unchanged`, `partly_understood`,
    /// `expired`, `closed`, `held`, or the kind of the failure.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match (self.queue.state, self.verdict, &self.attempt.note) {
            (_, Verdict::Held, _) => "held",
            (OrderState::Closed, ..) => "closed",
            (OrderState::Expired, ..) => "expired",
            (_, _, Some(note)) => note.kind.as_str(),
            (_, Verdict::Unchanged, None) => "unchanged",
            _ => "read",
        }
    }

    /// Turns it into a held result: the order stays live, no failure is counted, and it is fetched again after a
    /// while. `suspicion` is this settlement's.
    #[must_use]
    pub fn hold(self, order: &ClaimedOrder, suspicion: Suspicion, id_space: &IdSpace) -> Self {
        let kind = suspicion.held_kind();
        let answered_at = self.attempt.answered_at;
        let before = order.held.as_ref().filter(|held| held.kind == kind);
        let times = before.map_or(0, |held| held.times).saturating_add(1);
        let since = order.first_seen(|held| held == kind, answered_at);
        let turn = usize::try_from(times - 1).unwrap_or(0).min(HELD_WAITS.len() - 1);
        let due_in = match suspicion {
            Suspicion::ExpiredEarly { possible_at } => {
                HELD_WAITS[turn].min((possible_at - answered_at).to_std().unwrap_or_default())
            }
            _ => HELD_WAITS[turn],
        };
        Self {
            queue: QueueChange {
                state: order.live_state(),
                due_in,
                failures: order.failures,
                counted_failures: order.counted_failures,
                fetched_at: None,
                content_hash: None,
                expired_at: None,
                reply_hash: order.reply_hash.clone(),
                held: Some(HeldResult { kind, since, times, id_space: id_space.to_string() }),
                ..self.queue
            },
            chat: ChatChange { order: None, conversation: None, marks_removed: false, ..self.chat },
            attempt: Attempt {
                note: Some(Note { kind: NoteKind::Held, text: held_note(kind).to_owned() }),
                ..self.attempt
            },
            // Keep the reject only once.
            rejects: if times == 1 { self.rejects } else { Vec::new() },
            verdict: Verdict::Held,
            // Nothing is lost yet: the conversation may still be there.
            loss: None,
            ..self
        }
    }
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
