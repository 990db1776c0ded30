//! An order in the queue: its id, state and lease.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The id of an order as sent in the request path: a retailer's own id, often a UUID, in principle any string. Not the
/// integer `order_id` of messages.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OrderId(String);

impl OrderId {
    /// The longest accepted id, in bytes: far above any known id, far below the limit of a B-tree index entry.
    pub const MAX_BYTES: usize = 512;

    /// Checks an id. A `CHECK` on `sync.order_queue` has the same rules.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidId> {
        let id = id.into();
        check_id(&id)?;
        // A URL parser resolves these two, percent-encoded or not, and the request would go to another path.
        if id == "." || id == ".." {
            return Err(InvalidId::DotSegment);
        }
        Ok(Self(id))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no valid id of an order, user or retailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {} bytes", OrderId::MAX_BYTES)]
    TooLong,
    /// Such as a tab, a line break or a NUL.
    #[error("it contains a control character")]
    ControlCharacter,
    #[error("\".\" and \"..\" cannot be sent in a request path")]
    DotSegment,
}

/// Checks the rules that ids of orders, users and retailers share.
fn check_id(id: &str) -> Result<(), InvalidId> {
    if id.is_empty() {
        Err(InvalidId::Empty)
    } else if id.len() > OrderId::MAX_BYTES {
        Err(InvalidId::TooLong)
    } else if id.bytes().any(|byte| byte.is_ascii_control()) {
        Err(InvalidId::ControlCharacter)
    } else {
        Ok(())
    }
}

/// An order to be added to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    pub order_id: OrderId,
    /// The Connect user whose token may read it; `None` if one credential reads all orders.
    pub connect_user_id: Option<String>,
    /// Overrides `api.treat_ids_as_internal` for this order.
    pub ids_internal: Option<bool>,
    /// Overrides `api.retailer_id` for this order.
    pub retailer_id: Option<String>,
    /// Higher priorities are claimed first.
    pub priority: Option<i16>,
    /// When the order was delivered or cancelled, if the feeder knows.
    pub completed_at: Option<DateTime<Utc>>,
}

impl NewOrder {
    /// Makes an order with only an id.
    #[must_use]
    pub fn new(order_id: OrderId) -> Self {
        Self {
            order_id,
            connect_user_id: None,
            ids_internal: None,
            retailer_id: None,
            priority: None,
            completed_at: None,
        }
    }

    /// Takes over the fields that `later` sets; keeps the others.
    pub fn merge(&mut self, later: &Self) {
        if later.connect_user_id.is_some() {
            self.connect_user_id.clone_from(&later.connect_user_id);
        }
        if later.retailer_id.is_some() {
            self.retailer_id.clone_from(&later.retailer_id);
        }
        self.ids_internal = later.ids_internal.or(self.ids_internal);
        self.priority = later.priority.or(self.priority);
        self.completed_at = later.completed_at.or(self.completed_at);
    }
}

/// Checks the id of a user or retailer from a feed.
pub(crate) fn checked_id(id: &str) -> Result<String, InvalidId> {
    check_id(id).map(|()| id.to_owned())
}

/// Declares an enum whose variants are stored as text, with both conversions and a list of all variants.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All variants, in display order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the text in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Returns the variant for a text from the database.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.as_str() == text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text).ok_or_else(|| format!("unknown: {text}"))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}
pub(crate) use text_enum;

text_enum! {
    /// The state of an order in the queue.
    OrderState {
        /// Never fetched.
        Pending = "pending",
        /// Fetched; is fetched again when due.
        Open = "open",
        /// The API does not know it (404, code 4000).
        Closed = "closed",
        /// The API said `is_expired`; not fetched any more.
        Expired = "expired",
        /// The API never reports expiry, and nothing changed for `queue.quiet_after`; not fetched any more.
        Quiet = "quiet",
        /// Given up; an operator must act.
        Dead = "dead",
    }
}

