//! The database's time, without asking it again.

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// Set once per run by the database's clock, then driven by the monotonic one: several workers agree on times, and a
/// machine with a wrong clock proves nothing wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct DatabaseClock {
    database: DateTime<Utc>,
    here: Instant,
}

impl DatabaseClock {
    /// It is `now` in the database.
    pub(super) fn set(now: DateTime<Utc>) -> Self {
        Self { database: now, here: Instant::now() }
    }

    /// The database's time of a moment of this run.
    pub(super) fn time_of(&self, moment: Instant) -> DateTime<Utc> {
        let since = moment.saturating_duration_since(self.here);
        self.database + TimeDelta::from_std(since).unwrap_or(TimeDelta::MAX)
    }
}
