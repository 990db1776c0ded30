//! Schema `chat` after one or several replies: every value, and what a later reply may change.

mod changes;
mod coverage;
mod rows;
mod unreadable;

use std::sync::{Arc, Mutex};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, Labs};

pub(crate) fn tests(labs: &Arc<Labs>) -> Vec<Trial> {
    let tests = [changes::tests, coverage::tests, rows::tests, unreadable::tests];
    tests.iter().flat_map(|tests| tests(labs)).collect()
}

/// An API that gives one answer for every order, until it changes.
struct Api {
    server: Recorder,
    answer: Arc<Mutex<Answer>>,
}

impl Api {
    async fn start(reply: Value) -> Self {
        let answer = Arc::new(Mutex::new(Answer::json(200, &reply)));
        let given = Arc::clone(&answer);
        let server = Recorder::start(move |_| given.lock().expect("not poisoned").clone()).await;
        Self { server, answer }
    }

    fn url(&self) -> &str {
        self.server.url()
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    /// Syncs the order `order`, and enqueues it if necessary.
    async fn sync(&self, lab: &Lab) -> anyhow::Result<chatsync::db::runs::Run> {
        lab.enqueue(&["order"]).await?;
        lab.make_all_due().await?;
        Ok(lab.sync(self.url(), &[]).await?.run)
    }

    async fn sync_reply(&self, lab: &Lab, reply: Value) -> anyhow::Result<chatsync::db::runs::Run> {
        self.answer(Answer::json(200, &reply));
        self.sync(lab).await
    }
}

/// As `chatsync retry --order`.
async fn put_back(lab: &Lab) -> anyhow::Result<()> {
    let retry = chatsync::db::queue::Retry { order_ids: vec!["order".to_owned()], ..Default::default() };
    chatsync::db::queue::retry(&lab.store, &retry).await?;
    Ok(())
}

/// Position and transaction of each row of schema chat: changes when a row is rewritten or locked.
async fn tuples(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "SELECT concat_ws(' ', 'm', ctid, xmin, xmax) FROM chat.messages
         UNION ALL SELECT concat_ws(' ', 'u', ctid, xmin, xmax) FROM chat.users
         UNION ALL SELECT concat_ws(' ', 'p', ctid, xmin, xmax) FROM chat.participants
         UNION ALL SELECT concat_ws(' ', 'o', ctid, xmin, xmax) FROM chat.orders
         ORDER BY 1",
    )
    .fetch_all(&lab.pool)
    .await?;
    Ok(rows)
}

/// The example of the API documentation.
fn documented_reply() -> Value {
    json!({
        "chat_messages": [{
            "id": 123_456_789, "order_id": 122_233, "created_at": "2021-01-01T00:00:00Z",
            "recipient_id": 334_354_343, "recipient_type": "user", "sender_id": 55_655_345, "sender_type": "driver",
            "read": false, "body": "MessageBody"
        }],
        "metadata": {
            "customer": {"id": 2, "display_name": "John", "avatar_url": ""},
            "current_shopper": {
                "id": 4, "display_name": "Robert",
                "avatar_url": "https://speedwagon.foundation/avatar/reospeedwagon.jpg"
            },
            "shoppers": [
                {"id": 55_655_345, "display_name": "SomeFirstName", "avatar_url": "SomeURL"},
                {"id": 123_456_789, "display_name": "SomeFirstName2", "avatar_url": "SomeURL2"},
                {
                    "id": 4, "display_name": "Robert",
                    "avatar_url": "https://speedwagon.foundation/avatar/reospeedwagon.jpg"
                }
            ]
        }
    })
}

fn three_messages() -> Value {
    let message = |id: i64, body: &str| {
        json!({
            "id": id, "order_id": 5, "created_at": format!("2026-01-01T10:0{id}:00Z"), "sender_type": "user",
            "sender_id": 1, "recipient_type": "driver", "recipient_id": 2, "read": false, "body": body
        })
    };
    json!({"chat_messages": [message(1, "first"), message(2, "second"), message(3, "third")]})
}
