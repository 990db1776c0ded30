//! The policy table: what each way of failing means for its order, and what it tells about the API as a whole.
//!
//! One row per [`FailureKind`], in one place: [`FailureKind::policy`]. `connect` names the kind and retries as the row
//! says, [`settle`](super::settle) settles the order as it says. The table for users is in `docs/policy.md`; a test
//! keeps the two the same. What is no failure (read, expired, closed) is settled by the rules in `settlement`.

use super::order::text_enum;

text_enum! {
    /// A way in which asking for an order failed, as in `sync.order_queue.last_error_kind`.
    FailureKind {
        /// 200, but not JSON, not this shape, or too large.
        NotUnderstood = "not_understood",
        /// A reply with nothing in it: from an edge that had none, and no word about the order.
        EmptyReply = "empty_reply",
        /// 404 without the API's own error body.
        NotFoundUnproven = "not_found_unproven",
        /// 401, also with a renewed token.
        Unauthorized = "unauthorized",
        /// 403.
        Forbidden = "forbidden",
        /// 400, 422 and other 4xx with the API's own error body.
        Refused = "refused",
        /// Code 4001: the order wants the other kind of token, which there is not.
        WantsUserToken = "wants_user_token",
        /// Any other 4xx without the API's own error body.
        NotTheApi = "not_the_api",
        /// The token endpoint gives no token for the order's user.
        TokenRefused = "token_refused",
        /// The order names no user, and `auth.mode = user_assertion` needs one.
        NoUser = "no_user",
        /// 429, again and again.
        Throttled = "throttled",
        /// 408, 421, 425 and 5xx.
        ServerError = "server_error",
        /// No complete reply in time.
        Timeout = "timeout",
        /// No connection.
        Connect = "connect",
        /// The connection was cut, or the body truncated.
        Interrupted = "interrupted",
        /// The server wants the request to go elsewhere.
        Redirect = "redirect",
        /// Understood, but PostgreSQL refuses its rows.
        NotStorable = "not_storable",
        /// Its row in the queue, written by SQL, cannot be used: a time after the year 262000, an id that cannot be sent.
        BadRow = "bad_row",
    }
}

/// A row of the policy table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Tried again within the run, after growing waits.
    pub is_retried_at_once: bool,
    /// How the order is settled if it comes to that.
    pub then: Then,
    /// Evidence that the API as a whole is out of order: most requests failing like this open the breaker.
    pub hints_at_outage: bool,
}

/// What becomes of an order that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Due again after `queue.retry_backoff`, however often it fails.
    Later,
    /// The same, but it counts: dead after `queue.max_failures` of them in a row.
    LaterCounted,
    /// Dead at once: trying again would change nothing.
    Dead,
}

impl FailureKind {
    /// Its row of the table.
    #[must_use]
    pub fn policy(self) -> Policy {
        let row = |is_retried_at_once, then, hints_at_outage| Policy { is_retried_at_once, then, hints_at_outage };
        match self {
            Self::NotUnderstood | Self::Unauthorized | Self::TokenRefused => row(false, Then::LaterCounted, true),
            Self::EmptyReply | Self::NotFoundUnproven | Self::NotTheApi | Self::Redirect => {
                row(false, Then::Later, true)
            }
            Self::Forbidden | Self::WantsUserToken => row(false, Then::Later, false),
            Self::Refused | Self::NoUser | Self::BadRow => row(false, Then::Dead, false),
            Self::Throttled | Self::ServerError | Self::Timeout | Self::Connect | Self::Interrupted => {
                row(true, Then::Later, true)
            }
            Self::NotStorable => row(false, Then::LaterCounted, false),
        }
    }
}
