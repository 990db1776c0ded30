//! What can go wrong between a request and a decoded reply, and what to do about it.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::{Failure, FailureKind, Fault};

/// Why no answer about an order was had. Texts are free of chat text, names, tokens and URLs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `user_assertion` needs to know whose token to use.
    #[error(
        "the order has no connect_user_id, which auth.mode = user_assertion needs: enqueue it again with --user-id and --reopen"
    )]
    NoUser,
    /// The run is to stop before the request was sent.
    #[error("stopped before it was asked for")]
    Stopped,
    /// The API has been out of order for `breaker.give_up_after`.
    #[error("the API has been out of order for {} s, last: {last}; orders were left as they were", lasted.as_secs())]
    Outage {
        /// For how long.
        lasted: Duration,
        /// The last failure.
        last: String,
    },
    /// The first replies of the run were all refusals.
    #[error(
        "the first {replies} replies were all refusals, last: {last}; the account's setting \"shopper information removal\" makes this endpoint answer 403 always: ask your Instacart representative"
    )]
    AllRefused {
        /// How many.
        replies: u32,
        /// The last one.
        last: String,
    },
    /// No complete reply within `api.timeout`.
    #[error("{asked_for}: no complete reply within {} s", within.as_secs_f32())]
    TimedOut {
        /// What the request was for.
        asked_for: Asked,
        /// How long it was waited for.
        within: Duration,
    },
    /// The request or its reply broke on the way.
    #[error("{asked_for}: {what} ({})", innermost(source))]
    Transport {
        /// What the request was for.
        asked_for: Asked,
        /// Where it broke.
        what: Broken,
        /// The cause, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered with another status than 200.
    #[error("{asked_for}: the server answered {status}{}", describe(*status, api.as_ref()))]
    Status {
        /// What the request was for.
        asked_for: Asked,
        /// HTTP status.
        status: u16,
        /// The API's own error, if the body held one.
        api: Option<ApiError>,
    },
    /// 401, again after the token was renewed, or with a token that cannot be renewed.
    #[error("{asked_for}: the credentials were refused (401); check section auth of the configuration")]
    Unauthorized {
        /// What the request was for.
        asked_for: Asked,
        /// Whether every other order depends on the same credential.
        is_shared: bool,
    },
    /// The token endpoint refuses for good.
    #[error("{answer}{}", if *is_shared { "; check section auth of the configuration" } else { "" })]
    TokenRefused {
        /// What it answered.
        answer: Box<Self>,
        /// Whether every other order depends on the same credential.
        is_shared: bool,
    },
    /// The server wants the request to go elsewhere. A token must not travel to another host.
    #[error("{asked_for}: the server redirects to {target}, which is not followed; check api.base_url")]
    Redirect {
        /// What the request was for.
        asked_for: Asked,
        /// Host of the target.
        target: String,
    },
    /// Neither a conversation nor an error: a blank body, or a status that promises none, such as 202, 204 and 304.
    #[error("{asked_for}: the server answered {status} without a conversation")]
    Empty {
        /// What the request was for.
        asked_for: Asked,
        /// HTTP status of the reply.
        status: u16,
        /// The body, if there was one.
        body: Option<Fault>,
    },
    /// The reply cannot be used as a whole.
    #[error("{asked_for}: the reply was not understood: {fault}")]
    NotUnderstood {
        /// What the request was for.
        asked_for: Asked,
        /// HTTP status of the reply.
        status: u16,
        /// What is wrong with it, and the reply itself.
        fault: Fault,
    },
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A conversation.
    Messages,
    /// An access token.
    Token,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Messages => "asking for the messages",
            Self::Token => "asking for an access token",
        })
    }
}

/// Where a request broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// No connection came about.
    Connect,
    /// The connection broke, or the bytes on it made no sense.
    Interrupted,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection to the server",
            Self::Interrupted => "the connection broke",
        })
    }
}

impl Error {
    /// Whether every other order would meet the same: the run stops, its orders stay as they were.
    #[must_use]
    pub fn stops_the_run(&self) -> bool {
        matches!(
            self,
            Self::Outage { .. }
                | Self::AllRefused { .. }
                | Self::Unauthorized { is_shared: true, .. }
                | Self::TokenRefused { is_shared: true, .. }
        )
    }

