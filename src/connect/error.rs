//! Errors between a request and a decoded reply, and what to do about each.
//!
//! [`Error::kind`] maps an error to its row of the policy table; [`Error::stops_the_run`] says whether every other
//! order would fail as well. Error texts hold no chat text, name, token or URL.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::api_error::ApiError;
use crate::domain::{Failure, FailureKind, Fault};

/// Why a fetch came to no outcome for its order.
///
/// Texts contain nothing that a server wrote except its status, the numbers of its error codes and the host of a
/// redirect: a message may repeat a chat or the token it was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `user_assertion` needs a user to request a token for.
    #[error(
        "the order has no connect_user_id, which auth.mode = user_assertion needs: enqueue it again with --user-id and --reopen"
    )]
    NoUser,
    /// The run was stopped before the request was sent.
    #[error("stopped before the request was sent")]
    Stopped,
    /// The API did not answer for `breaker.give_up_after`.
    #[error("the API has been out of order for {} s, last: {last}; orders were left as they were", lasted.as_secs())]
    Outage { lasted: Duration, last: String },
    /// No complete reply within `api.timeout`.
    #[error("{asked_for}: no complete reply from {peer} within {} s", within.as_secs_f32())]
    TimedOut { asked_for: Asked, peer: Arc<str>, within: Duration },
    /// The connection failed, or broke during the request or the reply.
    #[error("{asked_for}: {} ({})", what.with(peer), innermost(source))]
    Transport {
        asked_for: Asked,
        what: Broken,
        /// The host of the API, and the proxy on the way.
        peer: Arc<str>,
        /// The cause, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// A status other than 200.
    #[error("{asked_for}: the server answered {status}{}", describe(*asked_for, *status, api.as_ref()))]
    Status {
        asked_for: Asked,
        status: u16,
        /// The API's own error, if the body holds one.
        api: Option<ApiError>,
        /// The body, if it is kept: see `Error::keeping`.
        reject: Option<Fault>,
    },
    /// The order needs the other kind of token (code 4001), which is not available or was refused as well.
    #[error("{refusal}; {}", describe_other(other.as_deref()))]
    WantsOtherToken {
        /// The error that the first kind of token got.
        refusal: Box<Self>,
        /// The error that the other kind got, if there is one.
        other: Option<Box<Self>>,
    },
    /// A 401, also after the token was renewed, or with a token that cannot be renewed.
    #[error("{asked_for}: the credentials were refused (401); check section auth of the configuration")]
    Unauthorized { asked_for: Asked, is_shared: bool },
    /// A final refusal by the token endpoint.
    #[error("{answer}{}", if *is_shared { "; check section auth of the configuration" } else { "" })]
    TokenRefused { answer: Box<Self>, is_shared: bool },
    /// A redirect. It is not followed: a token must never travel to another host.
    #[error("{asked_for}: the server redirects to {target}, which is not followed; check api.base_url")]
    Redirect { asked_for: Asked, target: String },
    /// Neither a conversation nor an error: a blank body, or a status without a conversation, such as 202, 204 and
    /// 304.
    #[error("{asked_for}: the server answered {status} without a conversation")]
    Empty { asked_for: Asked, status: u16, body: Option<Fault> },
    /// A reply that cannot be used as a whole.
    #[error("{asked_for}: the reply was not understood: {fault}")]
    NotUnderstood {
        asked_for: Asked,
        status: u16,
        /// What is wrong, and the reply itself.
        fault: Fault,
    },
}

fn certificates_hint() -> String {
    match ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| std::env::var_os(name).is_some()) {
        Some(name) => format!(
            "{name} is set and leads to no certificate: correct or unset it; without it the system's are read (package \
                     ca-certificates)"
        ),
        None => "install the system's root certificates (package ca-certificates), or name a file that holds them in \
                 SSL_CERT_FILE"
            .to_owned(),
    }
}

