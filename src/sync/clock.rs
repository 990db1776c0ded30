//! The database's time, without asking it again.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// Set once per run by the database's clock, then driven by the monotonic one: several workers agree on times, and a
/// machine with a wrong clock proves nothing wrong. One that is set forward during a run may lose a proof.
#[derive(Debug, Clone, Copy)]
pub(super) struct DatabaseClock {
    database: DateTime<Utc>,
    here: Instant,
    wall: SystemTime,
}

impl DatabaseClock {
    /// It is `now` in the database.
    pub(super) fn set(now: DateTime<Utc>) -> Self {
        Self { database: now, here: Instant::now(), wall: SystemTime::now() }
    }

    /// The database's time at this moment; rather too late than too early, as it tells when an order was found expired.
    /// While a machine sleeps its monotonic clock stands still, its other one does not.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.after(self.here.elapsed().max(self.wall.elapsed().unwrap_or_default()))
    }

    /// The database's time of a moment of this run; too early if the machine slept before, as if it had asked then.
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
