//! `sync.evidence`: what the storm guard remembers between runs per id space (server, banner and kind of ids).

use std::time::Duration;

use sqlx::PgConnection;

use super::{Error, Store, Transaction, interval};
use crate::domain::IdSpace;

/// How long evidence is valid.
const LASTS: Duration = Duration::from_hours(24);

/// Lock id that makes runs count one after the other: two at once would both believe up to the limit. Any constant will
/// do. Held within a transaction only.
const COUNT_LOCK: i64 = 0x6368_6174_6775_6172;

/// Whether the id space had a good reply in the last 24 hours.
pub async fn is_good(store: &Store, id_space: &IdSpace) -> Result<bool, Error> {
    let look = |mut transaction: Transaction| async move {
        let is_good = sqlx::query_scalar!(
            r#"-- is_good
           SELECT EXISTS (
               SELECT FROM sync.evidence WHERE id_space = $1 AND last_good_at > now() - $2::interval
           ) AS "is_good!""#,
            id_space.to_string(),
            interval(LASTS),
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(is_good)
    };
    store.run("is_good", look).await
}

/// Records good replies, and deletes rows older than two days.
pub async fn note_good(store: &Store, id_spaces: &[IdSpace]) -> Result<(), Error> {
    let mut id_spaces: Vec<String> = id_spaces.iter().map(ToString::to_string).collect();
    // Sorted, so that two runs lock them in the same order.
    id_spaces.sort_unstable();
    let id_spaces = &id_spaces;
    let note = |mut transaction: Transaction| async move {
        sqlx::query!(
            "-- note_good
         WITH old AS (
             DELETE FROM sync.evidence WHERE hour < now() - interval '2 days'
         )
         INSERT INTO sync.evidence (id_space, hour, last_good_at)
         SELECT id_space, date_trunc('hour', now(), 'UTC'), now() FROM unnest($1::text[]) AS t (id_space)
         ON CONFLICT (id_space, hour) DO UPDATE SET last_good_at = excluded.last_good_at",
            id_spaces,
        )
        .execute(&mut *transaction)
        .await?;
        Ok(())
    };
    store.run("note_good", note).await
}

/// Counts orders that seem to have ended, without a good reply that shows the id space to be right. Returns true if
/// fewer than `limit` were counted in the last 24 hours, these included. Takes an advisory lock until the transaction
/// ends.
pub async fn are_few(store: &Store, id_space: &IdSpace, orders: u64, limit: u64) -> Result<bool, Error> {
    let id_space = &id_space.to_string();
    let count = |mut transaction: Transaction| async move {
        Ok(count_unknown(&mut transaction, id_space, orders).await? < limit)
    };
    store.run("count_unknown", count).await
}

async fn count_unknown(connection: &mut PgConnection, id_space: &str, orders: u64) -> Result<u64, Error> {
    sqlx::query!("-- lock_count\nSELECT pg_advisory_xact_lock($1)", COUNT_LOCK).execute(&mut *connection).await?;
    sqlx::query!(
        "-- add_unknown
         INSERT INTO sync.evidence (id_space, hour, unknown_orders)
         VALUES ($1, date_trunc('hour', now(), 'UTC'), $2)
         ON CONFLICT (id_space, hour)
         DO UPDATE SET unknown_orders = evidence.unknown_orders + excluded.unknown_orders",
        id_space,
        i64::try_from(orders).unwrap_or(i64::MAX),
    )
    .execute(&mut *connection)
    .await?;
    // Whole hours: count too many rather than too few.
    let counted = sqlx::query_scalar!(
        r#"-- count_unknown
           SELECT coalesce(sum(unknown_orders), 0)::bigint AS "orders!"
           FROM sync.evidence
           WHERE id_space = $1 AND hour > now() - $2::interval - interval '1 hour'"#,
        id_space,
        interval(LASTS),
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(counted.unsigned_abs())
}
