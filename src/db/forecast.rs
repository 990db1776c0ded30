//! What a run will meet, now or at its next start: counted by the database, in one snapshot, without changing anything.
//!
//! `sync::outlook` makes requests and time of it, for `chatsync plan` and for the end of every run. All of it
//! ([`totals`](Forecast::totals)) costs one pass over the live orders. Only if some deadline falls within the run are the
//! due orders walked a second time, in claim order. Whether there is anything to look at so closely is known from a few
//! ranges of an index ([`near`](Forecast::near)). No row per order leaves the database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::pace::{self, KnownPace};
use super::{Error, SNAPSHOT, interval, snapshot};

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
    /// Due orders of which the storm guard holds a result back.
    pub held_back: u64,
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
    /// Those of them whose deadline has passed already.
    pub past: u64,
    /// The first of them.
    pub first: Vec<Missed>,
}

/// Orders whose deadline is near, or has passed.
#[derive(Debug, Clone, Copy)]
pub struct Near {
    /// Live orders whose deadline has passed, unread or unproven.
    pub overdue: u64,
    /// Orders of the run whose deadline comes before its end at the latest: their turns say which are missed.
    pub perhaps: u64,
    /// Orders not in the run whose deadline comes before they can be fetched.
    pub later: u64,
}

/// The run that is foretold.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    /// When it starts.
    pub start: DateTime<Utc>,
    /// When the one after it does, for the orders that it leaves.
    pub then: Option<DateTime<Utc>>,
}

/// Orders listed at most, of each sort.
const LISTED: i64 = 5;

/// A look at the queue: one snapshot, one connection. Takes no locks.
pub struct Forecast {
    snapshot: sqlx::Transaction<'static, sqlx::Postgres>,
    window: Duration,
    next: Next,
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
    /// Begins one for a run of at most `limit` orders that starts now, with the others left for `next_tick` or later.
    pub async fn begin(
        pool: &PgPool,
        window: Duration,
        next_tick: Option<DateTime<Utc>>,
        limit: Option<u64>,
    ) -> Result<Self, Error> {
        let mut snapshot = snapshot(pool).await?;
        let start = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&mut *snapshot).await?;
        let limit = limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let last = match limit {
            Some(limit) => last_of(&mut snapshot, limit, start).await?,
            None => None,
        };
        Ok(Self { snapshot, window, next: Next { start, then: next_tick }, limit, last })
    }

    /// Begins one for a run that is still to come. No statement of it takes longer than `timeout`.
    pub async fn of_next(pool: &PgPool, window: Duration, next: Next, timeout: Duration) -> Result<Self, Error> {
        let begin = format!("{SNAPSHOT}; SET LOCAL statement_timeout = {}", timeout.as_millis());
        let snapshot = pool.begin_with(AssertSqlSafe(begin)).await?;
        Ok(Self { snapshot, window, next, limit: None, last: None })
    }

    /// Orders that are due when the run starts.
    pub async fn due(&mut self) -> Result<u64, Error> {
        let due = sqlx::query_scalar!(
            r#"SELECT count(*) AS "due!" FROM sync.order_queue WHERE ended_at IS NULL AND due_at <= $1"#,
            self.next.start,
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        Ok(due.unsigned_abs())
    }

    /// Counts the orders whose deadline is near, if the run ends before `ends_at`, and an order that is read now is due
    /// again at `due_again`.
    pub async fn near(&mut self, ends_at: DateTime<Utc>, due_again: DateTime<Utc>) -> Result<Near, Error> {
        let horizon = ends_at.max(due_again).max(self.next.then.unwrap_or(ends_at));
        let window = TimeDelta::from_std(self.window).unwrap_or(TimeDelta::MAX);
        let row = sqlx::query_file!(
            "src/db/sql/forecast_near.sql",
            interval(self.window),
            self.next.start,
            self.next.then,
            ends_at,
            due_again,
            horizon.checked_sub_signed(window),
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        Ok(Near {
            overdue: row.overdue.unsigned_abs(),
            perhaps: row.perhaps.unsigned_abs(),
            later: row.later.unsigned_abs(),
        })
    }

    /// Counts the live orders.
    pub async fn totals(&mut self) -> Result<Totals, Error> {
        let last = self.last.as_ref();
        let row = sqlx::query_file!(
            "src/db/sql/forecast_totals.sql",
            interval(self.window),
            self.next.then,
            last.map(|place| place.rank),
            last.map(|place| place.deadline_base),
            last.map(|place| place.order_id.as_str()),
            self.next.start,
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        Ok(Totals {
            now: row.now,
            pending: row.pending.unsigned_abs(),
            open: row.open.unsigned_abs(),
            held: row.held.unsigned_abs(),
            held_back: row.held_back.unsigned_abs(),
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
            self.next.start,
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        let listed = row.order_ids.into_iter().zip(row.deadlines).zip(row.turns);
        let first =
            listed.map(|((order_id, deadline), fetched_at)| Missed { order_id, deadline, fetched_at }).collect();
        Ok(Late { orders: row.orders.unsigned_abs(), past: row.past.unsigned_abs(), first })
    }

    /// The first of the orders not in this run whose deadline comes before they can be fetched.
    pub async fn missed_later(&mut self) -> Result<Vec<Missed>, Error> {
        let last = self.last.as_ref();
        let missed = sqlx::query_file_as!(
            Missed,
            "src/db/sql/forecast_missed_later.sql",
            interval(self.window),
            self.next.then,
            last.map(|place| place.rank),
            last.map(|place| place.deadline_base),
            last.map(|place| place.order_id.as_str()),
            LISTED,
            self.next.start,
        )
        .fetch_all(&mut *self.snapshot)
        .await?;
        Ok(missed)
    }

    /// When the run starts.
    #[must_use]
    pub fn start(&self) -> DateTime<Utc> {
        self.next.start
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

/// The last order that a run of `limit` orders would claim; `None` if fewer are due at its start.
async fn last_of(connection: &mut PgConnection, limit: i64, start: DateTime<Utc>) -> Result<Option<Place>, Error> {
    let place =
        sqlx::query_file_as!(Place, "src/db/sql/forecast_last.sql", limit, start).fetch_optional(connection).await?;
    Ok(place)
}
