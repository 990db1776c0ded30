//! The simulator's control endpoint, below `/_simulator`, on the address of the simulated API.
//!
//! For people with curl, and for tests that run the simulator as a process: what `Running` offers in this process,
//! over HTTP. Invariant: its requests are not counted, throttled or hit by faults.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::Api;
use super::faults::InjectedFault;
use super::orders;
use crate::config::parse_duration;

pub(super) const HELP: &str = r#"
While it runs, control it on the same address:
  GET    /_simulator/faults    shows the faults, how many requests each struck, and the counters
  PUT    /_simulator/faults    sets them: ["errors=0.3", "cut=0.1"]
  DELETE /_simulator/faults    ends them
  GET    /_simulator/clock     shows the time in the simulator
  POST   /_simulator/clock     moves it forward: {"advance": "1h"}
  GET    /_simulator/orders    lists the orders that are placed by now, as NDJSON for `enqueue`
  PUT    /_simulator/limit     sets the limit: {"max_requests_per_second": 10}; null: none
  DELETE /_simulator/tokens    revokes all tokens
"#;

pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/_simulator/faults", get(show).put(set_faults).delete(clear_faults))
        .route("/_simulator/clock", get(show_time).post(advance))
        .route("/_simulator/orders", get(list_placed))
        .route("/_simulator/limit", put(set_limit))
        .route("/_simulator/tokens", delete(revoke_tokens))
        .with_state(api)
}

/// Why a control request failed.
struct Complaint(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitBody {
    max_requests_per_second: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance: String,
}

/// `GET /_simulator/faults`, and the reply to every change: the faults with the number of requests they hit, and the
/// counters.
async fn show(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(state(&api))
}

/// `PUT /_simulator/faults`: a JSON array of faults as `--fault` takes them.
async fn set_faults(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<Value>, Complaint> {
    let faults: Vec<String> = read(&body)?;
    let faults: Result<Vec<InjectedFault>, _> = faults.iter().map(|text| text.parse()).collect();
    api.faults.set(faults.map_err(|error| Complaint(error.to_string()))?);
    Ok(Json(state(&api)))
}

/// `DELETE /_simulator/faults`
async fn clear_faults(State(api): State<Arc<Api>>) -> Json<Value> {
    api.faults.set(Vec::new());
    Json(state(&api))
}

/// `PUT /_simulator/limit`: `{"max_requests_per_second": 10}`; null means no ceiling, 0 answers every request with
/// 429.
async fn set_limit(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<Value>, Complaint> {
    let limit: LimitBody = read(&body)?;
    api.limit.set(limit.max_requests_per_second);
    Ok(Json(state(&api)))
}

/// `DELETE /_simulator/tokens`: revokes all issued tokens.
async fn revoke_tokens(State(api): State<Arc<Api>>) -> Json<Value> {
    api.tokens.revoke_all(api.present.instant());
    Json(state(&api))
}

/// `GET /_simulator/clock`
async fn show_time(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({"now": api.present.now()}))
}

/// `POST /_simulator/clock`: `{"advance": "1h"}`
async fn advance(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<Value>, Complaint> {
    let Advance { advance } = read(&body)?;
    let by: Duration = parse_duration(&advance).map_err(Complaint)?;
    api.present.advance(by);
    Ok(show_time(State(api)).await)
}

/// `GET /_simulator/orders`: what the retailer's own system knows by now, one JSON object per line.
async fn list_placed(State(api): State<Arc<Api>>) -> String {
    let now = api.present.now();
    let mut lines = String::new();
    for order in orders::orders(&api.options).filter(|order| order.is_placed(now)) {
        let completed_at = order.completed_by(now);
        let line = json!({
            "order_id": order.order_id, "connect_user_id": order.connect_user_id, "completed_at": completed_at,
        });
        writeln!(lines, "{line}").expect("writing to a String does not fail");
    }
    lines
}

fn state(api: &Api) -> Value {
    let faults = api.faults.struck().into_iter().map(|(fault, struck)| json!({"fault": fault, "struck": struck}));
    json!({"faults": faults.collect::<Vec<_>>(), "stats": api.counters.snapshot()})
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Complaint> {
    serde_json::from_slice(body).map_err(|error| Complaint(error.to_string()))
}

impl IntoResponse for Complaint {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({"error": self.0}))).into_response()
    }
}
