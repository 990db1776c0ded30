//! A wait of more than ten seconds is reported with reason and end: in the log, in `sync.runs`, and in `chatsync
//! status`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{Process, behind_a_door, execute, feed, simulated, until};
use crate::support::http::{Answer, Recorder};
use crate::support::proxy::{Ending, Proxy};
use crate::support::{Finished, Lab, tests};

tests!(
    a_pause_that_the_api_asks_for_is_explained_until_it_ends,
    an_outage_of_the_api_is_explained_once_and_not_for_every_order,
    throttling_is_explained_until_something_else_is_answered,
    a_turn_that_is_far_away_is_explained,
    orders_that_another_worker_holds_are_named_as_the_reason,
    a_locked_row_is_waited_for_with_an_explanation,
    a_database_that_is_away_is_waited_for_with_an_explanation,
);

const IS_WAITING: &str = "SELECT waiting_for IS NOT NULL FROM sync.runs";

async fn a_pause_that_the_api_asks_for_is_explained_until_it_ends(lab: Arc<Lab>) -> anyhow::Result<()> {
    let was_asked = AtomicBool::new(false);
    let api = Recorder::start(move |asked| {
        if was_asked.swap(true, SeqCst) {
            return simulated(asked);
        }
        Answer::new(429, "{}").with_header("retry-after", "15")
    })
    .await;
    feed(&lab, 3).await?;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[("pace.max_in_flight", "1")]))?;
    sync.logs("waiting for the end of the pause that the API asked for (Retry-After), until ").await?;
    until(&lab, "SELECT waiting_until BETWEEN now() AND now() + interval '6 seconds' FROM sync.runs").await?;
    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0).stdout;
    assert!(status.starts_with("! the run since 20") && status.contains(" waits for the end of the pause"), "{status}");
    sync.ends_with(0).await?;
    let row = "SELECT concat_ws(' ', status, waiting_for, waiting_until) FROM sync.runs";
    assert_eq!(lab.text(row).await?.as_deref(), Some("succeeded"));
    Ok(())
}

async fn an_outage_of_the_api_is_explained_once_and_not_for_every_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| Answer::new(503, "{}")).await;
    feed(&lab, 200).await?;
    let more = [("breaker.give_up_after", "13s")];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    until(&lab, IS_WAITING).await?;
    let log = sync.ends_with(1).await?;
    let explained = log.lines().filter(|line| line.contains("waiting for the API, which is out of order, until "));
    assert_eq!(explained.count(), 1, "{log}");
    Ok(())
}

async fn throttling_is_explained_until_something_else_is_answered(lab: Arc<Lab>) -> anyhow::Result<()> {
    let is_over = Arc::new(AtomicBool::new(false));
    let api = Recorder::start({
        let is_over = Arc::clone(&is_over);
        move |asked| if is_over.load(SeqCst) { simulated(asked) } else { Answer::new(429, "{}") }
    })
    .await;
    feed(&lab, 1).await?;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[]))?;
    sync.logs("waiting for the API, which answers 429 to every request; the end is not known").await?;
    until(&lab, IS_WAITING).await?;
    is_over.store(true, SeqCst);
    sync.ends_with(0).await?;
    Ok(())
}

async fn a_turn_that_is_far_away_is_explained(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    feed(&lab, 2).await?;
    let more = [("pace.max_requests_per_second", "0.07")];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    sync.logs("waiting for the next request that the pace allows, until ").await?;
    sync.ends_with(0).await?;
    Ok(())
}

async fn orders_that_another_worker_holds_are_named_as_the_reason(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    feed(&lab, 2).await?;
    execute(&lab, "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = now() + interval '1 minute' WHERE order_id = 'order-1'").await?;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[]))?;
    sync.logs("waiting for orders that another worker holds, until ").await?;
    until(&lab, IS_WAITING).await?;
    execute(&lab, "UPDATE sync.order_queue SET lease_id = NULL, leased_until = NULL WHERE lease_id IS NOT NULL")
        .await?;
    sync.ends_with(0).await?;
    Ok(())
}

async fn a_locked_row_is_waited_for_with_an_explanation(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 2).await?;
    let (door, api) = behind_a_door().await;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[]))?;
    door.arrivals(2).await;
    let mut session = lab.pool.begin().await?;
    sqlx::query("SELECT FROM sync.order_queue WHERE order_id = 'order-1' FOR UPDATE").execute(&mut *session).await?;
    door.open();
    sync.logs("waiting for an answer of the database; another session may have locked a row, or a pooler has no free connection, until ").await?;
    until(&lab, IS_WAITING).await?;
    session.rollback().await?;
    sync.ends_with(0).await?;
    Ok(())
}

async fn a_database_that_is_away_is_waited_for_with_an_explanation(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 50).await?;
    let mut proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    let more = [("database.url", proxy.url()), ("queue.lease", "2s")];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.arrivals(32).await;
    proxy.refuse().await;
    proxy.cut(Ending::Rst);
    door.open();
    sync.logs("waiting for the database, which is away, until ").await?;
    proxy.resume()?;
    sync.ends_with(0).await?;
    Ok(())
}