text_enum! {
    /// How much of an order's conversation is stored: a proven fact, never a guess.
    Coverage {
        /// Not fetched yet.
        Pending = "pending",
        /// Complete, proven by a read within the readable window before the expiry.
        Captured = "captured",
        /// Read, may still grow.
        CapturedOpen = "captured_open",
        /// Complete, and without messages.
        NoChat = "no_chat",
        /// Read, but the last good read was too early to prove completeness.
        ExpiredPartial = "expired_partial",
        /// Lost: expired before any good read.
        ExpiredUnread = "expired_unread",
        /// The API never knew the order.
        NotFound = "not_found",
        Failed = "failed",
    }
}

impl Coverage {
    /// Returns whether the conversation is proven to be stored completely.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Captured | Self::NoChat)
    }
}

text_enum! {
    /// What a reply would have meant if the guard had believed it.
    HeldKind {
        /// 404, code 4000.
        Closed = "closed",
        /// 404 in the API's shape, but without code 4000.
        NotFoundUncoded = "not_found_uncoded",
        /// Expired and empty, sooner than possible for what is known about the order.
        Expired = "expired",
        /// A final refusal.
        Refused = "refused",
    }
}

impl HeldKind {
    /// Returns whether the order would be closed.
    #[must_use]
    pub const fn is_closure(self) -> bool {
        matches!(self, Self::Closed | Self::NotFoundUncoded)
    }
}

/// A result that the guard holds back: the order stays unchanged and is fetched again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldResult {
    pub kind: HeldKind,
    /// When it was first seen. If it is believed later, it counts from then.
    pub since: DateTime<Utc>,
    pub times: i32,
    /// The [`IdSpace`] in which it was seen, as text. It says nothing about another id space.
    pub id_space: String,
}

/// What gives an order id its meaning: a server, a banner, and whose ids they are. If one of the three is wrong, every
/// order is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdSpace {
    /// `api.base_url`.
    pub api: Arc<str>,
    /// `X-Retailer-Id`; empty if none is sent.
    pub retailer_id: Arc<str>,
    /// `X-Treat-Ids-As-Internal`.
    pub ids_internal: bool,
}

impl fmt::Display for IdSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} retailer_id={} ids_internal={}", self.api, self.retailer_id, self.ids_internal)
    }
}

text_enum! {
    /// Whose access token reads an order.
    TokenKind {
        /// The token of the order's Connect user.
        User = "user",
        /// The token for all orders, requested with the client's credentials.
        Client = "client",
    }
}

/// Proof that an order was claimed. Every later write repeats it, and writes nothing once the lease is lost.
pub type Lease = Uuid;

/// An order that this worker holds, with the results of earlier reads.
#[derive(Debug, Clone)]
pub struct ClaimedOrder {
    pub order_id: OrderId,
    pub lease: Lease,
    pub connect_user_id: Option<String>,
    /// The kind of token that read it, if it is not the one in `auth.mode`.
    pub token_kind: Option<TokenKind>,
    /// Overrides `api.treat_ids_as_internal`.
    pub ids_internal: Option<bool>,
    /// Overrides `api.retailer_id`.
    pub retailer_id: Option<String>,
    pub failures: i32,
    /// Failures in a row that count towards `queue.max_failures`.
    pub counted_failures: i32,
    /// Time of the last good read.
    pub last_fetched_at: Option<DateTime<Utc>>,
    /// Time of the last read that changed something; `None` if there was no read yet.
    pub last_changed_at: Option<DateTime<Utc>>,
    /// When the API first said `is_expired`.
    pub expired_at: Option<DateTime<Utc>>,
    /// [`Conversation::content_hash`](super::Conversation::content_hash) of the last good read.
    pub content_hash: Option<Vec<u8>>,
    /// [`reply_hash`](super::reply_hash) of the last reply, if the same bytes would change nothing.
    pub reply_hash: Option<Vec<u8>>,
    /// Whether the order has rows in schema `chat`, according to `chat.orders` and the queue.
    pub is_stored: bool,
    pub has_messages: bool,
    pub enqueued_at: DateTime<Utc>,
    /// When the order was delivered or cancelled, if the feeder knows.
    pub completed_at: Option<DateTime<Utc>>,
    /// When its latest stored message was written.
    pub last_message_at: Option<DateTime<Utc>>,
    /// The proven coverage. It may know more than the queue: rows of ended orders are deleted after `queue.retention`,
    /// and an order may be fed again.
    pub coverage: Coverage,
    /// Whether the API did not know it at the last settling.
    pub was_closed: bool,
    /// The result that the guard holds back.
    pub held: Option<HeldResult>,
}

