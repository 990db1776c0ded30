//! Plays answers through the engine, and reads what it stored.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use anyhow::ensure;
use chatsync::db::queue::{self, Retry};
use serde_json::Value;

use super::replies::Step;
use crate::support::http::{Answer, Recorder};
use crate::support::{GUARD_OFF, Lab};

/// New orders, and an API with a list of answers for each.
pub(super) struct Play {
    api: Recorder,
    answers: Arc<Mutex<HashMap<String, VecDeque<Answer>>>>,
}

impl Play {
    pub(super) async fn start(lab: &Lab, orders: &[&str]) -> anyhow::Result<Self> {
        sqlx::query(
            "TRUNCATE sync.order_queue, sync.rejects, chat.orders, chat.messages, chat.users, chat.participants",
        )
        .execute(&lab.pool)
        .await?;
        lab.enqueue(orders).await?;
        let answers = Arc::new(Mutex::new(HashMap::<String, VecDeque<Answer>>::new()));
        let given = Arc::clone(&answers);
        let api = Recorder::start(move |asked| {
            let order = asked.target.split('/').nth(4).expect("an order");
            let mut answers = given.lock().expect("not poisoned");
            answers.get_mut(order).and_then(VecDeque::pop_front).expect("no request too many")
        })
        .await;
        Ok(Self { api, answers })
    }

    /// One run in which each of these orders gets its next answer.
    pub(super) async fn turn(&self, lab: &Lab, steps: &[(&str, i64, Option<&Step>)]) -> anyhow::Result<()> {
        sqlx::query("UPDATE sync.order_queue SET due_at = now() + interval '1 day'").execute(&lab.pool).await?;
        for (order, offset, step) in steps {
            let Some(step) = step else { continue };
            if matches!(step, Step::FedAgain) {
                feed_again(lab, order).await?;
                continue;
            }
            let answers = step.answers(*offset).into();
            self.answers.lock().expect("not poisoned").insert((*order).to_owned(), answers);
            let update = "UPDATE sync.order_queue SET due_at = now() WHERE order_id = $1 RETURNING state";
            let state: String = sqlx::query_scalar(update).bind(order).fetch_one(&lab.pool).await?;
            if !["pending", "open"].contains(&state.as_str()) {
                queue::retry(&lab.store, &Retry { order_ids: vec![(*order).to_owned()], ..Retry::default() }).await?;
            }
        }
        // A single order is no evidence for the end of another.
        let report = lab.sync(self.api.url(), &[GUARD_OFF]).await?;
        ensure!(report.failure.is_none(), "the run failed: {:?}", report.failure);
        ensure!(
            self.answers.lock().expect("not poisoned").values().all(VecDeque::is_empty),
            "an answer that was not requested"
        );
        Ok(())
    }
}

/// Ends the retention of an ended order and enqueues it again.
async fn feed_again(lab: &Lab, order: &str) -> anyhow::Result<()> {
    sqlx::query("DELETE FROM sync.order_queue WHERE order_id = $1 AND state IN ('closed', 'expired', 'quiet')")
        .bind(order)
        .execute(&lab.pool)
        .await?;
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, due_at) VALUES ($1, now() + interval '1 day') ON CONFLICT DO NOTHING",
    )
    .bind(order)
    .execute(&lab.pool)
    .await?;
    Ok(())
}

/// Schema `chat`, and the states of the queue.
pub(super) struct Rows(Vec<(String, Value)>);

/// Times of writing, not content.
const TOUCHED: [&str; 4] = ["first_synced_at", "first_seen_at", "observed_at", "updated_at"];

impl Rows {
    pub(super) async fn read(lab: &Lab) -> anyhow::Result<Self> {
        let mut rows = Vec::new();
        for line in lab.dump("chat").await? {
            let (table, row) = line.split_once(' ').expect("a table's name");
            rows.push((table.to_owned(), serde_json::from_str(row)?));
        }
        let queue = "SELECT jsonb_build_object('order_id', order_id, 'state', state) FROM sync.order_queue";
        let states: Vec<Value> = sqlx::query_scalar(queue).fetch_all(&lab.pool).await?;
        rows.extend(states.into_iter().map(|row| ("queue".to_owned(), row)));
        Ok(Self(rows))
    }

    /// One line per row. Of times that depend on the clock, only whether they are set.
    pub(super) fn lines(&self) -> BTreeSet<String> {
        let line = |(table, row): &(String, Value)| {
            let mut row = content(row);
            for name in ["removed_at", "closed_at"] {
                if let Some(time) = row.get_mut(name) {
                    *time = (!time.is_null()).into();
                }
            }
            format!("{table} {row}")
        };
        self.0.iter().map(line).collect()
    }

    pub(super) fn expect_updated_at_to_move_with_content_only(&self, before: &Self) -> anyhow::Result<()> {
        for (table, row) in &self.0 {
            let earlier = before.0.iter().find(|(other, earlier)| table == other && content(row) == content(earlier));
            let is_same = earlier.is_none_or(|(_, earlier)| earlier["updated_at"] == row["updated_at"]);
            ensure!(is_same, "rewritten for nothing: {table} {row}");
        }
        Ok(())
    }

    /// Which messages are known and read, and which people in which roles. User ids start after `offset`.
    pub(super) fn growing_facts(&self, order: &str, offset: i64) -> BTreeSet<String> {
        let id = |row: &Value| row["user_id"].as_i64().expect("an id") - offset;
        let fact = |(table, row): &(String, Value)| match table.as_str() {
            "messages" if row["order_id"] == order => Some(format!("{} read: {}", row["message_id"], row["is_read"])),
            "users" if (1..1_000).contains(&id(row)) => Some(format!("{} {}", row["user_type"], id(row))),
            "participants" if row["order_id"] == order => {
                Some(format!("{} {} as {}", row["user_type"], id(row), row["role"]))
            }
            _ => None,
        };
        self.0.iter().filter_map(fact).collect()
    }
}

fn content(row: &Value) -> Value {
    let mut row = row.clone();
    row.as_object_mut().expect("a row").retain(|name, _| !TOUCHED.contains(&name.as_str()));
    row
}