    /// The row of the policy table, for an order that failed with it.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NoUser => FailureKind::NoUser,
            Self::TimedOut { .. } => FailureKind::Timeout,
            Self::Transport { what: Broken::Connect, .. } => FailureKind::Connect,
            // The rest are no failures of an order; whoever asks all the same gets what costs it least.
            Self::Transport { .. } | Self::Stopped | Self::Outage { .. } => FailureKind::Interrupted,
            Self::Unauthorized { .. } => FailureKind::Unauthorized,
            Self::TokenRefused { .. } => FailureKind::TokenRefused,
            Self::Redirect { .. } => FailureKind::Redirect,
            Self::Empty { .. } => FailureKind::EmptyReply,
            Self::AllRefused { .. } | Self::Status { status: 403, .. } => FailureKind::Forbidden,
            Self::Status { status: 404, .. } => FailureKind::NotFoundUnproven,
            Self::Status { status: 429, .. } => FailureKind::Throttled,
            Self::Status { status: 408 | 500..=599, .. } => FailureKind::ServerError,
            Self::Status { status: 400..=499, .. } => FailureKind::Refused,
            // Of the statuses there remain those of tokens: 2xx without one, 3xx without a target.
            Self::NotUnderstood { .. } | Self::Status { .. } => FailureKind::NotUnderstood,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, message) = (error.kind(), error.to_string());
        let (http_status, reject) = match error {
            Error::NotUnderstood { status, fault, asked_for: Asked::Messages } => (Some(status), Some(fault)),
            Error::Empty { status, body, .. } => (Some(status), body),
            Error::Status { status, .. } => (Some(status), None),
            Error::Unauthorized { .. } => (Some(401), None),
            _ => (None, None),
        };
        Self { kind, message, in_outage: false, http_status, reject }
    }
}

/// The API's own description of an error: `{"error": {"message": …, "code": …}}`, single or multiple.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    /// Instacart's error code: 4000 is "Resource not found".
    pub code: Option<i64>,
    /// For people.
    pub message: Option<String>,
}

impl ApiError {
    /// For the chat endpoint: the order does not exist.
    pub const RESOURCE_NOT_FOUND: i64 = 4000;

    /// The error in a body of either documented shape, if it holds one.
    #[must_use]
    pub fn in_body(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            error: ApiError,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        Some(body.error).filter(|error| error.code.is_some() || error.message.is_some())
    }
}

/// The last cause says most: `Connection refused`, not `error sending request`.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A text from outside goes into logs and tables: one line of it, not too long.
fn describe(status: u16, api: Option<&ApiError>) -> String {
    let Some(api) = api else {
        let hint = if status == 404 { " with a page that is not the API's; check api.base_url" } else { "" };
        return hint.to_owned();
    };
    let message: String =
        api.message.iter().flat_map(|text| text.chars()).filter(|c| !c.is_control()).take(200).collect();
    match api.code {
        Some(code) => format!(": {message} (code {code})"),
        None => format!(": {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_error_is_found_in_both_documented_shapes_and_nowhere_else() {
        let single = br#"{"error": {"message": "Resource not found", "code": 4000}, "meta": {"key": "order_id"}}"#;
        let multiple = br#"{"error": {"message": "There were issues", "code": 9999, "errors": [{"error": {"message": "can't be blank", "code": 1001}, "meta": {"key": "order_id"}}]}}"#;
        assert_eq!(ApiError::in_body(single).and_then(|error| error.code), Some(4000));
        assert_eq!(ApiError::in_body(multiple).and_then(|error| error.code), Some(9999));
        for other in ["<html>404</html>", "{}", "{\"error\":\"not found\"}", "{\"error\":{}}", "", "[]"] {
            assert_eq!(ApiError::in_body(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_apis_message_is_quoted_on_one_short_line() {
        let api = ApiError { code: Some(1), message: Some(format!("a\nb\u{1b}[31m{}", "x".repeat(500))) };
        let error = Error::Status { asked_for: Asked::Messages, status: 422, api: Some(api) };
        let text = error.to_string();
        assert!(text.len() < 300 && !text.contains('\n') && !text.contains('\u{1b}'), "{text}");
    }
}
