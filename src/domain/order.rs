//! An order as the queue knows it: its id, its state, its lease.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The id of an order exactly as it is sent in the request path: a retailer's own id, often a UUID, any string in
/// principle. Not the integer `order_id` that messages carry.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OrderId(String);

impl OrderId {
    /// The longest id accepted, in bytes: far above any known id, far below what a B-tree index entry can hold.
    pub const MAX_BYTES: usize = 512;

    /// Checks an id. The same rules stand as a `CHECK` on `sync.order_queue`.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidId> {
        let id = id.into();
        check_id(&id)?;
        // A URL parser resolves these two, percent-encoded or not: the request would go to another path.
        if id == "." || id == ".." {
            return Err(InvalidId::DotSegment);
        }
        Ok(Self(id))
    }

    /// The id as text.
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

/// Why a text cannot be an id of an order, user or retailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than [`OrderId::MAX_BYTES`].
    #[error("it is longer than {} bytes", OrderId::MAX_BYTES)]
    TooLong,
    /// A tab, a line break, a NUL …
    #[error("it contains a control character")]
    ControlCharacter,
    /// `.` or `..`.
    #[error("\".\" and \"..\" cannot be sent in a request path")]
    DotSegment,
}

/// The rules that ids of orders, users and retailers share.
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

/// An order on its way into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// The order.
    pub order_id: OrderId,
    /// The Connect user whose token may read it; `None` where one credential reads all.
    pub connect_user_id: Option<String>,
    /// Overrides `api.treat_ids_as_internal` for this order.
    pub ids_internal: Option<bool>,
    /// Overrides `api.retailer_id` for this order.
    pub retailer_id: Option<String>,
    /// Higher is claimed first.
    pub priority: Option<i16>,
    /// When the order was delivered or cancelled, if the feeder knows.
    pub completed_at: Option<DateTime<Utc>>,
}

impl NewOrder {
    /// An order with nothing but its id.
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

    /// Takes over what `later` says; what it does not say stays.
    pub fn learn(&mut self, later: &Self) {
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

/// Checks the id of a user or retailer that a feeder gave.
pub(crate) fn checked_id(id: &str) -> Result<String, InvalidId> {
    check_id(id).map(|()| id.to_owned())
}

/// Declares an enum whose variants are stored as text, with both directions and the list of all.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All variants, in the order in which people read them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text that the database holds.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The variant that the database's text stands for.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.as_str() == text)
            }
        }
    };
}
pub(super) use text_enum;

text_enum! {
    /// Where an order stands in the queue.
    OrderState {
        /// Never fetched.
        Pending = "pending",
        /// Fetched; will be fetched again when due.
        Open = "open",
        /// The API does not know it (404, code 4000).
        Closed = "closed",
        /// The API said `is_expired`: not fetched any more.
        Expired = "expired",
        /// An API without `is_expired`, and quiet for `queue.quiet_after`: not fetched any more.
        Quiet = "quiet",
        /// Given up: needs a person.
        Dead = "dead",
    }
}

text_enum! {
    /// How much of an order's conversation is stored: a proven fact, never a guess.
    Coverage {
        /// No answer yet.
        Pending = "pending",
        /// Complete, by the 24-hour argument.
        Captured = "captured",
        /// Read, may still grow.
        CapturedOpen = "captured_open",
        /// Complete, nobody wrote.
        NoChat = "no_chat",
        /// Read, but the last good read was too early to prove completeness.
        ExpiredPartial = "expired_partial",
        /// Expired before any good read: lost.
        ExpiredUnread = "expired_unread",
        /// The API never knew the order.
        NotFound = "not_found",
        /// Given up.
        Failed = "failed",
    }
}

impl Coverage {
    /// Whether it is proven that the conversation is stored as a whole.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Captured | Self::NoChat)
    }
}

text_enum! {
    /// What an order's reply would have meant, had the storm guard believed it.
    HeldKind {
        /// 404, code 4000.
        Closed = "closed",
        /// 404 in the API's shape, but without code 4000.
        NotFoundUncoded = "not_found_uncoded",
        /// Expired and empty, sooner than possible by what is known of the order.
        Expired = "expired",
        /// Refused for good.
        Refused = "refused",
    }
}

impl HeldKind {
    /// Whether the order would be closed.
    #[must_use]
    pub const fn is_closure(self) -> bool {
        matches!(self, Self::Closed | Self::NotFoundUncoded)
    }
}

