//! `sync.rejects`: pieces of replies that could not be decoded. They are kept for inspection, and the oldest are
//! dropped once they are too old or too many.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::columns::{column, query_columns};
use super::{Error, Store, Transaction, interval};
use crate::domain::{Reject, Settlement};

/// Stores the rejects of a batch.
pub(super) async fn insert(
    connection: &mut PgConnection,
    run_id: Uuid,
    settlements: &[&Settlement],
) -> Result<(), Error> {
    let rejects: Vec<(&Settlement, &Reject)> =
        settlements.iter().flat_map(|settled| settled.rejects.iter().map(move |reject| (*settled, reject))).collect();
    if rejects.is_empty() {
        return Ok(());
    }
    query_columns!(
        query_file "src/db/sql/insert_rejects.sql",
        order_id: &[&str] = &column(&rejects, |(settled, _)| settled.order_id.as_str()),
        received_at: &[DateTime<Utc>] = &column(&rejects, |(settled, _)| settled.attempt.answered_at),
        http_status: &[Option<i16>] =
            &column(&rejects, |(_, reject)| reject.http_status.and_then(|status| i16::try_from(status).ok())),
        kind: &[&str] = &column(&rejects, |(_, reject)| reject.kind.as_str()),
        json_path: &[&str] = &column(&rejects, |(_, reject)| reject.fault.path.as_str()),
        reason: &[&str] = &column(&rejects, |(_, reject)| reject.fault.reason.as_str()),
        body: &[&str] = &column(&rejects, |(_, reject)| reject.fault.body()),
        body_bytes: &[i64] =
            &column(&rejects, |(_, reject)| i64::try_from(reject.fault.body_bytes()).unwrap_or(i64::MAX));
        run_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Rejects dropped because of one limit, since the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The setting: `keep` or `max_bytes` of section `rejects`.
    pub reason: String,
    pub rejects: i64,
    /// What they counted for in `rejects.max_bytes`.
    pub kept_bytes: i64,
    pub last_dropped_at: DateTime<Utc>,
}

/// Returns what was dropped so far, by reason. Takes no locks.
pub async fn dropped(connection: &mut PgConnection) -> Result<Vec<Dropped>, Error> {
    let dropped = sqlx::query_as!(
        Dropped,
        r#"-- dropped_rejects
           SELECT reason, rejects, kept_bytes, sync.within_calendar(last_dropped_at) AS "last_dropped_at!"
           FROM sync.rejects_dropped
           ORDER BY reason"#
    );
    Ok(dropped.fetch_all(connection).await?)
}

/// Returns the newest reject that no longer fits into `max_bytes`; `None` if all fit. Takes no locks.
pub async fn newest_excess(store: &Store, max_bytes: u64) -> Result<Option<i64>, Error> {
    let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    let look = |mut transaction: Transaction| async move {
        let newest = sqlx::query_file_scalar!("src/db/sql/newest_excess_reject.sql", max_bytes);
        Ok(newest.fetch_optional(&mut *transaction).await?)
    };
    store.run_by_key("newest_excess_reject", look).await
}

/// Drops, among the `limit` oldest rejects, those up to `excess` and those older than `keep`, and adds them to
/// [`dropped`]. Returns how many. Locks them until the transaction ends and skips locked rows. Repeated, it drops
/// others.
pub async fn drop_oldest(store: &Store, excess: Option<i64>, keep: Option<Duration>, limit: i64) -> Result<u64, Error> {
    let drop = |mut transaction: Transaction| async move {
        let rejects = sqlx::query_file_scalar!("src/db/sql/drop_rejects.sql", excess, keep.map(interval), limit);
        Ok(rejects.fetch_one(&mut *transaction).await?.unsigned_abs())
    };
    store.run_by_key("drop_rejects", drop).await
}
