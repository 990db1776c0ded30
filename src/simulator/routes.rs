//! The routes of the simulated API.
//!
//! `start` serves the router. Every request first passes `gate`, which counts, throttles and injects faults.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::extract::{ConnectInfo, Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::api::{Api, Refused};
use super::content::{self, View};
use super::faults::{Forgotten, Target, strike};
use super::tokens::Access;
use super::wire::Scissors;
use super::{control, grants, orders};

const JSON: &str = "application/json";

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
        return Refused::TooManyRequests.into_response();
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
) -> Result<Response, Refused> {
    if !api.options.latency.is_zero() {
        tokio::time::sleep(api.options.latency).await;
    }
    let access = api.access(&headers)?;
    if headers.get(header::ACCEPT).is_none_or(|accept| accept != JSON) {
        return Err(Refused::BadRequest("Accept must be application/json"));
    }
    if let Access::User(user) = access
        && *user != orders::connect_user_id(&api.options, &order_id)
    {
        return Err(Refused::OrderNotFound);
    }
    let view = if forgotten.is_some() { View::Forgotten } else { api.view(&order_id) };
    let body = content::seen(&api.options, &order_id, view).ok_or(Refused::OrderNotFound)?;
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

async fn unknown_path() -> Refused {
    Refused::UnknownPath
}
