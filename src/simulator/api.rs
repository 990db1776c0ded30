//! The routes of the simulated API and what they refuse.
//!
//! `start` serves the router; every request first passes `gate`, which counts and throttles. Invariant: a refusal has the JSON
//! body of the real API, except for an unknown path, which answers as a proxy would. Only code 4000 is documented; the other
//! codes are made up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use super::grants;
use super::limit::Limit;
use super::tokens::{Access, Tokens};
use super::{Options, Stats, content, orders};

const JSON: &str = "application/json";

/// What the routes share.
pub(super) struct Api {
    pub(super) options: Options,
    pub(super) tokens: Tokens,
    pub(super) limit: Limit,
    pub(super) counters: Counters,
    started: Instant,
    receipts: AtomicBool,
}

#[derive(Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    chat_requests: AtomicU64,
    pub(super) token_requests: AtomicU64,
    throttled: AtomicU64,
    unauthorized: AtomicU64,
}

/// A request that the API does not grant.
pub(super) enum Refusal {
    BadRequest(&'static str),
    /// Fields of the JSON body that are missing or empty.
    Blank(Vec<&'static str>),
    Unauthorized(&'static str),
    Forbidden(&'static str),
    OrderNotFound,
    TooManyRequests,
}

pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v2/oauth/token", post(grants::issue))
        .route("/v2/oauth/revoke_access_token", post(grants::revoke))
        .route("/v2/post_checkout/chat/{order_id}/messages", get(chat_messages))
        .fallback(unknown_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), gate))
        .with_state(api)
}

/// Where every request passes: the place for anything that may happen to any of them.
async fn gate(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    api.counters.requests.fetch_add(1, Relaxed);
    if !api.limit.admit(api.started.elapsed()) {
        api.counters.throttled.fetch_add(1, Relaxed);
        return Refusal::TooManyRequests.into_response();
    }
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        api.counters.unauthorized.fetch_add(1, Relaxed);
    }
    response
}

async fn chat_messages(
    State(api): State<Arc<Api>>,
    Path(order_id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    api.counters.chat_requests.fetch_add(1, Relaxed);
    if !api.options.latency.is_zero() {
        tokio::time::sleep(api.options.latency).await;
    }
    let access = api.access(&headers)?;
    if headers.get(header::ACCEPT).is_none_or(|accept| accept != JSON) {
        return Err(Refusal::BadRequest("Accept must be application/json"));
    }
    if let Access::User(user) = access
        && *user != orders::connect_user_id(&api.options, &order_id)
    {
        return Err(Refusal::OrderNotFound);
    }
    let body = content::reply(&api.options, &order_id, api.receipts_appeared()).ok_or(Refusal::OrderNotFound)?;
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

async fn unknown_path() -> (StatusCode, Html<&'static str>) {
    let page = "<html>\n<head><title>404 Not Found</title></head>\n<body><h1>404 Not Found</h1></body>\n</html>\n";
    (StatusCode::NOT_FOUND, Html(page))
}

impl Api {
    pub(super) fn new(options: Options) -> Self {
        Self {
            tokens: Tokens::new(options.token_lifetime),
            limit: Limit::new(options.max_requests_per_second),
            counters: Counters::default(),
            started: Instant::now(),
            receipts: AtomicBool::new(false),
            options,
        }
    }

    pub(super) fn show_read_receipts(&self) {
        self.receipts.store(true, Relaxed);
    }

    fn receipts_appeared(&self) -> bool {
        let due = |after| self.started.elapsed() >= after;
        self.receipts.load(Relaxed) || self.options.read_after.is_some_and(due)
    }

    /// What the bearer of the request's token may see.
    fn access(&self, headers: &HeaderMap) -> Result<Access, Refusal> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(Refusal::Unauthorized("The access token is missing"))?;
        if token == self.options.static_token {
            return Ok(Access::All);
        }
        self.tokens.access(token, Instant::now()).ok_or(Refusal::Unauthorized("The access token is invalid"))
    }
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

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message, code) = match self {
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, message, 1000),
            Self::Unauthorized(message) => (StatusCode::UNAUTHORIZED, message, 4010),
            Self::Forbidden(message) => (StatusCode::FORBIDDEN, message, 4030),
            Self::OrderNotFound => (StatusCode::NOT_FOUND, "Resource not found", 4000),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "Too many requests", 4290),
            Self::Blank(fields) => return blank(&fields),
        };
        let body = json!({"error": {"message": message, "code": code}});
        (status, axum::Json(body)).into_response()
    }
}

/// The API's shape for several errors at once.
fn blank(fields: &[&str]) -> Response {
    let blank = |field| json!({"error": {"message": "can't be blank", "code": 1001}, "meta": {"key": field}});
    let errors: Vec<_> = fields.iter().map(blank).collect();
    let message = "There were issues with your request";
    let body = json!({"error": {"message": message, "code": 9999, "errors": errors}});
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}
