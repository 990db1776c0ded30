//! Adding orders to the queue.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::put_back::{self, Retry};
use crate::db::columns::{column, query_columns};
use crate::db::{Error, Store, Transaction};
use crate::domain::NewOrder;

/// Counts of a batch of enqueued orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// Orders that were new.
    pub added: u64,
    /// Known orders that were reopened or completed.
    pub updated: u64,
    /// Orders that are still not in the queue, or lack what their line says: a trigger or rule of the database has dropped
    /// or changed it.
    pub dropped: Vec<String>,
}

/// One call of `chatsync enqueue`, or of another feeder.
#[derive(Debug, Clone)]
pub struct Feeding {
    /// Distinguishes its lines from those of other calls.
    pub id: Uuid,
    /// A file name, `stdin`, or another description of the origin.
    pub source: String,
    /// Fetch known orders again, whatever their state.
    pub reopen: bool,
    pub defaults: Defaults,
}

/// Facts of lines that do not state them.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    pub connect_user_id: Option<String>,
    pub ids_internal: Option<bool>,
    pub retailer_id: Option<String>,
    pub priority: Option<i16>,
}

impl Feeding {
    /// A feed without defaults.
    #[must_use]
    pub fn of(source: impl Into<String>) -> Self {
        Self { id: Uuid::new_v4(), source: source.into(), reopen: false, defaults: Defaults::default() }
    }
}

/// Adds orders, or completes known ones. Locks their rows in key order. Repeated after a lost reply, it changes nothing
/// but counts the added orders as known.
pub async fn enqueue(store: &Store, orders: &[NewOrder], feeding: &Feeding) -> Result<Enqueued, Error> {
    let orders = &each_once(orders);
    store.run("enqueue", |mut transaction| async move { add(&mut transaction, orders, feeding).await }).await
}

async fn add(
    connection: &mut PgConnection,
    orders: &[Cow<'_, NewOrder>],
    feeding: &Feeding,
) -> Result<Enqueued, Error> {
    let counts = query_columns!(
        query_file "src/db/sql/enqueue.sql",
        order_id: &[&str] = &column(orders, |order| order.order_id.as_str()),
        connect_user_id: &[Option<&str>] = &column(orders, |order| order.connect_user_id.as_deref()),
        ids_internal: &[Option<bool>] = &column(orders, |order| order.ids_internal),
        retailer_id: &[Option<&str>] = &column(orders, |order| order.retailer_id.as_deref()),
        priority: &[Option<i16>] = &column(orders, |order| order.priority),
        completed_at: &[Option<DateTime<Utc>>] = &column(orders, |order| order.completed_at);
        feeding.source,
        feeding.reopen,
        feeding.id,
        feeding.defaults.connect_user_id,
        feeding.defaults.ids_internal,
        feeding.defaults.retailer_id,
        feeding.defaults.priority,
    )
    .fetch_one(&mut *connection)
    .await?;
    if !counts.put_back.is_empty() {
        put_back::put_back(connection, &Retry { order_ids: counts.put_back, ..Retry::default() }).await?;
    }
    let mut enqueued =
        Enqueued { added: counts.added.unsigned_abs(), updated: counts.updated.unsigned_abs(), dropped: Vec::new() };
    if counts.has_triggers {
        (enqueued.dropped, enqueued.added) = not_taken(connection, orders, feeding).await?;
    }
    Ok(enqueued)
}

/// Returns the orders that lack what their lines say although nothing failed, and how many were really added.
async fn not_taken(
    connection: &mut PgConnection,
    orders: &[Cow<'_, NewOrder>],
    feeding: &Feeding,
) -> Result<(Vec<String>, u64), Error> {
    let found = query_columns!(
        query_file "src/db/sql/not_taken.sql",
        order_id: &[&str] = &column(orders, |order| order.order_id.as_str()),
        connect_user_id: &[Option<&str>] = &column(orders, |order| order.connect_user_id.as_deref()),
        ids_internal: &[Option<bool>] = &column(orders, |order| order.ids_internal),
        retailer_id: &[Option<&str>] = &column(orders, |order| order.retailer_id.as_deref()),
        completed_at: &[Option<DateTime<Utc>>] = &column(orders, |order| order.completed_at);
        feeding.id,
        feeding.reopen,
    )
    .fetch_one(connection)
    .await?;
    Ok((found.order_ids, found.added.unsigned_abs()))
}

/// Counts the orders without a user: live ones, and those given up for that reason.
pub async fn count_without_user(store: &Store) -> Result<u64, Error> {
    let count = |mut transaction: Transaction| async move {
        let count = sqlx::query_scalar!(
            r#"-- count_without_user
           SELECT count(*) AS "orders!"
           FROM sync.order_queue
           WHERE connect_user_id IS NULL AND (ended_at IS NULL OR (state = 'dead' AND last_error_kind = 'no_user'))"#
        );
        Ok(count.fetch_one(&mut *transaction).await?.unsigned_abs())
    };
    store.run("count_without_user", count).await
}

/// Merges lines of the same order, later lines over earlier ones. The result is sorted by id.
fn each_once(orders: &[NewOrder]) -> Vec<Cow<'_, NewOrder>> {
    let mut sorted: Vec<&NewOrder> = orders.iter().collect();
    sorted.sort_by(|one, other| one.order_id.cmp(&other.order_id));
    let mut merged: Vec<Cow<'_, NewOrder>> = Vec::with_capacity(sorted.len());
    for order in sorted {
        match merged.last_mut() {
            Some(last) if last.order_id == order.order_id => last.to_mut().merge(order),
            _ => merged.push(Cow::Borrowed(order)),
        }
    }
    merged
}
