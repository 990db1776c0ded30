//! What a run would do now, for `chatsync plan`: counted by the database, in one snapshot, without changing anything.
//!
//! A queue that keeps up costs one pass over the live orders. Only if some deadline falls within the run are the due
//! orders walked a second time, in claim order. No row per order leaves the database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::pace::{self, KnownPace};
use super::{Error, interval};

/// What a run would meet.
#[derive(Debug)]
pub struct Totals {
    /// The database's time of all that follows.
    pub now: DateTime<Utc>,
    /// Due orders that were never fetched.
    pub pending: u64,
    /// Due orders to be read again.
    pub open: u64,
    /// Due orders that a worker holds now.
    pub held: u64,
    /// Due orders without a Connect user.
    pub without_user: u64,
    /// Connect users of the due orders.
    pub users: u64,
    /// Due orders beyond the limit.
    pub left_due: u64,
    /// Due orders whose deadline has passed.
    pub past: u64,
    /// The nearest deadline of a due order.
    pub nearest_deadline: Option<DateTime<Utc>>,
    /// Orders not in this run whose deadline comes before they can be fetched.
    pub later_missed: u64,
    /// Orders not in this run whose deadline has passed.
    pub later_past: u64,
}

impl Totals {
    /// Orders of the run.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.pending + self.open
    }
}

/// An order that would be fetched too late.
#[derive(Debug)]
pub struct Missed {
    /// The order.
    pub order_id: String,
    /// By when it should have been fetched.
    pub deadline: DateTime<Utc>,
    /// When it would be.
    pub fetched_at: DateTime<Utc>,
}

/// Orders that would be fetched too late.
#[derive(Debug, Default)]
pub struct Late {
    /// How many.
    pub orders: u64,
    /// The first of them.
    pub first: Vec<Missed>,
}

/// Orders listed at most, of each sort.
const LISTED: i64 = 5;

/// A look at the queue: one snapshot, one connection. Takes no locks.
pub struct Forecast {
    snapshot: sqlx::Transaction<'static, sqlx::Postgres>,
    window: Duration,
    next_tick: Option<DateTime<Utc>>,
    limit: Option<i64>,
    last: Option<Place>,
}

/// An order's place in the order of claiming.
struct Place {
    rank: i32,
    deadline_base: DateTime<Utc>,
    order_id: String,
}

impl Forecast {
    /// Begins one for a run of at most `limit` orders, with the others left for `next_tick` or later.
    pub async fn begin(
        pool: &PgPool,
        window: Duration,
        next_tick: Option<DateTime<Utc>>,
        limit: Option<u64>,
    ) -> Result<Self, Error> {
        let mut snapshot = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let limit = limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let last = match limit {
            Some(limit) => last_of(&mut snapshot, limit).await?,
            None => None,
        };
        Ok(Self { snapshot, window, next_tick, limit, last })
    }

    /// Counts the live orders.
    pub async fn totals(&mut self) -> Result<Totals, Error> {
        let last = self.last.as_ref();
        let row = sqlx::query_file!(
            "src/db/sql/forecast_totals.sql",
            interval(self.window),
            self.next_tick,
            last.map(|place| place.rank),
            last.map(|place| place.deadline_base),
            last.map(|place| place.order_id.as_str()),
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        Ok(Totals {
            now: row.now,
            pending: row.pending.unsigned_abs(),
            open: row.open.unsigned_abs(),
            held: row.held.unsigned_abs(),
            without_user: row.without_user.unsigned_abs(),
            users: row.users.unsigned_abs(),
            left_due: row.left_due.unsigned_abs(),
            past: row.past.unsigned_abs(),
            nearest_deadline: row.nearest_deadline,
            later_missed: row.later_missed.unsigned_abs(),
            later_past: row.later_past.unsigned_abs(),
        })
    }

    /// The due orders whose turn comes after their deadline, if each takes `seconds_per_order`.
    pub async fn missed(&mut self, seconds_per_order: f64) -> Result<Late, Error> {
        let row = sqlx::query_file!(
            "src/db/sql/forecast_missed.sql",
            self.limit,
            interval(self.window),
            seconds_per_order,
            LISTED,
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        let listed = row.order_ids.into_iter().zip(row.deadlines).zip(row.turns);
        let first =
            listed.map(|((order_id, deadline), fetched_at)| Missed { order_id, deadline, fetched_at }).collect();
        Ok(Late { orders: row.orders.unsigned_abs(), first })
    }

    /// The first of the orders not in this run whose deadline comes before they can be fetched.
    pub async fn missed_later(&mut self) -> Result<Vec<Missed>, Error> {
        let last = self.last.as_ref();
        let missed = sqlx::query_file_as!(
            Missed,
            "src/db/sql/forecast_missed_later.sql",
            interval(self.window),
            self.next_tick,
            last.map(|place| place.rank),
            last.map(|place| place.deadline_base),
            last.map(|place| place.order_id.as_str()),
            LISTED,
        )
        .fetch_all(&mut *self.snapshot)
        .await?;
        Ok(missed)
    }

    /// The pace that earlier runs kept for an API, as a run that starts now reads it.
    pub async fn pace(&mut self, api: &str, initial: f64) -> Result<Option<KnownPace>, Error> {
        pace::known(&mut *self.snapshot, api, initial).await
    }

    /// Ends it and gives the connection back.
    pub async fn end(self) -> Result<(), Error> {
        Ok(self.snapshot.commit().await?)
    }
}

/// The last order that a run of `limit` orders would claim; `None` if fewer are due.
async fn last_of(connection: &mut PgConnection, limit: i64) -> Result<Option<Place>, Error> {
    let place = sqlx::query_file_as!(Place, "src/db/sql/forecast_last.sql", limit).fetch_optional(connection).await?;
    Ok(place)
}
