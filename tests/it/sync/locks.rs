//! Locks of other sessions: every wait is limited in the server, and a log line names the holder.

use std::sync::Arc;

use nix::sys::signal::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use super::{Process, execute, feed, simulated, until};
use crate::cli::with_empty_database;
use crate::support::http::Recorder;
use crate::support::{Lab, tests};

tests!(
    a_lock_on_the_migrations_is_explained_and_a_signal_ends_the_wait,
    a_daemon_that_starts_while_its_runs_are_locked_says_so,
    the_pace_is_joined_once_a_lock_on_it_is_gone,
    a_command_waits_for_a_row_and_says_who_has_locked_it,
    no_session_waits_on_in_the_server_for_a_client_that_is_gone,
);

/// As in `db` and `db::pace`.
const MIGRATION_LOCK: i64 = 0x6368_6174_7379_6e63;
const JOIN_LOCK: i64 = 0x6368_6174_7061_6365;

async fn a_lock_on_the_migrations_is_explained_and_a_signal_ends_the_wait(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        let (mut holder, pid) = named(url, "a forgotten migration").await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut holder).await?;
        let run = Process::start(&lab, lab.configured(&["run"], "http://127.0.0.1:9", &[("database.url", url)]))?;
        run.logs(&format!("another session holds a lock that is needed: pid {pid} (a forgotten migration)")).await?;
        run.send(Signal::SIGTERM)?;
        run.ends_with(0).await?;
        expect_no_waiting_session(&lab, url).await
    })
    .await
}

async fn a_daemon_that_starts_while_its_runs_are_locked_says_so(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (mut holder, pid) = named(lab.url(), "someone").await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE sync.runs").execute(&mut holder).await?;
    let run = Process::start(&lab, lab.configured(&["run"], "http://127.0.0.1:9", &[]))?;
    run.logs(&format!("another session holds a lock that is needed: pid {pid} (someone)")).await?;
    run.send(Signal::SIGTERM)?;
    run.ends_with(0).await?;
    Ok(())
}

async fn the_pace_is_joined_once_a_lock_on_it_is_gone(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let api = Recorder::start(simulated).await;
    let (mut holder, pid) = named(lab.url(), "someone").await?;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(JOIN_LOCK).execute(&mut holder).await?;
    let sync = Process::start(&lab, lab.configured(&["sync"], api.url(), &[("database.timeout", "1s")]))?;
    sync.logs(&format!("another session holds a lock that is needed: pid {pid} (someone)")).await?;
    sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut holder).await?;
    sync.ends_with(0).await?;
    Ok(())
}

async fn a_command_waits_for_a_row_and_says_who_has_locked_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let (mut holder, pid) = named(lab.url(), "someone").await?;
    for arguments in [&["retry", "--order", "order-1"][..], &["sync", "--order", "order-1"]] {
        execute(&lab, "UPDATE sync.order_queue SET due_at = now() + interval '1 day'").await?;
        sqlx::raw_sql("BEGIN; SELECT FROM sync.order_queue FOR UPDATE").execute(&mut holder).await?;
        let api = Recorder::start(simulated).await;
        let command = Process::start(&lab, lab.configured(arguments, api.url(), &[]))?;
        command.logs(&format!("another session holds a lock that is needed: pid {pid} (someone)")).await?;
        sqlx::raw_sql("COMMIT").execute(&mut holder).await?;
        command.ends_with(0).await?;
    }
    Ok(())
}

async fn no_session_waits_on_in_the_server_for_a_client_that_is_gone(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    let (mut holder, _) = named(lab.url(), "someone").await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE sync.runs, sync.order_queue, chat.orders").execute(&mut holder).await?;
    for arguments in [&["retry", "--order", "order-1"][..], &["sync"], &["status"], &["plan"], &["why", "order-1"]] {
        let command = Process::start(&lab, lab.configured(arguments, "http://127.0.0.1:9", &[]))?;
        until(&lab, WAITS).await?;
        command.kill().await?;
        until(&lab, &format!("NOT ({WAITS})")).await?;
    }
    Ok(())
}

/// Whether a session of chatsync waits for a lock.
const WAITS: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity
                                    WHERE datname = current_database() AND application_name LIKE 'chatsync/%'
                                      AND wait_event_type = 'Lock')";

/// A session with a name, and its process id.
async fn named(url: &str, name: &str) -> anyhow::Result<(PgConnection, i32)> {
    let mut connection = url.parse::<PgConnectOptions>()?.application_name(name).connect().await?;
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
    Ok((connection, pid))
}

/// Expects that no session waits in the database at `url`.
async fn expect_no_waiting_session(lab: &Lab, url: &str) -> anyhow::Result<()> {
    let database = url::Url::parse(url)?.path().trim_start_matches('/').to_owned();
    let waits = WAITS.replace("current_database()", &format!("'{database}'"));
    until(lab, &format!("NOT ({waits})")).await
}
