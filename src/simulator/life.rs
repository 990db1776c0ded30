//! The life of a simulated order: placed, discussed, completed, readable for one more day, deleted.
//!
//! Only with `Options::lifecycle`; otherwise orders have no times. Invariant: a life is a pure function of the seed,
//! the lifecycle and the order id; only `Present` decides what has happened yet.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::random::{hash, mix};

const PLACED: u64 = 41;
const LASTS: u64 = 42;

const HOUR: u64 = 3_600;

/// How long a conversation stays readable after its order is completed.
const READABLE: TimeDelta = TimeDelta::hours(24);

/// When orders are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// Earliest time at which an order is placed.
    pub epoch: DateTime<Utc>,
    /// Latest such time, counted from the epoch.
    pub span: Duration,
}

/// The times of an order. Its conversation is readable from `placed_at` until 24 hours after `completed_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The order does not exist before this.
    pub placed_at: DateTime<Utc>,
    /// Delivered or cancelled, one to five hours later. No message is written after this.
    pub completed_at: DateTime<Utc>,
}

/// The phase of an order at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    NotPlaced,
    Readable,
    Expired,
}

impl Life {
    /// Returns the life of any order id.
    pub(super) fn of(lifecycle: Lifecycle, seed: u64, order_id: &str) -> Self {
        let order = hash(seed, order_id);
        // Whole seconds, as in all times of the API.
        let epoch = lifecycle.epoch.timestamp();
        let after = mix(order, PLACED) % lifecycle.span.as_secs().max(1);
        let lasts = HOUR + mix(order, LASTS) % (4 * HOUR);
        let at = |seconds: u64| {
            DateTime::from_timestamp(epoch.saturating_add_unsigned(seconds), 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
        };
        Self { placed_at: at(after), completed_at: at(after.saturating_add(lasts)) }
    }

    pub(super) fn phase(&self, now: DateTime<Utc>) -> Phase {
        if now < self.placed_at {
            Phase::NotPlaced
        } else if now - self.completed_at < READABLE {
            Phase::Readable
        } else {
            Phase::Expired
        }
    }
}

/// The time in the simulator: real time plus how far it was moved forward.
pub(super) struct Present {
    started: Instant,
    ahead: AtomicU64,
}

impl Present {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), ahead: AtomicU64::new(0) }
    }

    /// Moves all clocks of the simulator forward, to the millisecond.
    pub(super) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        // Never fails: the closure always returns a value.
        let _ = self.ahead.fetch_update(Relaxed, Relaxed, |ahead| Some(ahead.saturating_add(by).min(FARTHEST)));
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.ahead()
    }

    /// Returns the same time on the monotonic clock.
    pub(super) fn instant(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// Returns how long the simulator has run.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed() + self.ahead()
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(Relaxed))
    }
}

/// A thousand years, so that no time is ever out of range.
const FARTHEST: u64 = 1_000 * 365 * 24 * HOUR * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn lifecycle() -> Lifecycle {
        Lifecycle { epoch: DateTime::UNIX_EPOCH, span: Duration::from_hours(48) }
    }

    #[test]
    fn orders_are_placed_all_along_and_completed_within_hours() {
        let lives: Vec<_> = (0..2_000).map(|n| Life::of(lifecycle(), 1, &format!("order-{n}"))).collect();
        for half_hour in 0..96 {
            let start = DateTime::UNIX_EPOCH + TimeDelta::minutes(30 * half_hour);
            let placed = lives.iter().filter(|life| (0..1_800).contains(&(life.placed_at - start).num_seconds()));
            assert!(placed.count() > 5, "half hour {half_hour}");
        }
        assert!(lives.iter().all(|life| (1..=4).contains(&(life.completed_at - life.placed_at).num_hours())));
    }

    #[test]
    fn an_order_is_unknown_then_readable_then_expired() {
        let life = Life::of(lifecycle(), 1, "order");
        let second = TimeDelta::seconds(1);
        let end = life.completed_at + READABLE;
        let times = [life.placed_at - second, life.placed_at, life.completed_at, end - second, end];
        assert_eq!(
            times.map(|now| life.phase(now)),
            [Phase::NotPlaced, Phase::Readable, Phase::Readable, Phase::Readable, Phase::Expired]
        );
    }

    #[test]
    fn the_present_moves_forward_and_never_out_of_range() {
        let present = Present::new();
        let before = present.now();
        present.advance(Duration::from_hours(5));
        assert!(present.now() - before >= TimeDelta::hours(5) && present.elapsed() >= Duration::from_hours(5));
        present.advance(Duration::MAX);
        present.advance(Duration::MAX);
        assert!(present.now() > before && present.instant() > Instant::now());
    }
}
