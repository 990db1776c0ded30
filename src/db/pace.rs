//! `sync.pace`: the request rate that an API tolerates from all workers of this database, and how they share it.
//!
//! A run [`join`]s once, then [`report`]s every few seconds. `sync.known_pace` halves a kept pace for every day without
//! confirmation. The runs that share it are in `sync.runs`: same `api`, not ended, and with a sign of life in time by
//! the clock of the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Error, Store, Transaction};

/// Lock id that makes runs join one after the other: two that join at once would not count each other. Any constant
/// will do. Held within a transaction only.
const JOIN_LOCK: i64 = 0x6368_6174_7061_6365;

/// How the pace of an API is shared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shared {
    /// Runs that share it, this one included.
    pub workers: u32,
    /// What all of them may send; `None` if nothing better than the initial rate is known.
    pub total: Option<Total>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Total {
    pub per_second: f64,
    /// Whether the API refused more within the last day. Otherwise it served this rate, and perhaps would serve more.
    pub is_limit: bool,
}

/// A pace kept by earlier runs, at what it is worth today.
#[derive(Debug, Clone, Copy)]
pub struct KnownPace {
    /// Of all workers together.
    pub requests_per_second: f64,
    pub found_at: DateTime<Utc>,
    pub is_limit: bool,
}

/// What a run reports about the pace.
#[derive(Debug, Clone, Copy)]
pub struct PaceReport {
    /// Own requests per second.
    pub rate: f64,
    /// Requests per second that it was served over five seconds, if it sent for so long.
    pub served: Option<f64>,
    /// Requests per second for all workers, if it met the limit of the API.
    pub found: Option<f64>,
    /// Number of workers that it believes to share with. If it differs, the finding is outdated and ignored.
    pub workers: u32,
    /// Rate at which a search begins: a lower one is only known if it is a limit.
    pub initial: f64,
}

/// Returns the pace that earlier runs kept; `None` if a search begins at `initial` anyway.
pub async fn known(connection: &mut PgConnection, api: &str, initial: f64) -> Result<Option<KnownPace>, Error> {
    let known = sqlx::query_as!(
        KnownPace,
        r#"-- known_pace
           SELECT requests_per_second AS "requests_per_second!", found_at AS "found_at!", is_limit AS "is_limit!"
           FROM sync.known_pace
           WHERE api = $1 AND (is_limit OR requests_per_second > $2)"#,
        api,
        initial,
    );
    Ok(known.fetch_optional(connection).await?)
}

/// Registers a run with an API. Locks the row of the run, and all other joins, until the transaction ends.
pub async fn join(store: &Store, run_id: Uuid, api: &str, initial: f64) -> Result<Shared, Error> {
    store.run("join", |mut transaction| async move { join_others(&mut transaction, run_id, api, initial).await }).await
}

async fn join_others(connection: &mut PgConnection, run_id: Uuid, api: &str, initial: f64) -> Result<Shared, Error> {
    sqlx::query!("-- lock_join\nSELECT pg_advisory_xact_lock($1)", JOIN_LOCK).execute(&mut *connection).await?;
    sqlx::query!("-- join\nUPDATE sync.runs SET api = $2 WHERE run_id = $1", run_id, api)
        .execute(&mut *connection)
        .await?;
    let others = sqlx::query_scalar!(
        r#"-- other_runs
           SELECT count(*) AS "others!" FROM sync.runs
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

/// Reports what a run found and returns what the others did. Locks the row of the run, then that of the pace, for one
/// statement.
pub async fn report(store: &Store, run_id: Uuid, api: &str, report: &PaceReport) -> Result<Shared, Error> {
    let exchange = |mut transaction: Transaction| async move {
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
        .fetch_one(&mut *transaction)
        .await?;
        let total = row.total.zip(row.is_limit).map(|(per_second, is_limit)| Total { per_second, is_limit });
        Ok(Shared { workers: workers(row.others), total })
    };
    store.run("report_pace", exchange).await
}

fn workers(others: i64) -> u32 {
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}
