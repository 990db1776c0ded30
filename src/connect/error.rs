//! Errors between a request and a decoded reply, and what to do about each.
//!
//! [`Error::kind`] maps an error to its row of the policy table; [`Error::stops_the_run`] says whether every other
//! order would fail as well. Error texts hold no chat text, name, token or URL.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::text::without_bom;
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

/// Why no request can be sent.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// HTTPS is needed and the system has no root certificates.
    #[error(
        "cannot set up HTTPS: {}; install the system's root certificates (package ca-certificates), or name a file that \
         holds them in SSL_CERT_FILE",
        innermost(.0)
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
        let is_about_the_client = |name| matches!(name, "invalid_client" | "unauthorized_client");
        matches!(self, Self::Status { api: Some(api), .. } if api.oauth.is_some_and(is_about_the_client))
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
            Error::Status { api: Some(api), .. } => api.codes.first().copied(),
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

/// The API's description of an error, in either documented shape: `{"error": {"message": …, "code": …, "errors":
/// [{"error": {…}}, …]}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Instacart's error codes: that of the error and those of nested errors. May be empty, as `code` may be null.
    codes: BTreeSet<i64>,
    /// The OAuth 2.0 error (RFC 6749, section 5.2), if it is one.
    oauth: Option<&'static str>,
}

/// The errors of RFC 6749, section 5.2.
const OAUTH_ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

impl ApiError {
    /// The order does not exist (chat endpoint).
    pub const RESOURCE_NOT_FOUND: i64 = 4000;
    /// The order needs its user's token instead of the client's.
    pub const USER_NOT_FOUND: i64 = 4001;

    /// Larger bodies are not parsed as errors: a tree takes many times the size of its text.
    const MAX_BODY_BYTES: usize = 64 * 1024;

    /// Returns the error in a body of either documented shape, if it holds one.
    #[must_use]
    pub fn in_body(body: &[u8]) -> Option<Self> {
        let Some(Value::Object(error)) = error_in(body) else { return None };
        let mut codes = BTreeSet::new();
        collect_codes(&error, &mut codes);
        let says_something = error.get("message").and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        (says_something || !codes.is_empty()).then_some(Self { codes, oauth: None })
    }

    /// Like [`in_body`](Self::in_body), for the token endpoint, which may also use OAuth 2.0's `{"error":
    /// "invalid_client"}`.
    #[must_use]
    pub fn in_token_body(body: &[u8]) -> Option<Self> {
        match error_in(body) {
            Some(Value::String(name)) => {
                let oauth = OAUTH_ERRORS.into_iter().find(|known| *known == name);
                Some(Self { codes: BTreeSet::new(), oauth })
            }
            _ => Self::in_body(body),
        }
    }

    #[must_use]
    pub fn has(&self, code: i64) -> bool {
        self.codes.contains(&code)
    }
}

fn error_in(body: &[u8]) -> Option<Value> {
    if body.len() > ApiError::MAX_BODY_BYTES {
        return None;
    }
    let mut body: Map<String, Value> = serde_json::from_slice(without_bom(body)).ok()?;
    body.remove("error")
}

/// The recursion is bounded: `serde_json` reads at most 128 levels.
fn collect_codes(error: &Map<String, Value>, codes: &mut BTreeSet<i64>) {
    codes.extend(error.get("code").and_then(code));
    for inner in error.get("errors").and_then(Value::as_array).into_iter().flatten() {
        if let Some(inner) = inner.get("error").unwrap_or(inner).as_object() {
            collect_codes(inner, codes);
        }
    }
}

/// Parses a whole number, also one in a string or with a fraction of zeros.
fn code(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let whole = text.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|digit| digit == b'0'));
    whole.map_or(text.as_str(), |(whole, _)| whole).parse().ok()
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

/// Most codes listed in one error text.
const MAX_LISTED_CODES: usize = 5;

