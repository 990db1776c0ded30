//! The storm guard: results that hit every order are held, and the run continues.

mod believed;
mod held;
mod refused;
mod wrong_server;

use std::sync::Arc;

use chatsync::db::runs::{Run, Trigger};
use chatsync::sync::{Progress, Request};
use libtest_mimic::Trial;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{feed, order_of};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Lab, Labs};

pub(crate) fn tests(labs: &Arc<Labs>) -> Vec<Trial> {
    let tests = [believed::tests, held::tests, refused::tests, wrong_server::tests];
    tests.iter().flat_map(|tests| tests(labs)).collect()
}

const HELD: &str = "SELECT count(*) FROM sync.order_queue
                    WHERE held_kind = 'closed' AND state IN ('pending', 'open') AND failures = 0
                      AND lease_id IS NULL AND held_times = 1 AND due_at > now() + interval '50 minutes'";
const CLOSED: &str = "SELECT count(*) FROM sync.order_queue WHERE state = 'closed'";

/// A complete run over everything due.
async fn one_run(lab: &Lab, api: &Recorder) -> anyhow::Result<Run> {
    run_with(lab, api, &[]).await
}

/// As above, with one request at a time, so that replies come in queue order.
async fn one_by_one(lab: &Lab, api: &Recorder) -> anyhow::Result<Run> {
    run_with(lab, api, &[("pace.max_in_flight", "1")]).await
}

async fn run_with(lab: &Lab, api: &Recorder, settings: &[(&str, &str)]) -> anyhow::Result<Run> {
    let report = lab.sync(api.url(), settings).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    Ok(report.run)
}

/// A run of at most that many orders.
async fn small_run(lab: &Lab, api: &Recorder, orders: u64) -> anyhow::Result<()> {
    let worker = lab.worker(&lab.settings(api.url(), &[]));
    let request = Request { limit: Some(orders), ..Request::all(Trigger::Manual) };
    let report = worker.run(&request, &CancellationToken::new(), &Progress::default()).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    Ok(())
}

/// Orders that were read a moment ago and are due again.
async fn read_before(lab: &Lab, orders: i32) -> anyhow::Result<()> {
    feed(lab, orders).await?;
    let api = Recorder::start(read).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!(report.run.counters.fetched, u64::try_from(orders)?);
    // For a server that is asked later the past is another place.
    sqlx::query("DELETE FROM sync.evidence").execute(&lab.pool).await?;
    lab.make_all_due().await
}

/// The number of `order-7`.
fn number(asked: &Asked) -> u32 {
    order_of(asked).trim_start_matches("order-").parse().expect("a number")
}

/// A conversation of one message, for any order.
fn read(_: &Asked) -> Answer {
    conversation("on my way")
}

/// Another one.
fn changed(_: &Asked) -> Answer {
    conversation("there in a minute")
}

fn conversation(body: &str) -> Answer {
    let message = json!({"id": 1, "created_at": "2026-01-02T03:04:05Z", "body": body,
                         "sender_id": 5, "sender_type": "driver", "recipient_id": 6, "recipient_type": "user"});
    Answer::json(200, &json!({"chat_messages": [message], "metadata": {"is_expired": false}}))
}

fn expired() -> Answer {
    Answer::json(200, &json!({"chat_messages": [], "is_expired": true}))
}