/// A result that the storm guard holds back: the order stays as it was and is asked for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldResult {
    /// What it would have meant.
    pub kind: HeldKind,
    /// When it was first seen. Believed later, it dates from then.
    pub since: DateTime<Utc>,
    /// How often it was seen.
    pub times: i32,
    /// [`IdSpace`] in which it was seen, as text. Seen elsewhere, it says nothing here.
    pub id_space: String,
}

/// Where an order id means what it means: a server, a banner, and whose ids they are. A wrong one of the three makes
/// every order unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdSpace {
    /// `api.base_url`.
    pub api: Arc<str>,
    /// `X-Retailer-Id`; empty where none is sent.
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
        /// That of the order's Connect user.
        User = "user",
        /// The one for all orders, asked for with the client's credentials.
        Client = "client",
    }
}

/// Proof that an order was claimed: every later write repeats it and writes nothing once the lease is lost.
pub type Lease = Uuid;

/// An order that this worker holds, with what earlier reads left in the queue.
#[derive(Debug, Clone)]
pub struct ClaimedOrder {
    /// The order.
    pub order_id: OrderId,
    /// The lease under which it is held.
    pub lease: Lease,
    /// The Connect user whose token may read it.
    pub connect_user_id: Option<String>,
    /// Which kind of token read it, if that of `auth.mode` did not.
    pub token_kind: Option<TokenKind>,
    /// Overrides `api.treat_ids_as_internal`.
    pub ids_internal: Option<bool>,
    /// Overrides `api.retailer_id`.
    pub retailer_id: Option<String>,
    /// Consecutive failures so far.
    pub failures: i32,
    /// Those that were no outage.
    pub counted_failures: i32,
    /// The last good read.
    pub last_fetched_at: Option<DateTime<Utc>>,
    /// The last read that brought something new; `None` if there was no read yet.
    pub last_changed_at: Option<DateTime<Utc>>,
    /// When the API was first seen to say `is_expired`.
    pub expired_at: Option<DateTime<Utc>>,
    /// [`Conversation::content_hash`](super::Conversation::content_hash) of the last good read.
    pub content_hash: Option<Vec<u8>>,
    /// [`reply_hash`](super::reply_hash) of the last reply, if the same bytes again say nothing new.
    pub reply_hash: Option<Vec<u8>>,
    /// Whether the order has rows in schema `chat`, as far as `chat.orders` and the queue know.
    pub is_stored: bool,
    /// Whether messages of this order are stored.
    pub has_messages: bool,
    /// When the order entered the queue.
    pub enqueued_at: DateTime<Utc>,
    /// When the order was delivered or cancelled, if the feeder knows.
    pub completed_at: Option<DateTime<Utc>>,
    /// When its latest stored message was written.
    pub last_message_at: Option<DateTime<Utc>>,
    /// What is stored as proven about completeness. It may know more than the queue: rows of orders that have ended are
    /// deleted after `queue.retention`, and an order may be fed again.
    pub coverage: Coverage,
    /// Whether the API did not know it when it was last settled.
    pub was_closed: bool,
    /// What the storm guard holds back of it.
    pub held: Option<HeldResult>,
}

impl ClaimedOrder {
    /// An order of which nothing is known but its id, and that nobody has claimed: it can be asked for, not settled.
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

    /// Whether any reply was ever read: it is known to the API, or was.
    #[must_use]
    pub fn was_read(&self) -> bool {
        self.last_fetched_at.or(self.last_changed_at).is_some()
            || self.has_messages
            || matches!(
                self.coverage,
                Coverage::Captured | Coverage::CapturedOpen | Coverage::NoChat | Coverage::ExpiredPartial
            )
    }

    /// Its state as long as it is not settled for good.
    #[must_use]
    pub fn live_state(&self) -> OrderState {
        if self.last_fetched_at.or(self.last_changed_at).is_none() { OrderState::Pending } else { OrderState::Open }
    }

    /// When a result of this kind, answered at `answered_at`, was first seen: earlier if it was held.
    #[must_use]
    pub fn first_seen(&self, is_kind: impl Fn(HeldKind) -> bool, answered_at: DateTime<Utc>) -> DateTime<Utc> {
        self.held.as_ref().filter(|held| is_kind(held.kind)).map_or(answered_at, |held| held.since)
    }

    /// Whether a reply is the one that was read last, byte for byte. Never of an order that was put back: its next
    /// reply is to be read.
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
    fn states_and_coverages_survive_the_way_through_the_database() {
        for state in OrderState::ALL {
            assert_eq!(OrderState::parse(state.as_str()), Some(*state));
        }
        for coverage in Coverage::ALL {
            assert_eq!(Coverage::parse(coverage.as_str()), Some(*coverage));
        }
        assert_eq!(OrderState::parse("Open"), None);
    }
}
