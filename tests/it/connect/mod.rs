//! What is sent to the API, and what every kind of reply does to its order.
//!
//! Each test does one run in this process against a server of its own (`Recorder`, or a bare socket where the bytes
//! themselves are wrong), or against the simulated API.

mod auth;
mod bodies;
mod http2;
mod outage;
mod refusals;
mod requests;
mod statuses;
mod token_kinds;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::http::{Answer, Asked};
use crate::support::{Lab, Labs};

pub(crate) fn tests(labs: &Arc<Labs>) -> Vec<Trial> {
    let tests = [
        auth::tests,
        bodies::tests,
        http2::tests,
        outage::tests,
        refusals::tests,
        requests::tests,
        statuses::tests,
        token_kinds::tests,
        transport::tests,
    ];
    tests.iter().flat_map(|tests| tests(labs)).collect()
}

/// An order's row in the queue.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Queued {
    state: String,
    failures: i32,
    last_error_kind: Option<String>,
    last_error: Option<String>,
    is_due: bool,
    is_closed: bool,
}

impl Queued {
    async fn row(lab: &Lab, order_id: &str) -> anyhow::Result<Self> {
        let query = "SELECT state, failures, last_error_kind, last_error, due_at <= now() AS is_due,
                            closed_at IS NOT NULL AS is_closed
                     FROM sync.order_queue WHERE order_id = $1";
        Ok(sqlx::query_as(query).bind(order_id).fetch_one(&lab.pool).await?)
    }

    fn kind(&self) -> &str {
        self.last_error_kind.as_deref().unwrap_or_default()
    }

    fn error(&self) -> &str {
        self.last_error.as_deref().unwrap_or_default()
    }

    /// Asserts that an order was never read, failed this often, and waits for its next attempt.
    fn expect_failed(&self, kind: &str, failures: i32) {
        assert_eq!((self.state.as_str(), self.kind(), self.failures), ("pending", kind, failures), "{self:?}");
        assert!(!self.is_due && !self.is_closed, "{self:?}");
    }

    /// Asserts that an order was read without a complaint.
    fn expect_read(&self) {
        assert_eq!((self.state.as_str(), self.failures, &self.last_error_kind), ("open", 0, &None), "{self:?}");
        assert_eq!(self.last_error, None);
    }
}

fn conversation() -> Answer {
    Answer::json(200, &conversation_json())
}

fn conversation_json() -> serde_json::Value {
    json!({
        "chat_messages": [{
            "id": 1, "order_id": 77, "created_at": "2026-01-02T03:04:05Z", "read": false, "body": "on my way",
            "sender_id": 5, "sender_type": "driver", "recipient_id": 6, "recipient_type": "user",
        }],
        "metadata": {
            "customer": {"id": 6, "display_name": "Kim", "avatar_url": ""},
            "current_shopper": {"id": 5, "display_name": "Lee", "avatar_url": ""},
            "shoppers": [{"id": 5, "display_name": "Lee", "avatar_url": ""}],
            "is_expired": false,
        },
    })
}

/// Returns an error in the API's format.
fn api_error(status: u16, code: i64, message: &str) -> Answer {
    Answer::json(status, &json!({"error": {"message": message, "code": code}, "meta": {"key": "order_id"}}))
}

/// Returns these answers in turn, then the last one for ever.
fn in_turn(answers: Vec<Answer>) -> impl Fn(&Asked) -> Answer + Send + Sync {
    let turn = AtomicUsize::new(0);
    move |_| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        answers[turn.min(answers.len() - 1)].clone()
    }
}
