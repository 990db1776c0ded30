//! `sync.pace`: the request rate that an API tolerates, all workers of this database together, and who shares it.
//!
//! A run [`join`]s once, then [`report`]s every few seconds. What was kept is halved with every day that did not confirm
//! it: `sync.known_pace` does that, when it is read. Who runs is known from `sync.runs`: the runs with the same
//! `api` that have not ended and gave a sign of life in time, by the database's clock.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
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
    /// What all of them may send; `None` if nothing better is known than where a search begins.
    pub total: Option<Total>,
}

/// Requests per second of all workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Total {
    /// Requests per second.
    pub per_second: f64,
    /// Whether the API refused more within the last day; otherwise it served this, and perhaps would more.
    pub is_limit: bool,
}

/// A pace kept by earlier runs, as much as is left of it today.
#[derive(Debug, Clone, Copy)]
pub struct KnownPace {
    /// All workers together.
    pub requests_per_second: f64,
    /// When it was last confirmed.
    pub found_at: DateTime<Utc>,
    /// As [`Total::is_limit`].
    pub is_limit: bool,
}

/// What a run knows of the pace.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Its own requests per second.
    pub rate: f64,
    /// Requests per second that it was served for five seconds, if it asked for so long.
    pub served: Option<f64>,
    /// Requests per second that all workers together may send, if it met the API's limit.
    pub found: Option<f64>,
    /// Among how many it believes to share it. With another number its finding is out of date, and not taken.
    pub workers: u32,
    /// Where a search begins: nothing lower is known but a limit.
    pub initial: f64,
}

/// The pace that earlier runs kept for an API. `None` if a search begins at `initial` all the same.
pub async fn known(executor: impl PgExecutor<'_>, api: &str, initial: f64) -> Result<Option<KnownPace>, Error> {
    let known = sqlx::query_as!(
        KnownPace,
        r#"SELECT requests_per_second AS "requests_per_second!", found_at AS "found_at!", is_limit AS "is_limit!"
           FROM sync.known_pace
           WHERE api = $1 AND (is_limit OR requests_per_second > $2)"#,
        api,
        initial,
    );
    Ok(known.fetch_optional(executor).await?)
}

/// From now on a run asks this API. Locks the run's row, and every other join, until the transaction ends.
pub async fn join(connection: &mut PgConnection, run_id: Uuid, api: &str, initial: f64) -> Result<Shared, Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", JOIN_LOCK).execute(&mut *connection).await?;
    sqlx::query!("UPDATE sync.runs SET api = $2 WHERE run_id = $1", run_id, api).execute(&mut *connection).await?;
    let others = sqlx::query_scalar!(
        r#"SELECT count(*) AS "others!" FROM sync.runs
           WHERE api = $2 AND status = 'running' AND alive_until > now() AND run_id <> $1"#,
        run_id,
        api,
    )
    .fetch_one(&mut *connection)
    .await?;
    let known = known(&mut *connection, api, initial).await?;
    let total = known.map(|known| Total { per_second: known.requests_per_second, is_limit: known.is_limit });
    Ok(Shared { workers: workers(others), total })
}

/// Tells what a run found, and hears of the others. Locks the run's row, then that of the pace, for one statement.
pub async fn report(executor: impl PgExecutor<'_>, run_id: Uuid, api: &str, report: &Report) -> Result<Shared, Error> {
    let row = sqlx::query_file!(
        "src/db/sql/report_pace.sql",
        run_id,
        api,
        report.rate,
        report.served,
        report.found,
        i64::from(report.workers),
        report.initial,
    )
    .fetch_one(executor)
    .await?;
    let total = row.total.zip(row.is_limit).map(|(per_second, is_limit)| Total { per_second, is_limit });
    Ok(Shared { workers: workers(row.others), total })
}

/// This one and so many others.
fn workers(others: i64) -> u32 {
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}