/// Describes an error without the server's own words.
fn describe(asked_for: Asked, status: u16, api: Option<&ApiError>) -> String {
    let Some(api) = api else {
        return match (asked_for, status) {
            (_, 404) => " with a page that is not the API's; check api.base_url".to_owned(),
            (_, 400..=499) => " with a page that is not the API's: from a proxy or a firewall on the way?".to_owned(),
            _ => String::new(),
        };
    };
    let codes = api.codes.iter().take(MAX_LISTED_CODES).map(|code| match meaning(*code) {
        Some(meaning) => format!("{code}: {meaning}"),
        None => code.to_string(),
    });
    let codes = codes.collect::<Vec<_>>().join(", ");
    match api.oauth {
        Some(name) => format!(", {name}"),
        None if codes.is_empty() => ", an error without a code".to_owned(),
        None => format!(", code {codes}"),
    }
}

/// Returns the documented meaning of a code.
fn meaning(code: i64) -> Option<&'static str> {
    Some(match code {
        ApiError::RESOURCE_NOT_FOUND => "resource not found",
        ApiError::USER_NOT_FOUND => "user ID not found, the order needs another kind of token",
        1001 => "a field is missing or not acceptable",
        9999 => "there are several errors",
        _ => return None,
    })
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

    fn codes(body: &str) -> Option<Vec<i64>> {
        ApiError::in_body(body.as_bytes()).map(|error| error.codes.into_iter().collect())
    }

    #[test]
    fn the_api_error_is_found_in_both_documented_shapes_and_nowhere_else() {
        let single = r#"{"error": {"message": "Resource not found", "code": 4000}, "meta": {"key": "order_id"}}"#;
        let multiple = r#"{"error": {"message": "There were issues", "code": 9999, "errors": [{"error": {"message": "can't be blank", "code": 1001}, "meta": {"key": "order_id"}}, {"error": {"code": 4000}}]}}"#;
        assert_eq!(codes(single), Some(vec![4000]));
        assert_eq!(codes(multiple), Some(vec![1001, 4000, 9999]));
        assert_eq!(codes(&format!("\u{feff}{single}")), Some(vec![4000]));
        for without_code in
            [r#"{"error":{"message":"No such route","code":null}}"#, r#"{"error":{"message":"x","errors":[]}}"#]
        {
            assert_eq!(codes(without_code), Some(vec![]), "{without_code}");
        }
        let too_large = format!(r#"{{"error":{{"code":4000,"message":"{}"}}}}"#, "x".repeat(ApiError::MAX_BODY_BYTES));
        for other in [
            "<html>404</html>",
            "{}",
            r#"{"error":"not found"}"#,
            r#"{"error":{}}"#,
            r#"{"error":null}"#,
            r#"{"error":[4000]}"#,
            r#"{"error":{"code":null,"message":null}}"#,
            r#"{"error":{"code":"E-12","message":" "}}"#,
            r#"{"error":{"message":{"code":4000}}}"#,
            r#"{"code":4000,"message":"Resource not found"}"#,
            r#"{"errors":[{"error":{"code":4000}}]}"#,
            r#"[{"error":{"code":4000}}]"#,
            r#"{"error":{"code":4000}} trailing"#,
            r#"{"error":{"code":4000}"#,
            "",
            "[]",
            "4000",
            &too_large,
        ] {
            assert_eq!(codes(other), None, "{other}");
        }
    }

    #[test]
    fn codes_are_read_in_any_notation_and_at_any_depth() {
        for code in ["4000", "4000.0", r#""4000""#, r#""4000 ""#, r#"" 4000.0""#] {
            let single = format!(r#"{{"error":{{"code":{code}}}}}"#);
            assert_eq!(codes(&single), Some(vec![4000]), "{code}");
            let twice = format!(
                r#"{{"error":{{"code":9999,"errors":[{{"error":{{"errors":[{{"error":{{"code":{code}}}}}]}}}}]}}}}"#
            );
            assert_eq!(codes(&twice), Some(vec![4000, 9999]), "{code}");
            let bare = format!(r#"{{"error":{{"errors":[null,7,{{"code":{code}}}]}}}}"#);
            assert_eq!(codes(&bare), Some(vec![4000]), "{code}");
        }
        for code in ["4000.5", "true", "[4000]", r#""4000x""#, r#""""#, "null", "1e400"] {
            let json = format!(r#"{{"error":{{"message":"no","code":{code}}}}}"#);
            assert!(codes(&json).is_none_or(|codes| codes.is_empty()), "{code}");
        }
    }

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
