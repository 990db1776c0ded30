//! The policy table: what each kind of failure means for its order and for the API as a whole.
//!
//! One row per [`FailureKind`], in one place: [`FailureKind::policy`]. `connect` names the kind and retries as the row
//! says, [`settle`](super::settle) settles the order as it says. `docs/policy.md` shows the table to users; a test
//! keeps both equal. Replies that are no failure (read, expired, closed) are handled in `settlement`.

use super::order::text_enum;

text_enum! {
    /// How a fetch failed, as in `sync.order_queue.last_error_kind`.
    FailureKind {
        /// 200, but not JSON, of another shape, or too large.
        NotUnderstood = "not_understood",
        /// A reply without content: it came from an edge server and says nothing about the order.
        EmptyReply = "empty_reply",
        /// 404 without the API's own error body.
        NotFoundUnproven = "not_found_unproven",
        /// 401, also with a renewed token.
        Unauthorized = "unauthorized",
        /// 403.
        Forbidden = "forbidden",
        /// 400, 422 and other 4xx with the API's own error body.
        Refused = "refused",
        /// Code 4001: the order needs the other kind of token, which is not available.
        WantsUserToken = "wants_user_token",
        /// Any other 4xx without the API's own error body.
        NotTheApi = "not_the_api",
        /// The token endpoint refuses a token for the order's user.
        TokenRefused = "token_refused",
        /// The order names no user, and `auth.mode = user_assertion` needs one.
        NoUser = "no_user",
        /// 429 on every retry.
        Throttled = "throttled",
        /// 408, 421, 425 and 5xx.
        ServerError = "server_error",
        /// No complete reply in time.
        Timeout = "timeout",
        Connect = "connect",
        /// The connection broke, or the body was truncated.
        Interrupted = "interrupted",
        /// The server redirects to another address.
        Redirect = "redirect",
        /// Decoded, but PostgreSQL refuses its rows.
        NotStorable = "not_storable",
        /// The queue row, written by SQL, cannot be used: a time after the year 262000, or an id that cannot be sent.
        BadRow = "bad_row",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether the fetch is retried within the run, after growing waits.
    pub is_retried_at_once: bool,
    /// How the order is settled if retries do not help.
    pub then: Then,
    /// Whether it hints at an outage of the whole API: most requests failing like this open the breaker.
    pub hints_at_outage: bool,
}

/// What happens to an order that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Due again after `queue.retry_backoff`, however often it fails.
    Later,
    /// Like `Later`, but counted: dead after `queue.max_failures` counted failures in a row.
    LaterCounted,
    /// Dead immediately: a retry would change nothing.
    Dead,
}

impl FailureKind {
    /// Returns the row of the table.
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
