//! `sync.runs`: one row per run. Counters rise in the transactions that write what they count, so they are right even
//! if the worker dies.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Error, Store, Transaction, interval};
use crate::waits::Wait;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Cron,
    /// A person or an external scheduler: `chatsync sync`.
    Manual,
    Startup,
}

impl Trigger {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Manual => "manual",
            Self::Startup => "startup",
        }
    }

    /// Parses `sync.runs.trigger`. Unknown values count as manual.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "cron" => Self::Cron,
            "startup" => Self::Startup,
            _ => Self::Manual,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Succeeded,
    /// Some orders failed, were lost or were left to a later run, or no message could be stored.
    Partial,
    /// The run could not proceed, or no order was answered.
    Failed,
    Interrupted,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a batch adds to the counters of a run. `requests` and `throttled` are totals of the run so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub claimed: u64,
    pub fetched: u64,
    pub unchanged: u64,
    pub closed: u64,
    pub failed: u64,
    pub dead: u64,
    pub messages_inserted: u64,
    pub messages_updated: u64,
    pub users_written: u64,
    pub requests: u64,
    pub throttled: u64,
    pub held: u64,
    pub lost: u64,
    pub unproven: u64,
    pub messages_left_out: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub run_id: Uuid,
    pub trigger: String,
    pub worker: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub alive_until: DateTime<Utc>,
    pub status: String,
    pub claimed: i64,
    pub fetched: i64,
    pub unchanged: i64,
    pub closed: i64,
    pub failed: i64,
    pub dead: i64,
    pub messages_inserted: i64,
    pub messages_updated: i64,
    pub users_written: i64,
    pub requests: i64,
    pub throttled: i64,
    pub error: Option<String>,
    pub api: Option<String>,
    pub requests_per_second: Option<f64>,
    pub held: i64,
    pub lost: i64,
    pub unproven: i64,
    pub messages_left_out: i64,
    pub at_risk: Option<i64>,
    pub overdue: Option<i64>,
    pub waiting_for: Option<String>,
    pub waiting_until: Option<DateTime<Utc>>,
    pub served_per_second: Option<f64>,
}

/// Reads rows of `sync.runs`. Times are clamped to the calendar, because rows may have been written by hand.
macro_rules! select_runs {
    ($which:tt, $($value:expr),*) => {
        sqlx::query_as!(
            Run,
            r#"-- select_runs
               SELECT run_id, trigger, worker, status, claimed, fetched, unchanged, closed, failed, dead, messages_inserted,
                      messages_updated, users_written, requests, throttled, error, api, requests_per_second, held, lost,
                      unproven, messages_left_out, at_risk, overdue, waiting_for, served_per_second,
                      sync.within_calendar(started_at) AS "started_at!",
                      sync.within_calendar(finished_at) AS finished_at,
                      sync.within_calendar(alive_until) AS "alive_until!",
                      sync.within_calendar(waiting_until) AS waiting_until
               FROM sync.runs "# + $which,
            $($value),*
        )
    };
}

/// Requests of a run so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    pub requests: u64,
    /// Those that were answered with 429.
    pub throttled: u64,
}

/// A run that was opened, by the clock of the database.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    pub started_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

