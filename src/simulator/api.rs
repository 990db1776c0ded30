//! The routes of the simulated API and their refusals.
//!
//! `start` serves the router. Every request first passes `gate`, which counts, throttles and injects faults.
//! Invariant: a refusal has the JSON body of the real API, except for an unknown path, which answers as a proxy would.
//! Only code 4000 is documented; the other codes are invented.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use axum::Router;
use axum::extract::{ConnectInfo, Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::content::View;
use super::faults::{FaultSchedule, Forgotten, Target, strike};
use super::life::{Life, Present};
use super::limit::RequestLimit;
use super::tokens::{Access, Tokens};
use super::wire::Scissors;
use super::{Options, Stats, content, control, grants, orders};

const JSON: &str = "application/json";

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
    requests: AtomicU64,
    chat_requests: AtomicU64,
    token_requests: AtomicU64,
    throttled: AtomicU64,
    unauthorized: AtomicU64,
}

/// Why the API refuses a request.
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
        .with_state(Arc::clone(&api))
        .merge(control::router(api))
}

/// Middleware for every request: counts, throttles and injects faults.
async fn gate(
    State(api): State<Arc<Api>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
    next: Next,
) -> Response {
    let counters = &api.counters;
    counters.requests.fetch_add(1, Relaxed);
    if !api.limit.admit(api.present.elapsed()) {
        counters.throttled.fetch_add(1, Relaxed);
        return Refusal::TooManyRequests.into_response();
    }
    let target = match request.uri().path() {
        "/v2/oauth/token" => Target::Token,
        path if path.starts_with("/v2/post_checkout/chat/") => Target::Chat,
        _ => Target::Any,
    };
    match target {
        Target::Token => counters.token_requests.fetch_add(1, Relaxed),
        Target::Chat => counters.chat_requests.fetch_add(1, Relaxed),
        Target::Any => 0,
    };
    let blow = api.faults.next(target);
    if !blow.delay.is_zero() {
        api.stopping.run_until_cancelled(tokio::time::sleep(blow.delay)).await;
    }
    let response = strike(blow, &api, &scissors, request, next).await;
    match response.status() {
        StatusCode::UNAUTHORIZED => counters.unauthorized.fetch_add(1, Relaxed),
        StatusCode::TOO_MANY_REQUESTS => counters.throttled.fetch_add(1, Relaxed),
        _ => 0,
    };
    response
}

async fn chat_messages(
    State(api): State<Arc<Api>>,
    Path(order_id): Path<String>,
    forgotten: Option<Extension<Forgotten>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
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
    let view = if forgotten.is_some() { View::Forgotten } else { api.view(&order_id) };
    let body = content::seen(&api.options, &order_id, view).ok_or(Refusal::OrderNotFound)?;
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

pub(super) async fn unknown_path() -> (StatusCode, Html<&'static str>) {
    let page = "<html>\n<head><title>404 Not Found</title></head>\n<body><h1>404 Not Found</h1></body>\n</html>\n";
    (StatusCode::NOT_FOUND, Html(page))
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
    fn view(&self, order_id: &str) -> View {
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
    fn access(&self, headers: &HeaderMap) -> Result<Access, Refusal> {
        let token = bearer(headers).ok_or(Refusal::Unauthorized("The access token is missing"))?;
        if token == self.options.static_token {
            return Ok(Access::All);
        }
        self.tokens.access(token, self.present.instant()).ok_or(Refusal::Unauthorized("The access token is invalid"))
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

/// Makes the API's format for several errors at once.
fn blank(fields: &[&str]) -> Response {
    let blank = |field| json!({"error": {"message": "can't be blank", "code": 1001}, "meta": {"key": field}});
    let errors: Vec<_> = fields.iter().map(blank).collect();
    let message = "There were issues with your request";
    let body = json!({"error": {"message": message, "code": 9999, "errors": errors}});
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}
