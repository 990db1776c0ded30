//! The simulator's own endpoint, below `/_simulator`, next to the simulated API on the same address.
//!
//! For people with curl and for tests of a process of its own: what `Running` can do in this process, over HTTP. Invariant: it is
//! neither counted nor throttled nor struck by faults.

use std::sync::Arc;
use std::time::Instant;

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
use super::faults::Fault;

/// For the help of `chatsync simulate`.
pub(super) const HELP: &str = r#"
While it runs, it is steered on the same address:
  GET    /_simulator/faults    shows the faults, how many requests each struck, and the counters
  PUT    /_simulator/faults    sets them: ["errors=0.3", "cut=0.1"]
  DELETE /_simulator/faults    ends them
  PUT    /_simulator/limit     sets the limit: {"max_requests_per_second": 10}; null: none
  DELETE /_simulator/tokens    revokes all tokens
"#;

pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/_simulator/faults", get(show).put(set_faults).delete(clear_faults))
        .route("/_simulator/limit", put(set_limit))
        .route("/_simulator/tokens", delete(revoke_tokens))
        .with_state(api)
}

/// What cannot be done, and why.
struct Complaint(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    max_requests_per_second: Option<u32>,
}

/// `GET /_simulator/faults`, and the answer to every change: the faults with the requests they struck, and the counters.
async fn show(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(state(&api))
}

/// `PUT /_simulator/faults`: a JSON array of faults as `--fault` takes them.
async fn set_faults(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<Value>, Complaint> {
    let faults: Vec<String> = read(&body)?;
    let faults: Result<Vec<Fault>, _> = faults.iter().map(|text| text.parse()).collect();
    api.faults.set(faults.map_err(|error| Complaint(error.to_string()))?);
    Ok(Json(state(&api)))
}

/// `DELETE /_simulator/faults`
async fn clear_faults(State(api): State<Arc<Api>>) -> Json<Value> {
    api.faults.set(Vec::new());
    Json(state(&api))
}

/// `PUT /_simulator/limit`: `{"max_requests_per_second": 10}`; null = no ceiling, 0 = every request gets a 429.
async fn set_limit(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<Value>, Complaint> {
    let limit: Limit = read(&body)?;
    api.limit.set(limit.max_requests_per_second);
    Ok(Json(state(&api)))
}

/// `DELETE /_simulator/tokens`: revokes all that were issued.
async fn revoke_tokens(State(api): State<Arc<Api>>) -> Json<Value> {
    api.tokens.revoke_all(Instant::now());
    Json(state(&api))
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
