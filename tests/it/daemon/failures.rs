//! What fails is tried again by a later run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use super::{EVERY_SECOND, start};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};
use crate::sync::{execute, feed, simulated, until};

tests!(
    a_failed_run_is_retried_at_the_next_tick,
    a_locked_order_does_not_block_the_others,
    lost_database_connections_are_replaced,
);

async fn a_failed_run_is_retried_at_the_next_tick(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 20).await?;
    let is_refusing = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&is_refusing);
    let api = Recorder::start(
        move |asked| {
            if refuses.load(Ordering::SeqCst) { Answer::new(401, "{}") } else { simulated(asked) }
        },
    );
    let api = api.await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND])?;
    until(&lab, "SELECT count(*) >= 2 FROM sync.runs WHERE status = 'failed' AND error LIKE '%401%'").await?;
    let unharmed = "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND failures = 0";
    assert_eq!(lab.count(unharmed).await?, 20);
    is_refusing.store(false, Ordering::SeqCst);
    until(&lab, "SELECT count(*) = 1 FROM sync.runs WHERE status = 'succeeded' AND claimed = 20").await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(log.contains("the run could not proceed"), "{log}");
    Ok(())
}

async fn a_locked_order_does_not_block_the_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    // As after a clock was set back by an hour and the worker died.
    lab.enqueue(&["leased"]).await?;
    execute(&lab, "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = now() + interval '1 hour'")
        .await?;
    lab.enqueue(&["locked"]).await?;
    let mut session = lab.pool.begin().await?;
    sqlx::query("UPDATE sync.order_queue SET priority = 9 WHERE order_id = 'locked'").execute(&mut *session).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND, ("queue.lease", "1s")])?;
    daemon.logs("left to a later run").await?;
    until(&lab, "SELECT count(*) > 0 FROM sync.runs WHERE status = 'partial' AND claimed = 0").await?;
    lab.enqueue(&["later"]).await?;
    until(&lab, "SELECT count(*) = 2 FROM chat.orders WHERE order_id IN ('leased', 'later')").await?;
    session.commit().await?;
    until(&lab, "SELECT count(*) = 3 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    let log = daemon.ends_with(0).await?;
    assert!(log.contains("these sessions may have locked the orders that are waited for holders=pid "), "{log}");
    Ok(())
}

async fn lost_database_connections_are_replaced(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["before"]).await?;
    let api = Recorder::start(simulated).await;
    let daemon = start(&lab, api.url(), &[EVERY_SECOND])?;
    until(&lab, "SELECT count(*) = 1 FROM sync.runs WHERE status = 'succeeded' AND claimed = 1").await?;
    execute(
        &lab,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'chatsync/%'",
    )
    .await?;
    lab.enqueue(&["after"]).await?;
    until(&lab, "SELECT count(*) = 2 FROM chat.orders").await?;
    daemon.send(Signal::SIGTERM)?;
    daemon.ends_with(0).await?;
    Ok(())
}
