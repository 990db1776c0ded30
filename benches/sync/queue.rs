//! Fills the queue, as upstream jobs do, and checks the tables.

use std::ops::Range;

use anyhow::ensure;
use sqlx::{AssertSqlSafe, PgPool};

use crate::orders::order_id;

/// Orders per statement, as in `chatsync enqueue`.
const BATCH: u32 = 5_000;

/// Empties all tables, including the stored pace.
pub(crate) async fn reset(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query(
        "TRUNCATE chat.orders, chat.messages, chat.users, chat.participants,
                  sync.order_queue, sync.runs, sync.rejects, sync.pace",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Renames the tables by this number. There are none until the next migration.
pub(crate) async fn put_aside(pool: &PgPool, number: u32) -> anyhow::Result<()> {
    rename(pool, "", &format!("_{number}")).await
}

/// Swaps the tables with those of this number.
pub(crate) async fn swap(pool: &PgPool, number: u32) -> anyhow::Result<()> {
    let aside = format!("_{number}");
    rename(pool, "", "_between").await?;
    rename(pool, &aside, "").await?;
    rename(pool, "_between", &aside).await
}

/// Drops the tables of this number.
pub(crate) async fn drop_aside(pool: &PgPool, number: u32) -> anyhow::Result<()> {
    let drop = format!("DROP SCHEMA chat_{number}, sync_{number} CASCADE");
    sqlx::query(AssertSqlSafe(drop)).execute(pool).await?;
    Ok(())
}

async fn rename(pool: &PgPool, from: &str, to: &str) -> anyhow::Result<()> {
    for schema in ["chat", "sync"] {
        let rename = format!("ALTER SCHEMA {schema}{from} RENAME TO {schema}{to}");
        sqlx::query(AssertSqlSafe(rename)).execute(pool).await?;
    }
    Ok(())
}

/// Adds orders that are due immediately.
pub(crate) async fn enqueue(pool: &PgPool, indices: Range<u32>) -> anyhow::Result<()> {
    let mut start = indices.start;
    while start < indices.end {
        let end = indices.end.min(start + BATCH);
        let order_ids: Vec<String> = (start..end).map(order_id).collect();
        sqlx::query(
            "INSERT INTO sync.order_queue (order_id, connect_user_id)
             SELECT order_id, 'bench-user' FROM unnest($1::text[]) AS t (order_id)",
        )
        .bind(order_ids)
        .execute(pool)
        .await?;
        start = end;
    }
    settle_down(pool).await
}

pub(crate) async fn make_due(pool: &PgPool, indices: Range<u32>) -> anyhow::Result<()> {
    let order_ids: Vec<String> = indices.map(order_id).collect();
    let made_due = sqlx::query("UPDATE sync.order_queue SET due_at = now() WHERE order_id = ANY ($1)")
        .bind(&order_ids)
        .execute(pool)
        .await?
        .rows_affected();
    ensure!(made_due == order_ids.len() as u64, "{made_due} of {} orders could be made due", order_ids.len());
    settle_down(pool).await
}

/// Vacuums the tables as autovacuum would, and forgets the pace, so that every run starts with the same one.
///
/// Tables of `chat` that are still empty stay unvacuumed, as after a migration, so that the planner expects them to
/// grow. If it knew that they are empty, cached plans would read them completely.
async fn settle_down(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query("TRUNCATE sync.pace").execute(pool).await?;
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await?;
    sqlx::query("VACUUM (ANALYZE) sync.order_queue, sync.runs").execute(pool).await?;
    let is_empty: bool = sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM chat.orders)").fetch_one(pool).await?;
    if !is_empty {
        sqlx::query("VACUUM (ANALYZE) chat.orders, chat.messages, chat.users, chat.participants").execute(pool).await?;
    }
    Ok(())
}

/// Asserts that exactly this many orders are due.
pub(crate) async fn expect_due(pool: &PgPool, orders: u32) -> anyhow::Result<()> {
    let due: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sync.order_queue WHERE state IN ('pending', 'open') AND due_at <= now()",
    )
    .fetch_one(pool)
    .await?;
    ensure!(due == i64::from(orders), "{due} orders are due instead of {orders}");
    Ok(())
}

/// Asserts the number of conversations and messages in the tables.
pub(crate) async fn expect_stored(pool: &PgPool, orders: u32, messages: u64) -> anyhow::Result<()> {
    let stored: (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM chat.orders), (SELECT count(*) FROM chat.messages)")
            .fetch_one(pool)
            .await?;
    let expected = (i64::from(orders), i64::try_from(messages)?);
    ensure!(stored == expected, "{stored:?} orders and messages are stored instead of {expected:?}");
    Ok(())
}
