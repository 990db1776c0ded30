//! Limits and settings that several modules of `db` share.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a pooled connection. sqlx keeps trying a server that refuses, so an outage is noticed after
/// this time.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server waits for a lock before it gives up. All later sessions queue behind one that waits for a table.
pub(super) const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Settings for transactions about the orders of a run: force index lookups.
///
/// With stale statistics PostgreSQL would scan the whole table for every batch. A generic plan is made once per
/// connection.
pub const BY_KEY: &str = "\
    SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; \
    SET LOCAL enable_mergejoin = off; \
    SET LOCAL jit = off; \
    SET LOCAL max_parallel_workers_per_gather = 0; \
    SET LOCAL plan_cache_mode = force_generic_plan";

pub(super) fn interval(duration: Duration) -> PgInterval {
    // The configuration allows a century at most.
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
