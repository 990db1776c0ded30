//! `sync.runs`: one row per run. Counters rise in the transactions that write what they count, so they are right even
//! if the worker dies.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Error, Store, Transaction, interval};
use crate::domain::text_enum;
use crate::waits::Wait;

text_enum! {
    /// What started a run.
    Trigger {
        Cron = "cron",
        /// A person or an external scheduler: `chatsync sync`.
        Manual = "manual",
        Startup = "startup",
    }
}

text_enum! {
    /// The state of a run.
    Status {
        Running = "running",
        Succeeded = "succeeded",
        /// Some orders failed, were lost or were left to a later run, or no message could be stored.
        Partial = "partial",
        /// The run could not proceed, or no order was answered.
        Failed = "failed",
        Interrupted = "interrupted",
        /// Its worker gave no sign of life any more.
        Abandoned = "abandoned",
    }
}

/// Declares the counters of a run. This list drives the columns that are read and raised, the log line and the JSON.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What happened to the orders of a run, or what a batch adds to it.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
        pub struct Counters {
            $($(#[$doc])* #[sqlx(try_from = "i64")] pub $name: u64,)+
        }

        impl Counters {
            const NAMES: &[&str] = &[$(stringify!($name),)+];

            fn values(&self) -> impl Iterator<Item = u64> {
                [$(self.$name,)+].into_iter()
            }
        }

        impl Run {
            /// Logs how the run ended.
            pub fn log(&self) {
                let (status, Sent { requests, throttled }) = (self.status.as_str(), self.sent);
                tracing::info!(status, $($name = self.counters.$name,)+ requests, throttled, "run finished");
            }
        }
    };
}

counters! {
    claimed,
    fetched,
    /// Among the fetched.
    unchanged,
    closed,
    failed,
    dead,
    held,
    lost,
    unproven,
    messages_inserted,
    messages_updated,
    messages_left_out,
    users_written,
}

/// Requests of a run so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Sent {
    #[sqlx(try_from = "i64")]
    pub requests: u64,
    /// Those that were answered with 429.
    #[sqlx(try_from = "i64")]
    pub throttled: u64,
}

/// A row of `sync.runs`.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Run {
    pub run_id: Uuid,
    #[sqlx(try_from = "String")]
    pub trigger: Trigger,
    pub worker: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub alive_until: DateTime<Utc>,
    #[sqlx(try_from = "String")]
    pub status: Status,
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub counters: Counters,
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub sent: Sent,
    pub error: Option<String>,
    pub api: Option<String>,
    pub requests_per_second: Option<f64>,
    /// Orders that the next run will reach too late, if counted.
    pub at_risk: Option<i64>,
    /// Orders whose deadline had passed, if counted.
    pub overdue: Option<i64>,
    pub waiting_for: Option<String>,
    pub waiting_until: Option<DateTime<Utc>>,
    pub served_per_second: Option<f64>,
}

/// Reads the rows of `sync.runs` that `which` selects by one parameter. Times are clamped to the calendar, because rows
/// may have been written by hand. Not checked at compile time, because the list of counters is not repeated here.
async fn select<'q, P>(connection: &mut PgConnection, which: &str, parameter: P) -> Result<Vec<Run>, Error>
where
    P: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + 'q,
{
    let statement = format!(
        "-- select_runs
         SELECT run_id, trigger, worker, status, {}, requests, throttled, error, api, requests_per_second, at_risk,
                overdue, waiting_for, served_per_second,
                sync.within_calendar(started_at) AS started_at,
                sync.within_calendar(finished_at) AS finished_at,
                sync.within_calendar(alive_until) AS alive_until,
                sync.within_calendar(waiting_until) AS waiting_until
         FROM sync.runs {which}",
        Counters::NAMES.join(", ")
    );
    let runs = sqlx::query_as(AssertSqlSafe(statement)).bind(parameter);
    Ok(runs.fetch_all(connection).await?)
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
    let count =
        |mut transaction: Transaction| async move { add(&mut transaction, run_id, counters, Sent::default()).await };
    store.run("count", count).await
}

/// Raises the counters of a run, and its requests to `sent`. Locks its row until the transaction ends.
pub(super) async fn add(
    connection: &mut PgConnection,
    run_id: Uuid,
    counters: &Counters,
    sent: Sent,
) -> Result<(), Error> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let raised = (4..).zip(Counters::NAMES).map(|(place, name)| format!("{name} = {name} + ${place}"));
        format!(
            "-- count
             UPDATE sync.runs
             SET requests = greatest(requests, $2), throttled = greatest(throttled, $3), {}
             WHERE run_id = $1",
            raised.collect::<Vec<_>>().join(", ")
        )
    });
    let mut raise = sqlx::query(AssertSqlSafe(STATEMENT.as_str())).bind(run_id);
    for number in [sent.requests, sent.throttled].into_iter().chain(counters.values()) {
        raise = raise.bind(i64::try_from(number).unwrap_or(i64::MAX));
    }
    raise.execute(connection).await?;
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
        one(select(&mut transaction, "WHERE run_id = $1", run_id).await?)
    };
    store.run("finish_run", close).await
}

pub async fn get(store: &Store, run_id: Uuid) -> Result<Run, Error> {
    let get =
        |mut transaction: Transaction| async move { one(select(&mut transaction, "WHERE run_id = $1", run_id).await?) };
    store.run("select_runs", get).await
}

/// Returns the latest runs, newest first.
pub async fn latest(store: &Store, limit: i64) -> Result<Vec<Run>, Error> {
    store.run("select_runs", |mut transaction| async move { newest(&mut transaction, limit).await }).await
}

pub(super) async fn newest(connection: &mut PgConnection, limit: i64) -> Result<Vec<Run>, Error> {
    select(connection, "ORDER BY runs.started_at DESC LIMIT $1", limit).await
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
    let which = "WHERE NOT (status = 'succeeded' AND claimed = 0) ORDER BY runs.started_at DESC LIMIT $1";
    select(connection, which, limit).await
}

fn one(runs: Vec<Run>) -> Result<Run, Error> {
    runs.into_iter().next().ok_or(Error::Statement(sqlx::Error::RowNotFound))
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
