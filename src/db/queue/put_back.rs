//! Orders that come back: by `chatsync sync ORDER`, `chatsync retry` and after `queue.retention`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::db::{Error, Store, Transaction, interval};
use crate::domain::OrderState;

/// Makes live orders due now. Returns the states of those of `order_ids` that are in the queue.
pub async fn make_due(store: &Store, order_ids: &[String]) -> Result<BTreeMap<String, OrderState>, Error> {
    let make_due = |mut transaction: Transaction| async move {
        let rows = sqlx::query!(
            "-- make_due
             WITH due AS (
                 UPDATE sync.order_queue SET due_at = now()
                 WHERE order_id = ANY ($1) AND state IN ('pending', 'open') AND due_at > now()
             )
             SELECT order_id, state FROM sync.order_queue WHERE order_id = ANY ($1)",
            order_ids,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let parse = |state: &str| OrderState::parse(state).ok_or(Error::Decode { column: "order_queue.state" });
        rows.into_iter().map(|row| Ok((row.order_id, parse(&row.state)?))).collect()
    };
    store.run("make_due", make_due).await
}

/// Selects the orders of `chatsync retry`.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// All dead orders.
    pub dead: bool,
    /// These orders, in any state.
    pub order_ids: Vec<String>,
    /// Orders closed at or after this time.
    pub closed_since: Option<DateTime<Utc>>,
}

/// What `chatsync retry` did.
#[derive(Debug, PartialEq, Eq)]
pub struct Retried {
    pub orders: u64,
    /// Ids that are not in the queue.
    pub unknown: Vec<String>,
}

/// Makes orders due now, with no failures counted. Locks their rows.
pub async fn retry(store: &Store, retry: &Retry) -> Result<Retried, Error> {
    let put_back = |mut transaction: Transaction| async move {
        let unknown = sqlx::query_scalar!(
            r#"-- unknown_orders
               SELECT t.order_id AS "order_id!"
               FROM unnest($1::text[]) AS t (order_id)
               WHERE NOT EXISTS (SELECT FROM sync.order_queue AS q WHERE q.order_id = t.order_id)"#,
            &retry.order_ids,
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(Retried { orders: self::put_back(&mut transaction, retry).await?, unknown })
    };
    store.run("retry", put_back).await
}

/// As [`retry`], as a part of a transaction. Returns how many orders.
pub(super) async fn put_back(connection: &mut PgConnection, retry: &Retry) -> Result<u64, Error> {
    let retry = sqlx::query_file!("src/db/sql/retry.sql", retry.dead, &retry.order_ids, retry.closed_since);
    Ok(retry.execute(connection).await?.rows_affected())
}

/// Deletes up to `limit` orders that ended longer ago than `retention`, except dead ones. Returns how many. Locks them
/// until the transaction ends and skips locked rows. Repeated, it deletes others.
pub async fn forget(store: &Store, retention: Duration, limit: i64) -> Result<u64, Error> {
    let forget = |mut transaction: Transaction| async move {
        let forget = sqlx::query_file!("src/db/sql/forget.sql", interval(retention), limit);
        Ok(forget.execute(&mut *transaction).await?.rows_affected())
    };
    store.run("forget", forget).await
}