/// Why no request can be sent.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// HTTPS is needed and the system has no root certificates.
    #[error(
        "cannot set up HTTPS: {}; {}", innermost(.0), certificates_hint()
    )]
    Certificates(#[from] reqwest::Error),
    /// The environment names a proxy that cannot be used.
    #[error(
        "{variable} is not the URL of a proxy: write http://host:port, https://host:port or socks5h://host:port, or \
         leave the API out of it with NO_PROXY"
    )]
    Proxy { variable: &'static str },
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Messages,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Connect,
    /// The connection broke, or its bytes were not valid HTTP.
    Interrupted,
}

impl Broken {
    fn with(self, peer: &str) -> String {
        match self {
            Self::Connect => format!("no connection to {peer}"),
            Self::Interrupted => format!("the connection to {peer} broke"),
        }
    }
}

impl Error {
    /// Returns whether every other order would fail the same way. Then the run stops and leaves its orders unchanged.
    #[must_use]
    pub fn stops_the_run(&self) -> bool {
        matches!(
            self,
            Self::Outage { .. }
                | Self::Unauthorized { is_shared: true, .. }
                | Self::TokenRefused { is_shared: true, .. }
        )
    }

    /// Keeps the body of a final refusal, or of a 404 of unknown meaning, without the token.
    #[must_use]
    pub(super) fn keeping(mut self, body: &[u8], token: &str) -> Self {
        let is_last_word = self.kind() == FailureKind::Refused;
        if let Self::Status { status, api: Some(_), reject, .. } = &mut self
            && (is_last_word || *status == 404)
        {
            *reject = Some(Fault::new("$", "an error of the API", &without_token(body, token)));
        }
        self
    }

    /// Returns whether the token endpoint refuses the client itself, for any user.
    pub(super) fn refuses_the_client(&self) -> bool {
        matches!(self, Self::Status { api: Some(api), .. } if api.refuses_the_client())
    }

    /// Returns the row of the policy table for an order that failed with this error.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NoUser => FailureKind::NoUser,
            Self::TimedOut { .. } => FailureKind::Timeout,
            Self::Transport { what: Broken::Connect, .. } => FailureKind::Connect,
            // `Stopped` and `Outage` are no failures of an order. `Interrupted` is the kind with the least effect.
            Self::Transport { .. } | Self::Stopped | Self::Outage { .. } => FailureKind::Interrupted,
            Self::Unauthorized { .. } => FailureKind::Unauthorized,
            Self::TokenRefused { .. } => FailureKind::TokenRefused,
            Self::Redirect { .. } => FailureKind::Redirect,
            Self::Empty { .. } => FailureKind::EmptyReply,
            Self::WantsOtherToken { .. } => FailureKind::WantsUserToken,
            Self::Status { status: 429, .. } => FailureKind::Throttled,
            Self::Status { status: 408 | 421 | 425 | 500..=599, .. } => FailureKind::ServerError,
            // With an error of the API in its body, it is a `TokenRefused`.
            Self::Status { asked_for: Asked::Token, status: 400..=499, .. } => FailureKind::NotTheApi,
            Self::Status { status: 403, .. } => FailureKind::Forbidden,
            Self::Status { status: 404, .. } => FailureKind::NotFoundUnproven,
            Self::Status { status: 400..=499, api: Some(api), .. } if api.has(ApiError::USER_NOT_FOUND) => {
                FailureKind::WantsUserToken
            }
            Self::Status { status: 400..=499, api: Some(_), .. } => FailureKind::Refused,
            Self::Status { status: 400..=499, api: None, .. } => FailureKind::NotTheApi,
            // The remaining statuses: 1xx, 2xx without a conversation, 3xx without a target.
            Self::NotUnderstood { .. } | Self::Status { .. } => FailureKind::NotUnderstood,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, message) = (error.kind(), error.to_string());
        let code = match &error {
            Error::Status { api: Some(api), .. } => api.first_code(),
            _ => None,
        };
        let (http_status, reject) = match error {
            Error::NotUnderstood { status, fault, asked_for: Asked::Messages } => (Some(status), Some(fault)),
            Error::Empty { status, body, .. } => (Some(status), body),
            Error::Status { status, reject, .. } => (Some(status), reject),
            Error::WantsOtherToken { refusal, .. } => return Self { kind, message, ..(*refusal).into() },
            Error::Unauthorized { .. } => (Some(401), None),
            _ => (None, None),
        };
        Self { kind, message, in_outage: false, http_status, code, reject }
    }
}

