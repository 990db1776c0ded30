//! Runs: what is fetched and when, who may write, and how several workers share a queue.
//!
//! Everything goes through the engine or the real binary. A [`Door`] in front of the API stops a run where a test needs
//! it.

mod bad_rows;
mod database;
mod door;
mod due;
mod failover;
mod leases;
mod locks;
// The peak memory of a process, from the kernel.
#[cfg(target_os = "linux")]
mod memory;
mod process;
mod refusal;
mod rejects;
mod retention;
mod several;
mod storm;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use chatsync::simulator;
use chatsync::sync::Report;
use libtest_mimic::Trial;
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;

use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Lab, Labs, eventually};
pub(crate) use door::Door;
pub(crate) use process::Process;

pub(crate) fn tests(labs: &Arc<Labs>) -> Vec<Trial> {
    let tests = [
        bad_rows::tests,
        database::tests,
        due::tests,
        failover::tests,
        leases::tests,
        locks::tests,
        #[cfg(target_os = "linux")]
        memory::tests,
        refusal::tests,
        rejects::tests,
        retention::tests,
        several::tests,
        storm::tests,
        waits::tests,
    ];
    tests.iter().flat_map(|tests| tests(labs)).collect()
}

/// Exit code of a `sync` of many simulated orders: some had expired before the first read.
pub(crate) const FOUND_LOSSES: i32 = 3;

/// Answers a chat request as the simulated API would.
pub(crate) fn simulated(asked: &Asked) -> Answer {
    match simulator::reply(&simulator::Options::default(), order_of(asked), false) {
        Some(body) => Answer::new(200, body),
        None => Answer::not_found(),
    }
}

/// An API whose chat requests wait at a door and are then answered as simulated.
pub(crate) async fn behind_a_door() -> (Door, Recorder) {
    let door = Door::shut();
    let gate = door.gate();
    let api = Recorder::start(move |asked| {
        gate.pass();
        simulated(asked)
    });
    (door, api.await)
}

/// The order of a chat request. Only for ids that need no percent-encoding.
pub(crate) fn order_of(asked: &Asked) -> &str {
    asked.target.split('/').nth(4).expect("a chat request")
}

/// The fetched orders, in order.
fn orders_asked(api: &Recorder) -> Vec<String> {
    api.chat_requests().iter().map(|asked| order_of(asked).to_owned()).collect()
}

/// How often each order was fetched.
fn times_asked(api: &Recorder) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for order in orders_asked(api) {
        *times.entry(order).or_default() += 1;
    }
    times
}

/// Enqueues `order-1` … by plain SQL, as an upstream job would.
pub(crate) async fn feed(lab: &Lab, orders: i32) -> anyhow::Result<()> {
    sqlx::query("INSERT INTO sync.order_queue (order_id) SELECT 'order-' || n FROM generate_series(1, $1) AS n")
        .bind(orders)
        .execute(&lab.pool)
        .await?;
    Ok(())
}

/// Runs a statement that sets up a case.
pub(crate) async fn execute(lab: &Lab, statement: &'static str) -> anyhow::Result<()> {
    let result = sqlx::query(statement).execute(&lab.pool).await.with_context(|| statement.to_owned())?;
    ensure!(result.rows_affected() > 0, "nothing was changed by {statement}");
    Ok(())
}

/// Waits until an SQL condition is true; no row counts as false.
pub(crate) async fn until(lab: &Lab, condition: &str) -> anyhow::Result<()> {
    let question = format!("SELECT coalesce(({condition}), false)");
    eventually(condition, async || {
        let is_true: bool = sqlx::query_scalar(AssertSqlSafe(question.clone())).fetch_one(&lab.pool).await?;
        Ok(is_true.then_some(()))
    })
    .await
}

/// Starts a run in this process.
fn start_run(
    lab: &Arc<Lab>,
    api: &Recorder,
    more: &'static [(&'static str, &'static str)],
) -> JoinHandle<anyhow::Result<Report>> {
    let (lab, url) = (Arc::clone(lab), api.url().to_owned());
    tokio::spawn(async move { lab.sync(&url, more).await })
}
