//! `sync.runs`: one row per run. Its counters rise in the transactions that write what they count, so they are true
//! whatever happens to the worker.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Error, interval};

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The schedule.
    Cron,
    /// A person, or somebody else's scheduler: `chatsync sync`.
    Manual,
    /// The start of the daemon.
    Startup,
}

impl Trigger {
    /// As in `sync.runs.trigger`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Manual => "manual",
            Self::Startup => "startup",
        }
    }
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Every due order is up to date.
    Succeeded,
    /// Some orders failed, or were left to a later run.
    Partial,
    /// The run could not proceed, or nothing was answered.
    Failed,
    /// Stopped by a signal.
    Interrupted,
}

impl Status {
    /// As in `sync.runs.status`.
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

/// What a batch adds to a run's counters; requests and throttled are the run's totals so far.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the columns of sync.runs, each with its COMMENT")]
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
    pub refused: u64,
    pub expired_early: u64,
}

/// A row of `sync.runs`.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns of sync.runs, each with its COMMENT")]
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
    pub refused: i64,
    pub expired_early: i64,
    pub requests_per_second: Option<f64>,
    pub served_per_second: Option<f64>,
}

/// Opens a run; returns when it started, and the database's time now. Runs whose workers have fallen silent are called
/// abandoned. Done again it changes nothing more.
pub async fn start(
    executor: impl PgExecutor<'_>,
    run_id: Uuid,
    trigger: Trigger,
    worker: &str,
    sign_of_life: Duration,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Error> {
    let row = sqlx::query!(
        r#"WITH abandoned AS (
             UPDATE sync.runs SET status = 'abandoned' WHERE status = 'running' AND alive_until < now()
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
    .fetch_one(executor)
    .await?;
    Ok((row.started_at, row.now))
}

/// The worker of a run is alive, and will say so again within `sign_of_life`. Whoever called it abandoned was wrong.
pub async fn stay_alive(executor: impl PgExecutor<'_>, run_id: Uuid, sign_of_life: Duration) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE sync.runs SET alive_until = now() + $2, status = 'running' WHERE run_id = $1 AND finished_at IS NULL",
        run_id,
        interval(sign_of_life),
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Raises the counters of a run. Locks its row until the transaction ends.
pub async fn count(connection: &mut PgConnection, run_id: Uuid, counters: &Counters) -> Result<(), Error> {
    let by = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query!(
        "UPDATE sync.runs
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
             refused = refused + $13,
             expired_early = expired_early + $14
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
        by(counters.refused),
        by(counters.expired_early),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Closes a run, with its totals of requests and 429s. Done again it changes nothing more.
pub async fn finish(
    executor: impl PgExecutor<'_>,
    run_id: Uuid,
    status: Status,
    error: Option<&str>,
    (requests, throttled): (u64, u64),
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE sync.runs
         SET finished_at = now(), status = $2, error = $3, requests = $4, throttled = $5
         WHERE run_id = $1 AND finished_at IS NULL",
        run_id,
        status.as_str(),
        error,
        i64::try_from(requests).unwrap_or(i64::MAX),
        i64::try_from(throttled).unwrap_or(i64::MAX),
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// What an earlier run was answered, in orders.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of sync.runs, each with its COMMENT")]
pub struct PastRun {
    pub fetched: u64,
    pub closed: u64,
    pub refused: u64,
    pub expired_early: u64,
}

/// Earlier runs that were answered at all, the latest first.
pub async fn past(executor: impl PgExecutor<'_>, limit: i64) -> Result<Vec<PastRun>, Error> {
    let rows = sqlx::query!(
        "SELECT fetched, closed, refused, expired_early
         FROM sync.runs
         WHERE fetched + closed + refused > 0
         ORDER BY started_at DESC
         LIMIT $1",
        limit,
    )
    .fetch_all(executor)
    .await?;
    let past = rows.into_iter().map(|row| PastRun {
        fetched: row.fetched.unsigned_abs(),
        closed: row.closed.unsigned_abs(),
        refused: row.refused.unsigned_abs(),
        expired_early: row.expired_early.unsigned_abs(),
    });
    Ok(past.collect())
}

/// A run as it stands in the table.
pub async fn get(executor: impl PgExecutor<'_>, run_id: Uuid) -> Result<Run, Error> {
    let run = sqlx::query_as!(Run, "SELECT * FROM sync.runs WHERE run_id = $1", run_id).fetch_one(executor).await?;
    Ok(run)
}

/// The latest runs, newest first.
pub async fn latest(executor: impl PgExecutor<'_>, limit: i64) -> Result<Vec<Run>, Error> {
    let runs = sqlx::query_as!(Run, "SELECT * FROM sync.runs ORDER BY started_at DESC LIMIT $1", limit)
        .fetch_all(executor)
        .await?;
    Ok(runs)
}
