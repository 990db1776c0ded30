//! Runs: what is asked for and when, who may write, and what several workers make of one queue.
//!
//! Everything goes through the engine or the real binary; a [`Door`] before the API stops a run where a test wants it.

mod bad_rows;
mod database;
mod door;
mod due;
mod failover;
mod leases;
mod locks;
// The kernel's own count of a process's memory.
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
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chatsync::simulator;
use chatsync::sync::Report;
use libtest_mimic::Trial;
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;

use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Lab, Labs};
pub(crate) use door::Door;
pub(crate) use process::Process;

/// Longer than anything takes that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

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

/// How a `sync` of many simulated orders ends: some of them had expired before the first read.
pub(crate) const FOUND_LOSSES: i32 = 3;

/// Answers a chat request as the simulated API would.
pub(crate) fn simulated(asked: &Asked) -> Answer {
    match simulator::reply(&simulator::Options::default(), order_of(asked), false) {
        Some(body) => Answer::new(200, body),
        None => Answer::not_found(),
    }
}

/// An API whose every chat request waits at a door, and is then answered as the simulated one would.
pub(crate) async fn behind_a_door() -> (Door, Recorder) {
    let door = Door::shut();
    let gate = door.gate();
    let api = Recorder::start(move |asked| {
        gate.pass();
        simulated(asked)
    });
    (door, api.await)
}

/// The order that a chat request is about. Only for ids that need no percent-encoding.
pub(crate) fn order_of(asked: &Asked) -> &str {
    asked.target.split('/').nth(4).expect("a chat request")
}

/// The orders asked for, in that order.
fn orders_asked(api: &Recorder) -> Vec<String> {
    api.chat_requests().iter().map(|asked| order_of(asked).to_owned()).collect()
}

/// How often each order was asked for.
fn times_asked(api: &Recorder) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for order in orders_asked(api) {
        *times.entry(order).or_default() += 1;
    }
    times
}

/// Feeds `order-1` … by plain SQL, as an upstream job would.
pub(crate) async fn feed(lab: &Lab, orders: i32) -> anyhow::Result<()> {
    sqlx::query("INSERT INTO sync.order_queue (order_id) SELECT 'order-' || n FROM generate_series(1, $1) AS n")
        .bind(orders)
        .execute(&lab.pool)
        .await?;
    Ok(())
}

/// Runs a statement that a test needs to arrange its case.
pub(crate) async fn execute(lab: &Lab, statement: &'static str) -> anyhow::Result<()> {
    let result = sqlx::query(statement).execute(&lab.pool).await.with_context(|| statement.to_owned())?;
    ensure!(result.rows_affected() > 0, "nothing was changed by {statement}");
    Ok(())
}

/// Waits until an SQL condition is true; without rows it is false.
pub(crate) async fn until(lab: &Lab, condition: &str) -> anyhow::Result<()> {
    let question = format!("SELECT coalesce(({condition}), false)");
    let start = Instant::now();
    while !sqlx::query_scalar(AssertSqlSafe(question.clone())).fetch_one(&lab.pool).await? {
        ensure!(start.elapsed() < PATIENCE, "it never came true that {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
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
