//! What a fault does to a request: another reply, a corrupted one, or none.
//!
//! Called by `routes::gate` instead of the route. Invariant: nothing waits for ever; a stalled connection is cut when the
//! simulator stops.

use std::io;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::super::api::{Api, Refused};
use super::super::wire::Scissors;
use super::bodies;
use super::fault::Effect;
use super::schedule::Blow;

const JSON: &str = "application/json";

/// Marks a request whose conversation is returned empty and expired.
#[derive(Clone, Copy)]
pub(in crate::simulator) struct Forgotten;

/// Answers a request that faults hit.
pub(in crate::simulator) async fn strike(
    blow: Blow,
    api: &Api,
    scissors: &Scissors,
    mut request: Request,
    next: Next,
) -> Response {
    let mut rng = blow.rng;
    let Some(effect) = blow.effect else {
        return next.run(request).await;
    };
    match effect {
        // Both are included in the delay.
        Effect::Latency(_) | Effect::LatencySpike(_) => next.run(request).await,
        Effect::Errors | Effect::Burst => temporary_error(&mut rng),
        Effect::Status(StatusCode::NOT_FOUND) => Refused::OrderNotFound.into_response(),
        Effect::Status(status) => error(status, None),
        Effect::Unavailable(retry_after) => error(StatusCode::SERVICE_UNAVAILABLE, retry_after),
        Effect::Throttle(retry_after) => error(StatusCode::TOO_MANY_REQUESTS, retry_after),
        Effect::Unauthorized => {
            api.revoke_bearer(request.headers());
            Refused::Unauthorized("The access token is invalid").into_response()
        }
        Effect::PageNotFound => Refused::UnknownPath.into_response(),
        Effect::Redirect(url) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response(),
        Effect::Cut => scissors.cut(),
        Effect::Stall => {
            api.stopping.cancelled().await;
            scissors.cut()
        }
        Effect::CutBody => halved(next.run(request).await, None).await,
        Effect::StallBody => halved(next.run(request).await, Some(api)).await,
        Effect::Garbled => reply(bodies::noise(&mut rng)),
        Effect::OtherShape => reply(bodies::OTHER_SHAPE),
        Effect::Page => Html(bodies::PAGE).into_response(),
        Effect::NotUtf8 => {
            let (head, body) = next.run(request).await.into_parts();
            Response::from_parts(head, bodies::not_utf8(&whole(body).await).into())
        }
        Effect::WrongType => {
            let mut response = next.run(request).await;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            response
        }
        Effect::Huge(mebibytes) => reply(bodies::huge(request.uri().path(), mebibytes)),
        Effect::Bomb(mebibytes) => {
            ([(header::CONTENT_ENCODING, "gzip")], reply(bodies::bomb(mebibytes))).into_response()
        }
        Effect::Expired => {
            request.extensions_mut().insert(Forgotten);
            next.run(request).await
        }
    }
}

fn reply(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body.into()).into_response()
}

fn error(status: StatusCode, retry_after: Option<HeaderValue>) -> Response {
    let body = json!({"error": {"message": "A simulated fault", "code": 1000}});
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(retry_after) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after);
    }
    response
}

/// Makes a reply of a server that is temporarily out of order.
fn temporary_error(rng: &mut fastrand::Rng) -> Response {
    const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    let (status, retry_after) = match rng.u8(..9) {
        0..3 => (StatusCode::INTERNAL_SERVER_ERROR, None),
        3 => (StatusCode::REQUEST_TIMEOUT, None),
        4 => (UNAVAILABLE, None),
        5 => (UNAVAILABLE, Some("1")),
        6 => (UNAVAILABLE, Some("0")),
        7 => (UNAVAILABLE, Some("31536000")),
        _ => (UNAVAILABLE, Some("in a while")),
    };
    error(status, retry_after.map(HeaderValue::from_static))
}

/// Sends the first half of a response that announces all of it. Then the connection is cut, immediately or when the
/// simulator stops.
async fn halved(response: Response, stalls: Option<&Api>) -> Response {
    let (mut head, body) = response.into_parts();
    let body = whole(body).await;
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let half = body.slice(..body.len() / 2);
    let stopping = stalls.map(|api| api.stopping.clone());
    let end = async move {
        match stopping {
            Some(stopping) => stopping.cancelled().await,
            // The server flushes its buffer only while it waits for more.
            None => tokio::task::yield_now().await,
        }
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    };
    let parts = stream::iter([Ok::<_, io::Error>(half)]).chain(stream::once(end));
    Response::from_parts(head, Body::from_stream(parts))
}

async fn whole(body: Body) -> Bytes {
    to_bytes(body, usize::MAX).await.expect("the routes answer from memory")
}
