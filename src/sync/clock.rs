//! The time of the database, without a query.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// Set once per run by the clock of the database, then advanced by the monotonic clock. So workers agree on times, and
/// a machine with a wrong clock proves nothing wrong. If its clock is set forward during a run, a proof may be lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct DatabaseClock {
    database: DateTime<Utc>,
    here: Instant,
    wall: SystemTime,
}

impl DatabaseClock {
    /// Sets the clock: it is `now` in the database.
    pub(super) fn set(now: DateTime<Utc>) -> Self {
        Self { database: now, here: Instant::now(), wall: SystemTime::now() }
    }

    /// Returns the current time of the database. Rather too late than too early, because it dates an expiry. The
    /// monotonic clock stops while the machine sleeps; the wall clock does not.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.after(self.here.elapsed().max(self.wall.elapsed().unwrap_or_default()))
    }

    /// Returns the time of a moment of this run. Too early if the machine slept before, as if the request had been sent
    /// then.
    pub(super) fn time_of(&self, moment: Instant) -> DateTime<Utc> {
        self.after(moment.saturating_duration_since(self.here))
    }

    fn after(&self, time: Duration) -> DateTime<Utc> {
        self.database + TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_a_machine_slept_counts() {
        let three_hours = Duration::from_hours(3);
        let clock = DatabaseClock::set(DateTime::UNIX_EPOCH);
        let slept = DatabaseClock { wall: clock.wall - three_hours, ..clock };
        assert!(slept.now() >= DateTime::UNIX_EPOCH + three_hours);
        assert!(slept.time_of(Instant::now()) < slept.now(), "rather too early");
        let set_back = DatabaseClock { wall: clock.wall + three_hours, ..clock };
        assert!((DateTime::UNIX_EPOCH..DateTime::UNIX_EPOCH + three_hours).contains(&set_back.now()));
    }
}