/// Shorter tokens are not searched for in bodies: they may be words.
const SHORTEST_TOKEN: usize = 8;

/// Replaces the token in a body: a server may repeat what it was sent.
fn without_token<'a>(body: &'a [u8], token: &str) -> Cow<'a, [u8]> {
    let token = token.as_bytes();
    if token.len() < SHORTEST_TOKEN || !body.windows(token.len()).any(|window| window == token) {
        return body.into();
    }
    let (mut kept, mut rest) = (Vec::with_capacity(body.len()), body);
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(token) {
            kept.extend_from_slice(b"[token]");
            rest = tail;
        } else {
            kept.push(byte);
            rest = tail;
        }
    }
    kept.into()
}

/// Returns the innermost cause, the most specific one: `Connection refused`, not `error sending request`.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // An HTTP/2 error ends with the server's words, (b"…"). Cut them off.
    let text = cause.to_string();
    text.split(" (b\"").next().unwrap_or_default().to_owned()
}

/// Describes an error without the server's own words.
fn describe(asked_for: Asked, status: u16, api: Option<&ApiError>) -> String {
    let Some(api) = api else {
        return match (asked_for, status) {
            (_, 404) => " with a page that is not the API's; check api.base_url".to_owned(),
            (_, 400..=499) => " with a page that is not the API's: from a proxy or a firewall on the way?".to_owned(),
            _ => String::new(),
        };
    };
    format!(", {api}")
}

fn describe_other(other: Option<&Error>) -> String {
    match other {
        Some(other) => format!("with the other kind of token: {other}"),
        None => "to read it with its user's token, enqueue it again with --user-id and --reopen, and configure client credentials (section auth)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_body_does_not_contain_the_token() {
        let kept = |body: &str, token| String::from_utf8(without_token(body.as_bytes(), token).into_owned());
        let body = "Bearer abcdefgh is no good: abcdefgh, abcdefg";
        assert_eq!(kept(body, "abcdefgh").as_deref(), Ok("Bearer [token] is no good: [token], abcdefg"));
        assert_eq!(kept("a token", "token").as_deref(), Ok("a token"), "too short to differ from a word");
    }

    #[test]
    fn only_documented_errors_of_the_token_endpoint_are_named() {
        let described = |body: &str| {
            let api = ApiError::in_token_body(body.as_bytes());
            describe(Asked::Token, 400, api.as_ref())
        };
        assert_eq!(described(r#"{"error":"invalid_scope","error_description":"SECRET"}"#), ", invalid_scope");
        assert_eq!(described(r#"{"error":"SECRET"}"#), ", an error without a code");
        assert_eq!(described(r#"{"error":{"message":"SECRET","code":1002}}"#), ", code 1002");
        assert!(described("<html>").contains("not the API's"));
    }

    #[test]
    fn error_texts_repeat_no_word_of_the_server() {
        let body =
            br#"{"error":{"message":"SECRET words","code":9999,"errors":[{"error":{"code":77,"message":"SECRET"}}]}}"#;
        let api = ApiError::in_body(body);
        let error = Error::Status { asked_for: Asked::Messages, status: 422, api, reject: None };
        assert_eq!(
            error.to_string(),
            "asking for the messages: the server answered 422, code 77, 9999: there are several errors"
        );
        assert!(!format!("{error:?}").contains("SECRET"));
        let many: Vec<String> = (1..100).map(|code| format!(r#"{{"error":{{"code":{code}}}}}"#)).collect();
        let many = format!(r#"{{"error":{{"errors":[{}]}}}}"#, many.join(","));
        let api = ApiError::in_body(many.as_bytes());
        let error = Error::Status { asked_for: Asked::Messages, status: 400, api, reject: None };
        assert!(error.to_string().ends_with("code 1, 2, 3, 4, 5"), "{error}");
    }
}