impl ClaimedOrder {
    /// Makes an order with only an id, which no worker has claimed: it can be fetched but not settled.
    #[must_use]
    pub fn unclaimed(order_id: OrderId, enqueued_at: DateTime<Utc>) -> Self {
        Self {
            order_id,
            lease: Lease::nil(),
            connect_user_id: None,
            token_kind: None,
            ids_internal: None,
            retailer_id: None,
            failures: 0,
            counted_failures: 0,
            last_fetched_at: None,
            last_changed_at: None,
            expired_at: None,
            content_hash: None,
            reply_hash: None,
            is_stored: false,
            has_messages: false,
            enqueued_at,
            completed_at: None,
            last_message_at: None,
            coverage: Coverage::Pending,
            was_closed: false,
            held: None,
        }
    }

    /// Returns whether any reply was ever read. If so, the API knows the order, or did.
    #[must_use]
    pub fn was_read(&self) -> bool {
        self.last_fetched_at.or(self.last_changed_at).is_some()
            || self.has_messages
            || matches!(
                self.coverage,
                Coverage::Captured | Coverage::CapturedOpen | Coverage::NoChat | Coverage::ExpiredPartial
            )
    }

    /// Returns the state while it has not ended.
    #[must_use]
    pub fn live_state(&self) -> OrderState {
        if self.last_fetched_at.or(self.last_changed_at).is_none() { OrderState::Pending } else { OrderState::Open }
    }

    /// Returns when a result of this kind was first seen: `answered_at`, or earlier if it was held.
    #[must_use]
    pub fn first_seen(&self, is_kind: impl Fn(HeldKind) -> bool, answered_at: DateTime<Utc>) -> DateTime<Utc> {
        self.held.as_ref().filter(|held| is_kind(held.kind)).map_or(answered_at, |held| held.since)
    }

    /// Returns whether a reply is byte for byte the last one. Never true for an order that was put back: its next
    /// reply is decoded.
    #[must_use]
    pub fn knows(&self, reply_hash: &[u8]) -> bool {
        self.content_hash.is_some() && self.reply_hash.as_deref() == Some(reply_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ids_are_checked_where_they_are_made() {
        assert_eq!(OrderId::new(""), Err(InvalidId::Empty));
        assert_eq!(OrderId::new("a\tb"), Err(InvalidId::ControlCharacter));
        assert_eq!(OrderId::new("\u{0}"), Err(InvalidId::ControlCharacter));
        assert_eq!(OrderId::new(".."), Err(InvalidId::DotSegment));
        assert_eq!(OrderId::new("é".repeat(257)), Err(InvalidId::TooLong));
        for good in ["b7fab7ae-11fc-4453-98e1-a", "a/b?c#d", "...", "日本 語", "é"] {
            assert_eq!(OrderId::new(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn states_and_coverages_are_read_back_as_written() {
        for state in OrderState::ALL {
            assert_eq!(OrderState::parse(state.as_str()), Some(*state));
        }
        for coverage in Coverage::ALL {
            assert_eq!(Coverage::parse(coverage.as_str()), Some(*coverage));
        }
        assert_eq!(OrderState::parse("Open"), None);
    }
}
