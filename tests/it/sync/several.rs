//! Several processes on one queue, at the same time or after one was killed.

use std::sync::Arc;

use anyhow::ensure;
use chatsync::simulator;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{FOUND_LOSSES, Process, behind_a_door, feed, simulated, times_asked, until};
use crate::support::http::Recorder;
use crate::support::{Finished, Lab, tests};

tests!(
    two_processes_share_the_queue_and_ask_for_every_order_once,
    a_killed_process_loses_and_duplicates_nothing,
    a_run_whose_worker_was_killed_is_called_abandoned,
    an_interrupted_sync_does_not_call_the_rest_up_to_date,
    an_interrupted_sync_with_a_limit_is_called_interrupted_too,
);

const ORDERS: i32 = 2_000;

async fn two_processes_share_the_queue_and_ask_for_every_order_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let (door, api) = behind_a_door().await;
    let sync = || lab.configured(&["sync", "--json"], api.url(), &[("pace.max_in_flight", "8")]).spawn();
    let one = sync()?;
    door.arrivals(8).await;
    let other = sync()?;
    // Both are working.
    door.arrivals(8).await;
    door.open();
    let (one, other) = tokio::try_join!(Finished::of_child(one), Finished::of_child(other))?;
    let runs = [summary(one)?, summary(other)?];

    let times = times_asked(&api);
    assert_eq!(times.len(), usize::try_from(ORDERS)?);
    assert!(times.values().all(|times| *times == 1), "some orders were asked for twice");
    let unknown = (1..=ORDERS).filter(|n| simulator::reply(&<_>::default(), &format!("order-{n}"), false).is_none());
    let unknown = i64::try_from(unknown.count())?;
    let sum = |counter: &str| runs.iter().filter_map(|run| run[counter].as_i64()).sum::<i64>();
    assert_eq!(sum("claimed"), i64::from(ORDERS));
    assert_eq!(sum("requests"), i64::from(ORDERS));
    assert_eq!((sum("fetched"), sum("closed")), (i64::from(ORDERS) - unknown, unknown));
    assert_eq!((sum("failed"), sum("dead")), (0, 0));
    assert!(runs.iter().all(|run| run["status"] == "partial" && run["claimed"].as_i64() > Some(0)), "{runs:?}");
    assert_eq!(sum("messages_inserted"), lab.count("SELECT count(*) FROM chat.messages").await?);
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'pending'").await?, 0);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, i64::from(ORDERS));
    Ok(())
}

async fn a_killed_process_loses_and_duplicates_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let (door, api) = behind_a_door().await;
    door.admit(700);
    let more = [("queue.lease", "2s")];
    let killed = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.arrivals(720).await;
    until(&lab, "SELECT count(*) >= 300 FROM chat.orders").await?;
    killed.kill().await?;
    let written = lab.count("SELECT count(*) FROM chat.orders").await?;
    assert!((300..=700).contains(&written), "{written} orders written");
    assert!(lab.leases_left().await? >= 20, "it was killed with orders in its hands");

    door.open();
    Finished::of(lab.configured(&["sync"], api.url(), &more)).await?.expect_code(FOUND_LOSSES);
    assert_eq!(stored(&lab).await?, undisturbed(&lab, ORDERS).await?);
    assert_eq!(
        lab.count(
            "SELECT count(*) FROM sync.order_queue WHERE state IN ('open', 'expired', 'closed') AND failures = 0"
        )
        .await?,
        i64::from(ORDERS)
    );
    Ok(())
}

async fn a_run_whose_worker_was_killed_is_called_abandoned(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 10).await?;
    let (door, api) = behind_a_door().await;
    let more = [("queue.lease", "1s")];
    let killed = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.arrivals(10).await;
    killed.kill().await?;
    door.open();
    // The first run waits for the leases of the dead worker; at the second none are left.
    lab.sync(api.url(), &more).await?;
    lab.sync(api.url(), &more).await?;
    let statuses = "SELECT string_agg(status, ' ' ORDER BY started_at) FROM sync.runs";
    assert_eq!(lab.text(statuses).await?.as_deref(), Some("abandoned succeeded succeeded"));
    Ok(())
}

async fn an_interrupted_sync_does_not_call_the_rest_up_to_date(lab: Arc<Lab>) -> anyhow::Result<()> {
    is_called_interrupted(&lab, &["sync"]).await
}

async fn an_interrupted_sync_with_a_limit_is_called_interrupted_too(lab: Arc<Lab>) -> anyhow::Result<()> {
    is_called_interrupted(&lab, &["sync", "--limit", "8"]).await
}

/// Stops a sync with four requests in flight and more orders to come.
async fn is_called_interrupted(lab: &Lab, arguments: &[&str]) -> anyhow::Result<()> {
    feed(lab, 50).await?;
    let (door, api) = behind_a_door().await;
    let sync = Process::start(lab, lab.configured(arguments, api.url(), &[("pace.max_in_flight", "4")]))?;
    door.arrivals(4).await;
    sync.send(Signal::SIGTERM)?;
    sync.logs("signal received").await?;
    door.open();
    // Exit code 0 means that every due order is up to date, 3 that the run completed.
    sync.ends_with(1).await?;
    let run = "SELECT concat_ws(' ', status, claimed) FROM sync.runs";
    assert_eq!(lab.text(run).await?.as_deref(), Some("interrupted 4"));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 4);
    Ok(())
}

fn summary(finished: Finished) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&finished.expect_code(FOUND_LOSSES).stdout)?)
}

/// Schema chat without the times of writing.
pub(super) async fn stored(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let times = ["first_synced_at", "updated_at", "first_seen_at", "observed_at", "removed_at", "closed_at"];
    lab.dump_without("chat", &times).await
}

/// Schema chat after one undisturbed run over the same orders, in a separate database.
pub(super) async fn undisturbed(lab: &Lab, orders: i32) -> anyhow::Result<Vec<String>> {
    let other = Lab::open(lab.url()).await?;
    let api = Recorder::start(simulated).await;
    feed(&other, orders).await?;
    let run = other.sync(api.url(), &[]).await?.run;
    let stored = stored(&other).await?;
    other.close(lab.url()).await?;
    ensure!(run.counters.fetched + run.counters.closed == u64::try_from(orders)?, "{run:?}");
    Ok(stored)
}
