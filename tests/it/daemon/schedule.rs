//! When runs start: at ticks, at the start, and for ticks that were missed.

use std::sync::Arc;

use chatsync::simulator;
use nix::sys::signal::Signal;

use super::{AT_ONCE, EVERY_SECOND, HARDLY_EVER, start};
use crate::support::http::Recorder;
use crate::support::{Lab, tests};
use crate::sync::{behind_a_door, execute, feed, simulated, until};

tests!(
    orders_enqueued_between_runs_are_read_at_a_tick,
    a_tick_during_a_run_is_skipped,
    run_on_start_runs_immediately,
    a_tick_missed_while_the_daemon_was_down_is_caught_up,
    nothing_is_caught_up_if_no_tick_was_missed,
    nothing_is_caught_up_if_catch_up_is_off,
    nothing_is_caught_up_before_the_first_run,
);

async fn orders_enqueued_between_runs_are_read_at_a_tick(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = simulator::Options { not_found_share: 0.0, expired_share: 0.0, ..simulator::Options::default() };
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options).await?;
    lab.enqueue(&["first"]).await?;
    let daemon = start(&lab, &api.base_url(), &[EVERY_SECOND, ("database.max_connections", "1")])?;
    for order in ["first", "second", "third"] {
        lab.enqueue(&[order]).await?;
        until(&lab, &format!("SELECT status = 'open' FROM chat.orders WHERE order_id = '{order}'")).await?;
    }
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    // The signal may have hit a run, even one that had just written the third order.
    let others = "SELECT count(*) FROM sync.runs WHERE trigger <> 'cron' OR status NOT IN ('succeeded', 'interrupted')";
    assert_eq!(lab.count(others).await?, 0);
    assert_eq!(api.stats().chat_requests, 3);
    Ok(())
}

async fn a_tick_during_a_run_is_skipped(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let (door, api) = behind_a_door().await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND])?;
    door.arrivals(1).await;
    daemon.logs("tick skipped").await?;
    assert_eq!(lab.text("SELECT string_agg(status, ' ') FROM sync.runs").await?.as_deref(), Some("running"));
    door.open();
    until(&lab, "SELECT count(*) >= 2 FROM sync.runs WHERE status = 'succeeded'").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    let overlapping = "SELECT count(*) FROM sync.runs AS one JOIN sync.runs AS other ON one.run_id <> other.run_id
                       WHERE one.started_at <= other.started_at AND one.finished_at > other.started_at";
    assert_eq!(lab.count(overlapping).await?, 0);
    Ok(())
}

async fn run_on_start_runs_immediately(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[HARDLY_EVER, AT_ONCE])?;
    until(&lab, "SELECT status = 'succeeded' FROM sync.runs").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.text(RUNS).await?.as_deref(), Some("startup 1"));
    Ok(())
}

async fn a_tick_missed_while_the_daemon_was_down_is_caught_up(lab: Arc<Lab>) -> anyhow::Result<()> {
    // More than a leap year cycle ago, so that there was a 29 February.
    an_earlier_run(&lab).await?;
    execute(&lab, "UPDATE sync.runs SET started_at = now() - interval '9 years'").await?;
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[HARDLY_EVER])?;
    until(&lab, "SELECT count(*) = 2 FROM sync.runs WHERE status = 'succeeded'").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.text(RUNS).await?.as_deref(), Some("manual 0, startup 1"));
    Ok(())
}

async fn nothing_is_caught_up_if_no_tick_was_missed(lab: Arc<Lab>) -> anyhow::Result<()> {
    an_earlier_run(&lab).await?;
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[HARDLY_EVER])?;
    daemon.logs("next run").await?;
    // A run at the start would have a row before the daemon handles signals.
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.text(RUNS).await?.as_deref(), Some("manual 0"));
    Ok(())
}

async fn nothing_is_caught_up_if_catch_up_is_off(lab: Arc<Lab>) -> anyhow::Result<()> {
    an_earlier_run(&lab).await?;
    execute(&lab, "UPDATE sync.runs SET started_at = now() - interval '1 day'").await?;
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("schedule.catch_up", "false")])?;
    until(&lab, "SELECT count(*) = 1 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    assert_eq!(lab.count("SELECT count(*) FROM sync.runs WHERE trigger = 'startup'").await?, 0);
    assert!(lab.count("SELECT count(*) FROM sync.runs WHERE trigger = 'cron'").await? > 0);
    Ok(())
}

async fn nothing_is_caught_up_before_the_first_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("schedule.catch_up", "true")])?;
    until(&lab, "SELECT count(*) = 1 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    let first = "SELECT trigger || ' ' || claimed FROM sync.runs ORDER BY started_at LIMIT 1";
    assert_eq!(lab.text(first).await?.as_deref(), Some("cron 1"));
    Ok(())
}

/// Selects triggers and claims of all runs, earliest first.
const RUNS: &str = "SELECT string_agg(trigger || ' ' || claimed, ', ' ORDER BY started_at) FROM sync.runs";

/// Does a run that finds nothing to do.
async fn an_earlier_run(lab: &Lab) -> anyhow::Result<()> {
    lab.sync("http://127.0.0.1:9", &[]).await?;
    Ok(())
}