/// Opens a run. Marks runs without a recent sign of life as abandoned. Repeated, it changes nothing.
pub async fn start(
    store: &Store,
    run_id: Uuid,
    trigger: Trigger,
    worker: &str,
    sign_of_life: Duration,
) -> Result<Started, Error> {
    let start = |mut transaction: Transaction| async move {
        let started = sqlx::query_as!(
            Started,
            r#"-- start_run
         WITH abandoned AS (
             UPDATE sync.runs
             SET status = 'abandoned', waiting_for = NULL, waiting_until = NULL
             WHERE status = 'running' AND alive_until < now()
         )
         INSERT INTO sync.runs (run_id, trigger, worker, alive_until)
         VALUES ($1, $2, $3, now() + $4)
         ON CONFLICT (run_id) DO UPDATE SET alive_until = excluded.alive_until
         RETURNING started_at, now() AS "now!""#,
            run_id,
            trigger.as_str(),
            worker,
            interval(sign_of_life),
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(started)
    };
    store.run("start_run", start).await
}

/// Records a sign of life; the next one follows within `sign_of_life`. Undoes `abandoned` if another run marked this
/// one.
pub(super) async fn sign_of_life(
    connection: &mut PgConnection,
    run_id: Uuid,
    sign_of_life: Duration,
) -> Result<(), Error> {
    sqlx::query!(
        "-- sign_of_life
         UPDATE sync.runs SET alive_until = now() + $2, status = 'running' WHERE run_id = $1 AND finished_at IS NULL",
        run_id,
        interval(sign_of_life),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Raises the counters of a run.
pub async fn count(store: &Store, run_id: Uuid, counters: &Counters) -> Result<(), Error> {
    store.run("count", |mut transaction| async move { add(&mut transaction, run_id, counters).await }).await
}

/// Raises the counters of a run. Locks its row until the transaction ends.
pub(super) async fn add(connection: &mut PgConnection, run_id: Uuid, counters: &Counters) -> Result<(), Error> {
    let by = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query!(
        "-- count
         UPDATE sync.runs
         SET claimed = claimed + $2,
             fetched = fetched + $3,
             unchanged = unchanged + $4,
             closed = closed + $5,
             failed = failed + $6,
             dead = dead + $7,
             messages_inserted = messages_inserted + $8,
             messages_updated = messages_updated + $9,
             users_written = users_written + $10,
             requests = greatest(requests, $11),
             throttled = greatest(throttled, $12),
             held = held + $13,
             lost = lost + $14,
             unproven = unproven + $15,
             messages_left_out = messages_left_out + $16
         WHERE run_id = $1",
        run_id,
        by(counters.claimed),
        by(counters.fetched),
        by(counters.unchanged),
        by(counters.closed),
        by(counters.failed),
        by(counters.dead),
        by(counters.messages_inserted),
        by(counters.messages_updated),
        by(counters.users_written),
        by(counters.requests),
        by(counters.throttled),
        by(counters.held),
        by(counters.lost),
        by(counters.unproven),
        by(counters.messages_left_out),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records what a run waits for; `None`: it does not wait.
pub async fn wait(store: &Store, run_id: Uuid, wait: Option<Wait>) -> Result<(), Error> {
    let record = |mut transaction: Transaction| async move {
        sqlx::query!(
            "-- record_wait
         UPDATE sync.runs SET waiting_for = $2, waiting_until = $3 WHERE run_id = $1 AND finished_at IS NULL",
            run_id,
            wait.map(|wait| wait.what.as_str()),
            wait.and_then(|wait| wait.until),
        )
        .execute(&mut *transaction)
        .await?;
        Ok(())
    };
    store.run("record_wait", record).await
}

#[derive(Debug)]
pub struct Finish<'a> {
    pub status: Status,
    /// Why it could not proceed, or how most of its orders failed.
    pub error: Option<&'a str>,
    pub sent: Sent,
    /// Orders that the next run will reach too late, if counted.
    pub at_risk: Option<u64>,
    /// Orders whose deadline has passed, if counted.
    pub overdue: Option<u64>,
}

/// Closes a run, and returns its row. Repeated, it changes nothing.
pub async fn finish(store: &Store, run_id: Uuid, finish: &Finish<'_>) -> Result<Run, Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let close = |mut transaction: Transaction| async move {
        sqlx::query!(
            "-- finish_run
         UPDATE sync.runs
         SET finished_at = now(),
             status = $2,
             error = $3,
             requests = $4,
             throttled = $5,
             at_risk = $6,
             overdue = $7,
             waiting_for = NULL,
             waiting_until = NULL
         WHERE run_id = $1 AND finished_at IS NULL",
            run_id,
            finish.status.as_str(),
            finish.error,
            number(finish.sent.requests),
            number(finish.sent.throttled),
            finish.at_risk.map(number),
            finish.overdue.map(number),
        )
        .execute(&mut *transaction)
        .await?;
        Ok(select_runs!("WHERE run_id = $1", run_id).fetch_one(&mut *transaction).await?)
    };
    store.run("finish_run", close).await
}

pub async fn get(store: &Store, run_id: Uuid) -> Result<Run, Error> {
    let get = |mut transaction: Transaction| async move {
        Ok(select_runs!("WHERE run_id = $1", run_id).fetch_one(&mut *transaction).await?)
    };
    store.run("select_runs", get).await
}

/// Returns the latest runs, newest first.
pub async fn latest(store: &Store, limit: i64) -> Result<Vec<Run>, Error> {
    store.run("select_runs", |mut transaction| async move { newest(&mut transaction, limit).await }).await
}

pub(super) async fn newest(connection: &mut PgConnection, limit: i64) -> Result<Vec<Run>, Error> {
    Ok(select_runs!("ORDER BY runs.started_at DESC LIMIT $1", limit).fetch_all(connection).await?)
}

#[derive(Debug, Clone, Copy)]
pub struct RunSpan {
    pub started_at: DateTime<Utc>,
    /// The end, or the time of the next expected sign of life.
    pub ended_at: DateTime<Utc>,
}

/// Returns the times of the latest runs, newest first.
pub async fn spans(connection: &mut PgConnection, limit: i64) -> Result<Vec<RunSpan>, Error> {
    let turns = sqlx::query_as!(
        RunSpan,
        r#"-- run_spans
           SELECT sync.within_calendar(started_at) AS "started_at!",
                  sync.within_calendar(coalesce(finished_at, alive_until)) AS "ended_at!"
           FROM sync.runs
           ORDER BY runs.started_at DESC
           LIMIT $1"#,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(turns)
}

/// Returns the latest runs in which something was due, newest first.
pub(super) async fn busy(connection: &mut PgConnection, limit: i64) -> Result<Vec<Run>, Error> {
    let runs =
        select_runs!("WHERE NOT (status = 'succeeded' AND claimed = 0) ORDER BY runs.started_at DESC LIMIT $1", limit);
    Ok(runs.fetch_all(connection).await?)
}

/// Consecutive runs in which nothing was due.
#[derive(Debug, Serialize)]
pub struct IdleRuns {
    /// How many of the busy runs are newer.
    #[serde(rename = "after_them")]
    pub newer: i64,
    pub runs: i64,
    pub first_started_at: DateTime<Utc>,
    pub last_started_at: DateTime<Utc>,
}

/// Returns the runs in which nothing was due, between and after the latest `limit` others.
pub(super) async fn idle(connection: &mut PgConnection, limit: i64) -> Result<Vec<IdleRuns>, Error> {
    Ok(sqlx::query_file_as!(IdleRuns, "src/db/sql/idle_runs.sql", limit).fetch_all(connection).await?)
}

#[derive(Debug, Clone, Copy)]
pub struct Losses {
    /// Expired before the first good read.
    pub lost: u64,
    /// Last read too early to prove completeness.
    pub unproven: u64,
}

/// Sums the losses of the runs that started since then.
pub(super) async fn losses_since(connection: &mut PgConnection, since: DateTime<Utc>) -> Result<Losses, Error> {
    let row = sqlx::query!(
        r#"-- losses_since
           SELECT coalesce(sum(lost), 0)::bigint AS "lost!", coalesce(sum(unproven), 0)::bigint AS "unproven!"
           FROM sync.runs
           WHERE started_at >= $1"#,
        since,
    )
    .fetch_one(connection)
    .await?;
    Ok(Losses { lost: row.lost.unsigned_abs(), unproven: row.unproven.unsigned_abs() })
}
