//! Counts of the queue, for `chatsync status`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::db::{Error, Store, Transaction};
use crate::domain::OrderState;

/// Counts of the queue.
#[derive(Debug, Clone)]
pub struct Overview {
    /// By state; states without orders are missing.
    pub by_state: BTreeMap<OrderState, u64>,
    pub due: u64,
    pub leased: u64,
    /// Live orders whose last reply was a failure or not fully understood.
    pub failing: u64,
    /// Due time of the due order that has waited longest.
    pub oldest_due_at: Option<DateTime<Utc>>,
    /// The nearest deadline of the live orders, before adding `queue.readable_window`.
    pub nearest_deadline_base: Option<DateTime<Utc>>,
}

impl Overview {
    #[must_use]
    pub fn orders(&self, state: OrderState) -> u64 {
        self.by_state.get(&state).copied().unwrap_or(0)
    }
}

pub(in crate::db) async fn overview(connection: &mut PgConnection) -> Result<Overview, Error> {
    let rows = sqlx::query_file!("src/db/sql/overview.sql").fetch_all(connection).await?;
    let mut overview = Overview {
        by_state: BTreeMap::new(),
        due: 0,
        leased: 0,
        failing: 0,
        oldest_due_at: None,
        nearest_deadline_base: None,
    };
    let earliest = |one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>| one.into_iter().chain(other).min();
    for row in rows {
        let state = OrderState::parse(&row.state).ok_or(Error::Decode { column: "order_queue.state" })?;
        overview.by_state.insert(state, row.orders.unsigned_abs());
        overview.due += row.due.unsigned_abs();
        overview.leased += row.leased.unsigned_abs();
        overview.failing += row.failing.unsigned_abs();
        overview.oldest_due_at = earliest(overview.oldest_due_at, row.oldest_due_at);
        overview.nearest_deadline_base = earliest(overview.nearest_deadline_base, row.nearest_deadline_base);
    }
    Ok(overview)
}

/// Orders with the same kind of failure.
#[derive(Debug, Serialize)]
pub struct Failing {
    /// As in `sync.order_queue.last_error_kind`.
    pub kind: String,
    pub failing: i64,
    pub dead: i64,
    /// A few examples, live ones first.
    pub examples: Vec<String>,
}

/// Groups failing and dead orders by kind, the most frequent first. Reads all live orders.
pub async fn failing(store: &Store) -> Result<Vec<Failing>, Error> {
    let look = |mut transaction: Transaction| async move {
        Ok(sqlx::query_file_as!(Failing, "src/db/sql/failing.sql").fetch_all(&mut *transaction).await?)
    };
    store.run("failing", look).await
}
