//! What is due: the orders of a run, and their order.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::db::{Error, Store, Transaction, interval};

/// The orders of a run. `claim.sql`, `due.sql` and `count_due.sql` select the same ones: an order that is due but never
/// claimed would be waited for.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Only orders due by this time, the start of the run. Otherwise a run would never end.
    pub due_by: DateTime<Utc>,
    /// Only these orders, if set.
    pub only: Option<Vec<String>>,
}

/// A position in the queue, in due order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub(super) rank: i32,
    pub(super) deadline_base: Option<DateTime<Utc>>,
    pub(super) order_id: String,
}

impl Cursor {
    /// Before the first order.
    #[must_use]
    pub fn start() -> Self {
        Self { rank: i32::MIN, deadline_base: None, order_id: String::new() }
    }
}

/// Counts the orders of a run, leased ones included.
pub async fn count_due(store: &Store, scope: &Scope) -> Result<u64, Error> {
    let count = |mut transaction: Transaction| async move {
        let count = sqlx::query_file_scalar!("src/db/sql/count_due.sql", scope.due_by, scope.only.as_deref());
        Ok(count.fetch_one(&mut *transaction).await?.unsigned_abs())
    };
    store.run("count_due", count).await
}

#[derive(Debug, Clone)]
pub struct Due {
    /// Orders, at most as many as are looked at.
    pub orders: u64,
    /// At most this many of them are free.
    pub free: u64,
    /// Time until the first lease ends; `None` if no lease is held.
    pub free_in: Option<Duration>,
    /// A position before all of them.
    pub from: Cursor,
}

/// Limits how many orders are looked at, so that a long queue does not delay the start of a run.
const LOOKED_AT: i64 = 50_000;

/// Looks at what is left of a run, leased orders included; `None` if nothing is.
pub async fn due(store: &Store, scope: &Scope, lease_length: Duration) -> Result<Option<Due>, Error> {
    let look = |mut transaction: Transaction| async move {
        let only = scope.only.as_deref();
        let due = sqlx::query_file!("src/db/sql/due.sql", scope.due_by, only, LOOKED_AT, interval(lease_length));
        Ok(due.fetch_one(&mut *transaction).await?)
    };
    let due = about_orders(store, "due", scope, look).await?;
    let Some(rank) = due.rank else { return Ok(None) };
    let (free, from) = if due.orders < LOOKED_AT {
        // No id is empty, so this is before all of them.
        (due.free.unsigned_abs(), Cursor { rank, deadline_base: due.deadline_base, order_id: String::new() })
    } else {
        (u64::MAX, Cursor::start())
    };
    Ok(Some(Due { orders: due.orders.unsigned_abs(), free, free_in: due.free_in.map(Duration::from_secs_f64), from }))
}

/// Runs a statement about the orders of a run. A given list of orders gets a custom plan; otherwise plans that scan the
/// table are forbidden.
pub(super) async fn about_orders<T, F>(
    store: &Store,
    name: &'static str,
    scope: &Scope,
    operation: impl FnMut(Transaction) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    if scope.only.is_some() { store.run(name, operation).await } else { store.run_by_key(name, operation).await }
}
