//! `sync.pace`: the request rate that an API tolerates, all workers of this database together, and who shares it.
//!
//! A run [`join`]s once, then [`report`]s every few seconds. Who runs is known from `sync.runs`: the runs with the same
//! `api` that have not ended and gave a sign of life in time, by the database's clock.

use sqlx::{Connection as _, PgConnection, PgExecutor};
use uuid::Uuid;

use super::Error;

/// One run joins at a time, so that of several that start together each sees those before it; any constant does.
/// Held within a transaction only.
const JOIN_LOCK: i64 = 0x6368_6174_7061_6365;

/// How an API's pace is shared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shared {
    /// Runs that share it, this one included.
    pub workers: u32,
    /// Requests per second of all of them; `None` if nobody has found it yet.
    pub total: Option<f64>,
}

/// What a run knows of the pace.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Its own requests per second.
    pub rate: f64,
    /// Requests per second that all workers together may send, if it has found out anything about that.
    pub found: Option<f64>,
    /// Among how many it believes to share it. With another number its finding is out of date, and not taken.
    pub workers: u32,
}

/// From now on a run asks this API. Locks the run's row, and every other join, until it is done.
pub async fn join(connection: &mut PgConnection, run_id: Uuid, api: &str) -> Result<Shared, Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", JOIN_LOCK).execute(&mut *transaction).await?;
    sqlx::query!("UPDATE sync.runs SET api = $2 WHERE run_id = $1", run_id, api).execute(&mut *transaction).await?;
    let row = sqlx::query!(
        r#"SELECT
               (
                   SELECT count(*) FROM sync.runs
                   WHERE api = $2 AND status = 'running' AND alive_until > now() AND run_id <> $1
               ) AS "others!",
               (SELECT requests_per_second FROM sync.pace WHERE api = $2) AS total"#,
        run_id,
        api,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(shared(row.others, row.total))
}

/// Tells what a run found, and hears of the others. Locks the run's row, then that of the pace, for one statement.
pub async fn report(executor: impl PgExecutor<'_>, run_id: Uuid, api: &str, report: &Report) -> Result<Shared, Error> {
    let row = sqlx::query_file!(
        "src/db/sql/report_pace.sql",
        run_id,
        api,
        report.rate,
        report.found,
        i64::from(report.workers),
    )
    .fetch_one(executor)
    .await?;
    Ok(shared(row.others, row.total))
}

fn shared(others: i64, total: Option<f64>) -> Shared {
    Shared { workers: u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1), total }
}
