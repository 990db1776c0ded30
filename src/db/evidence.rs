//! `sync.evidence`: what the storm guard remembers between runs per id space (server, banner and kind of ids).

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};

use super::{Error, interval};
use crate::domain::IdSpace;

/// How long evidence is valid.
const LASTS: Duration = Duration::from_hours(24);

/// Lock id that makes runs count one after the other: two at once would both believe up to the limit. Any constant will
/// do. Held within a transaction only.
const COUNT_LOCK: i64 = 0x6368_6174_6775_6172;

/// Whether the id space had a good reply in the last 24 hours.
pub async fn is_good(executor: impl PgExecutor<'_>, id_space: &IdSpace) -> Result<bool, Error> {
    let is_good = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM sync.evidence WHERE id_space = $1 AND last_good_at > now() - $2::interval
           ) AS "is_good!""#,
        id_space.to_string(),
        interval(LASTS),
    )
    .fetch_one(executor)
    .await?;
    Ok(is_good)
}

/// Records good replies, and deletes rows older than two days.
pub async fn note_good(executor: impl PgExecutor<'_>, id_spaces: &[IdSpace]) -> Result<(), Error> {
    let mut id_spaces: Vec<String> = id_spaces.iter().map(ToString::to_string).collect();
    // Sorted, so that two runs lock them in the same order.
    id_spaces.sort_unstable();
    sqlx::query!(
        "WITH old AS (
             DELETE FROM sync.evidence WHERE hour < now() - interval '2 days'
         )
         INSERT INTO sync.evidence (id_space, hour, last_good_at)
         SELECT id_space, date_trunc('hour', now(), 'UTC'), now() FROM unnest($1::text[]) AS t (id_space)
         ON CONFLICT (id_space, hour) DO UPDATE SET last_good_at = excluded.last_good_at",
        &id_spaces,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Counts orders that seem to have ended, without a good reply that shows the id space to be right. Returns true if
/// fewer than `limit` were counted in the last 24 hours, these included. Takes an advisory lock until the transaction
/// ends.
pub async fn are_few(
    connection: &mut PgConnection,
    id_space: &IdSpace,
    orders: u64,
    limit: u64,
) -> Result<bool, Error> {
    let id_space = id_space.to_string();
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", COUNT_LOCK).execute(&mut *connection).await?;
    sqlx::query!(
        "INSERT INTO sync.evidence (id_space, hour, unknown_orders)
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
        r#"SELECT coalesce(sum(unknown_orders), 0)::bigint AS "orders!"
           FROM sync.evidence
           WHERE id_space = $1 AND hour > now() - $2::interval - interval '1 hour'"#,
        id_space,
        interval(LASTS),
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(counted.unsigned_abs() < limit)
}
