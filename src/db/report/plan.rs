//! Counts what a run will find, now or at its next start. Reads one snapshot and changes nothing.
//!
//! `sync::outlook` turns the counts into requests and time, for `chatsync plan` and at the end of every run.
//! [`totals`](PlanSnapshot::totals) reads the live orders once. Only if a deadline falls within the run are the due
//! orders read again, in claim order. [`near`](PlanSnapshot::near) finds that out from a few index ranges. No row per
//! order leaves the database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::db::pace::{self, KnownPace};
use crate::db::{Error, Transaction, interval};

/// What a run would find.
#[derive(Debug)]
pub struct Totals {
    /// Time of the snapshot.
    pub now: DateTime<Utc>,
    pub pending: u64,
    /// Due orders that were read before.
    pub open: u64,
    pub held: u64,
    /// Due orders with a result that the storm guard holds back.
    pub held_back: u64,
    pub without_user: u64,
    pub users: u64,
    /// Due orders beyond the limit of the run.
    pub left_due: u64,
    pub past: u64,
    pub nearest_deadline: Option<DateTime<Utc>>,
    /// Orders outside this run whose deadline comes before they can be fetched.
    pub later_missed: u64,
    /// Orders outside this run whose deadline has passed.
    pub later_past: u64,
}

impl Totals {
    #[must_use]
    pub fn due(&self) -> u64 {
        self.pending + self.open
    }
}

/// An order that would be fetched too late.
#[derive(Debug)]
pub struct Missed {
    pub order_id: String,
    pub deadline: DateTime<Utc>,
    pub fetched_at: DateTime<Utc>,
}

#[derive(Debug, Default)]
pub struct MissedDeadlines {
    pub orders: u64,
    /// Those whose deadline has passed already.
    pub past: u64,
    /// A few of them.
    pub first: Vec<Missed>,
}

#[derive(Debug, Clone, Copy)]
pub struct Near {
    /// Live orders whose deadline has passed, unread or unproven.
    pub overdue: u64,
    /// Orders of the run whose deadline comes before its latest end. Their turns decide which are missed.
    pub perhaps: u64,
    /// Orders outside the run whose deadline comes before they can be fetched.
    pub later: u64,
}

/// When the predicted run starts.
#[derive(Debug, Clone, Copy)]
pub struct NextRun {
    pub start: DateTime<Utc>,
    /// Start of the run after it, for the orders that it leaves.
    pub then: Option<DateTime<Utc>>,
}

/// Limits the orders listed of each kind.
const LISTED: i64 = 5;

/// One snapshot of the queue, on one connection. Takes no locks.
pub struct PlanSnapshot {
    snapshot: Transaction,
    window: Duration,
    next: NextRun,
    limit: Option<i64>,
    last: Option<LastOrder>,
}

/// Position of the last order that a limited run claims, in claim order.
struct LastOrder {
    rank: i32,
    deadline_base: DateTime<Utc>,
    order_id: String,
}

impl PlanSnapshot {
    /// Begins a plan for a run of at most `limit` orders that starts now. The other orders wait until `next_tick` or
    /// later.
    pub async fn begin(
        mut snapshot: Transaction,
        window: Duration,
        next_tick: Option<DateTime<Utc>>,
        limit: Option<u64>,
    ) -> Result<Self, Error> {
        let start = sqlx::query_scalar!(
            r#"-- now
SELECT now() AS "now!""#
        )
        .fetch_one(&mut *snapshot)
        .await?;
        let limit = limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let last = match limit {
            Some(limit) => last_of(&mut snapshot, limit, start).await?,
            None => None,
        };
        Ok(Self { snapshot, window, next: NextRun { start, then: next_tick }, limit, last })
    }

    /// Begins a plan for a future run.
    #[must_use]
    pub fn of_next(snapshot: Transaction, window: Duration, next: NextRun) -> Self {
        Self { snapshot, window, next, limit: None, last: None }
    }

    /// Counts the orders that are due when the run starts.
    pub async fn due(&mut self) -> Result<u64, Error> {
        let due = sqlx::query_scalar!(
            r#"-- plan_due
           SELECT count(*) AS "due!" FROM sync.order_queue WHERE ended_at IS NULL AND due_at <= $1"#,
            self.next.start,
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        Ok(due.unsigned_abs())
    }

    /// Counts the orders whose deadline is near. The run ends before `ends_at`, and an order that is read now is due
    /// again at `due_again`.
    pub async fn near(&mut self, ends_at: DateTime<Utc>, due_again: DateTime<Utc>) -> Result<Near, Error> {
        let horizon = ends_at.max(due_again).max(self.next.then.unwrap_or(ends_at));
        let window = TimeDelta::from_std(self.window).unwrap_or(TimeDelta::MAX);
        let row = sqlx::query_file!(
            "src/db/sql/plan_near.sql",
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

    /// Counts the live orders by reading all of them once.
    pub async fn totals(&mut self) -> Result<Totals, Error> {
        let last = self.last.as_ref();
        let row = sqlx::query_file!(
            "src/db/sql/plan_totals.sql",
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

    /// Returns the due orders whose turn comes after their deadline if each takes `seconds_per_order`.
    pub async fn missed(&mut self, seconds_per_order: f64) -> Result<MissedDeadlines, Error> {
        let row = sqlx::query_file!(
            "src/db/sql/plan_missed.sql",
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
        Ok(MissedDeadlines { orders: row.orders.unsigned_abs(), past: row.past.unsigned_abs(), first })
    }

    /// Returns a few of the orders outside this run whose deadline comes before they can be fetched.
    pub async fn missed_later(&mut self) -> Result<Vec<Missed>, Error> {
        let last = self.last.as_ref();
        let missed = sqlx::query_file_as!(
            Missed,
            "src/db/sql/plan_missed_later.sql",
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

    #[must_use]
    pub fn start(&self) -> DateTime<Utc> {
        self.next.start
    }

    /// Returns the pace that earlier runs kept for an API, as a run that starts now reads it.
    pub async fn pace(&mut self, api: &str, initial: f64) -> Result<Option<KnownPace>, Error> {
        pace::known(&mut self.snapshot, api, initial).await
    }
}

/// Returns the last order that a run of `limit` orders would claim; `None` if fewer are due at its start.
async fn last_of(connection: &mut PgConnection, limit: i64, start: DateTime<Utc>) -> Result<Option<LastOrder>, Error> {
    let place =
        sqlx::query_file_as!(LastOrder, "src/db/sql/plan_last.sql", limit, start).fetch_optional(connection).await?;
    Ok(place)
}
