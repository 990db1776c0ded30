//! The state that the routes of the simulated API share, and their refusals.
//!
//! Invariant: a refusal has the JSON body of the real API, except for an unknown path, which answers as a proxy would.
//! Only code 4000 is documented; the other codes are invented.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::content::View;
use super::faults::FaultSchedule;
use super::life::{Life, Present};
use super::limit::RequestLimit;
use super::options::Options;
use super::tokens::{Access, Tokens};

/// The state that the routes share.
pub(super) struct Api {
    pub(super) options: Options,
    pub(super) tokens: Tokens,
    pub(super) limit: RequestLimit,
    pub(super) counters: Counters,
    pub(super) faults: FaultSchedule,
    /// Ends the waits that faults cause.
    pub(super) stopping: CancellationToken,
    pub(super) present: Present,
    receipts: AtomicBool,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) chat_requests: AtomicU64,
    pub(super) token_requests: AtomicU64,
    pub(super) throttled: AtomicU64,
    pub(super) unauthorized: AtomicU64,
}

/// Numbers of requests so far. Faults count like replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub requests: u64,
    /// Chat requests that were not throttled.
    pub chat_requests: u64,
    /// Requests to issue a token that were not throttled.
    pub token_requests: u64,
    /// Requests answered with 429.
    pub throttled: u64,
    /// Requests answered with 401.
    pub unauthorized: u64,
}

/// Why the API refuses a request.
pub(super) enum Refused {
    BadRequest(&'static str),
    /// Fields of the JSON body that are missing or empty.
    Blank(Vec<&'static str>),
    Unauthorized(&'static str),
    Forbidden(&'static str),
    OrderNotFound,
    TooManyRequests,
    UnknownPath,
}

impl Api {
    pub(super) fn new(options: Options) -> Self {
        Self {
            tokens: Tokens::new(options.token_lifetime),
            limit: RequestLimit::new(options.max_requests_per_second),
            counters: Counters::default(),
            faults: FaultSchedule::new(options.seed, options.faults.clone()),
            stopping: CancellationToken::new(),
            present: Present::new(),
            receipts: AtomicBool::new(false),
            options,
        }
    }

    pub(super) fn show_read_receipts(&self) {
        self.receipts.store(true, Relaxed);
    }

    /// Returns what of an order is visible now.
    pub(super) fn view(&self, order_id: &str) -> View {
        match self.options.lifecycle {
            Some(lifecycle) => View::At(Life::of(lifecycle, self.options.seed, order_id), self.present.now()),
            None => View::Whole { receipts: self.receipts_appeared() },
        }
    }

    fn receipts_appeared(&self) -> bool {
        let due = |after| self.present.elapsed() >= after;
        self.receipts.load(Relaxed) || self.options.read_after.is_some_and(due)
    }

    /// Returns what the bearer of the request's token may see.
    pub(super) fn access(&self, headers: &HeaderMap) -> Result<Access, Refused> {
        let token = bearer(headers).ok_or(Refused::Unauthorized("The access token is missing"))?;
        if token == self.options.static_token {
            return Ok(Access::All);
        }
        self.tokens.access(token, self.present.instant()).ok_or(Refused::Unauthorized("The access token is invalid"))
    }

    /// Revokes the request's token, if it was issued.
    pub(super) fn revoke_bearer(&self, headers: &HeaderMap) {
        if let Some(token) = bearer(headers) {
            self.tokens.revoke(token, self.present.instant());
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl Counters {
    pub(super) fn snapshot(&self) -> Stats {
        Stats {
            requests: self.requests.load(Relaxed),
            chat_requests: self.chat_requests.load(Relaxed),
            token_requests: self.token_requests.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
            unauthorized: self.unauthorized.load(Relaxed),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, message, code) = match self {
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, message, 1000),
            Self::Unauthorized(message) => (StatusCode::UNAUTHORIZED, message, 4010),
            Self::Forbidden(message) => (StatusCode::FORBIDDEN, message, 4030),
            Self::OrderNotFound => (StatusCode::NOT_FOUND, "Resource not found", 4000),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "Too many requests", 4290),
            Self::Blank(fields) => return blank(&fields),
            Self::UnknownPath => return page_not_found(),
        };
        let body = json!({"error": {"message": message, "code": code}});
        (status, axum::Json(body)).into_response()
    }
}

/// Makes the API's format for several errors at once.
fn blank(fields: &[&str]) -> Response {
    let blank = |field| json!({"error": {"message": "can't be blank", "code": 1001}, "meta": {"key": field}});
    let errors: Vec<_> = fields.iter().map(blank).collect();
    let message = "There were issues with your request";
    let body = json!({"error": {"message": message, "code": 9999, "errors": errors}});
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

fn page_not_found() -> Response {
    let page = "<html>\n<head><title>404 Not Found</title></head>\n<body><h1>404 Not Found</h1></body>\n</html>\n";
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}
