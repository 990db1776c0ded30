//! A database that becomes unavailable during a run: restarts, broken and silent connections, locks.

use std::sync::Arc;

use chatsync::db::runs;
use nix::sys::signal::Signal;
use sqlx::postgres::PgPoolOptions;

use super::several::{stored, undisturbed};
use super::{FOUND_LOSSES, Process, behind_a_door, feed, simulated, until};
use crate::support::http::Recorder;
use crate::support::proxy::{Ending, Proxy};
use crate::support::{Finished, Lab, store, tests};

tests!(
    a_run_resumes_after_an_outage_of_the_database,
    a_connection_cut_at_any_byte_loses_and_duplicates_nothing,
    a_silent_connection_is_given_up_and_replaced,
    a_lock_that_lasts_too_long_is_waited_for,
    fetching_stops_while_nothing_can_be_written,
    a_database_that_stays_away_fails_the_run_and_the_next_one_takes_over,
    a_signal_while_the_database_is_away_ends_the_run_soon,
    a_statement_outdated_by_a_migration_is_prepared_again,
);

const ORDERS: i32 = 1_000;

async fn a_run_resumes_after_an_outage_of_the_database(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let mut proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    // Leases end during the outage, as in a longer one.
    let more = [("database.url", proxy.url()), ("queue.lease", "2s")];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.admit(400);
    until(&lab, "SELECT count(*) >= 100 FROM chat.orders").await?;
    proxy.refuse().await;
    proxy.cut(Ending::Rst);
    door.open();
    sync.logs("the database is away").await?;
    until(
        &lab,
        "SELECT coalesce(bool_and(leased_until < now()), true) FROM sync.order_queue WHERE lease_id IS NOT NULL",
    )
    .await?;
    proxy.resume()?;
    let log = sync.ends_with(FOUND_LOSSES).await?;
    assert!(log.contains("the database is back"), "{log}");
    assert_eq!(stored(&lab).await?, undisturbed(&lab, ORDERS).await?);
    let run = "SELECT concat_ws(' ', status, claimed, claimed = fetched + closed) FROM sync.runs";
    assert_eq!(lab.text(run).await?, Some(format!("partial {ORDERS} t")));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE failures > 0").await?, 0);
    Ok(())
}

async fn a_connection_cut_at_any_byte_loses_and_duplicates_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let mut proxy = Proxy::start(lab.url())?;
    let api = Recorder::start(simulated).await;
    let more = [("database.url", proxy.url()), ("pace.max_in_flight", "4"), ("queue.lease", "2s")];
    let mut sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    until(&lab, "SELECT count(*) = 1 FROM sync.runs").await?;
    let mut cuts = 0;
    // Cuts statements, replies and commits at any place, from 1 byte to 50 kB on.
    for bytes in (0..200_u64).map(|turn| 1 + turn * 7_919 % 50_000) {
        let before = proxy.forwarded();
        proxy.cut_after(bytes, Ending::Rst);
        while proxy.forwarded() < before + bytes && !sync.has_ended()? {
            tokio::task::yield_now().await;
        }
        if sync.has_ended()? {
            break;
        }
        cuts += 1;
    }
    proxy.resume()?;
    sync.ends_with(FOUND_LOSSES).await?;
    assert!(cuts >= 20, "{cuts} cuts");
    assert_eq!(stored(&lab).await?, undisturbed(&lab, ORDERS).await?);
    let sum = "SELECT concat_ws(' ', claimed, messages_inserted = (SELECT count(*) FROM chat.messages),
                                lost = (SELECT count(*) FROM chat.orders WHERE coverage = 'expired_unread')) FROM sync.runs";
    assert_eq!(lab.text(sum).await?, Some(format!("{ORDERS} t t")), "counters are raised once");
    Ok(())
}

async fn a_silent_connection_is_given_up_and_replaced(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let mut proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    let more = [("database.url", proxy.url()), ("database.timeout", "1s"), ("queue.lease", "5s")];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.admit(400);
    until(&lab, "SELECT count(*) >= 100 FROM chat.orders").await?;
    proxy.stall();
    door.open();
    sync.logs("the database is away").await?;
    // The stalled bytes arrive late, on abandoned connections.
    proxy.resume()?;
    sync.ends_with(FOUND_LOSSES).await?;
    assert_eq!(stored(&lab).await?, undisturbed(&lab, ORDERS).await?);
    Ok(())
}

async fn a_lock_that_lasts_too_long_is_waited_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 50).await?;
    let api = Recorder::start(simulated).await;
    let mut lock = lab.pool.begin().await?;
    sqlx::raw_sql("LOCK TABLE chat.messages IN SHARE MODE").execute(&mut *lock).await?;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[("database.timeout", "1s")]))?;
    sync.logs("waiting for a lock: another session holds a lock that is needed").await?;
    lock.rollback().await?;
    sync.ends_with(0).await?;
    assert_eq!(stored(&lab).await?, undisturbed(&lab, 50).await?);
    Ok(())
}

async fn fetching_stops_while_nothing_can_be_written(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 5_000).await?;
    let mut proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    let more = [("database.url", proxy.url())];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.arrivals(32).await;
    proxy.refuse().await;
    proxy.cut(Ending::Fin);
    door.open();
    sync.logs("the database is away").await?;
    // Orders in flight and claimed ones; no others can be claimed.
    let asked = api.asked().len();
    assert!(asked < 500, "{asked} requests");
    proxy.resume()?;
    sync.ends_with(FOUND_LOSSES).await?;
    assert_eq!(api.asked().len(), 5_000, "every order was asked for once");
    Ok(())
}

async fn a_database_that_stays_away_fails_the_run_and_the_next_one_takes_over(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    let mut proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    let more = [("database.url", proxy.url()), ("database.give_up_after", "1s"), ("queue.lease", "1s")];
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &more))?;
    door.arrivals(32).await;
    proxy.refuse().await;
    proxy.cut(Ending::Fin);
    door.open();
    let log = sync.ends_with(1).await?;
    assert!(log.contains("error: the database has been away for"), "{log}");
    assert!(!log.contains("panicked"), "{log}");

    Finished::of(lab.configured(&["sync"], api.url(), &[("queue.lease", "1s")])).await?.expect_code(FOUND_LOSSES);
    assert_eq!(stored(&lab).await?, undisturbed(&lab, 200).await?);
    Ok(())
}

async fn a_signal_while_the_database_is_away_ends_the_run_soon(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    let mut proxy = Proxy::start(lab.url())?;
    let (door, api) = behind_a_door().await;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[("database.url", proxy.url())]))?;
    door.arrivals(32).await;
    proxy.refuse().await;
    proxy.cut(Ending::Fin);
    door.open();
    sync.logs("the database is away").await?;
    sync.send(Signal::SIGTERM)?;
    // Well before database.give_up_after, which is a quarter of an hour.
    sync.ends_with(1).await?;
    // The leases cannot be released now; they expire.
    sqlx::query("UPDATE sync.order_queue SET lease_id = NULL, leased_until = NULL").execute(&lab.pool).await?;
    Ok(())
}

async fn a_statement_outdated_by_a_migration_is_prepared_again(lab: Arc<Lab>) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).connect(lab.url()).await?;
    let store = &store(pool);
    let latest = || runs::latest(store, 1);
    latest().await?;
    let migration = r#"ALTER TABLE sync.runs ALTER COLUMN api TYPE text COLLATE "POSIX""#;
    sqlx::raw_sql(migration).execute(&lab.pool).await?;
    latest().await?;
    Ok(())
}
