//! The times of a simulated conversation, in various notations of RFC 3339.
//!
//! Used while messages are generated. Invariant: `now` never goes back, neither as text nor as time; two messages may
//! have the same time.

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};

use super::life::Life;
use super::random::one_in;

/// 2026-01-05T00:00:00Z: fixed, because a reply does not depend on the time of the request.
const FIRST_ORDER: i64 = 1_767_571_200;

/// The orders are spread over this many seconds (60 days).
const SPREAD: i64 = 60 * 24 * 3_600;

const PACIFIC: FixedOffset = FixedOffset::west_opt(7 * 3_600).expect("seven hours are less than a day");
const UTC: FixedOffset = FixedOffset::east_opt(0).expect("nothing is less than a day");

/// The time of the current message, and its notation.
pub(super) struct Clock {
    progress: Progress,
    second: DateTime<Utc>,
    microseconds: i64,
    offset: FixedOffset,
    format: SecondsFormat,
}

/// How time passes from message to message.
enum Progress {
    /// At the speed of typing.
    Typing,
    /// In about equal steps of this many seconds; `next` is the start of the next step.
    Steps { next: DateTime<Utc>, seconds: i64 },
}

impl Clock {
    /// Starts within the spread, before the first message.
    pub(super) fn start(rng: &mut fastrand::Rng) -> Self {
        let second = FIRST_ORDER + rng.i64(0..SPREAD);
        Self::at(DateTime::UNIX_EPOCH + TimeDelta::seconds(second), Progress::Typing)
    }

    /// Starts when an order is placed; `length` messages follow until it is completed.
    pub(super) fn during(life: Life, length: u32) -> Self {
        let seconds = (life.completed_at - life.placed_at).num_seconds() / i64::from(length + 1);
        Self::at(life.placed_at, Progress::Steps { next: life.placed_at, seconds })
    }

    fn at(second: DateTime<Utc>, progress: Progress) -> Self {
        Self { progress, second, microseconds: 0, offset: UTC, format: SecondsFormat::Secs }
    }

    /// Advances to the next message: usually some seconds or minutes later, sometimes at the very same time.
    pub(super) fn advance(&mut self, rng: &mut fastrand::Rng) {
        if one_in(rng, 40) {
            return;
        }
        let typing = if one_in(rng, 8) { rng.i64(120..2_400) } else { rng.i64(2..120) };
        match &mut self.progress {
            Progress::Typing => self.second += TimeDelta::seconds(typing),
            Progress::Steps { next, seconds } => {
                // Never the last second of a step, so that the next message comes at least a second later.
                self.second = *next + TimeDelta::seconds(rng.i64(0..*seconds - 1));
                *next += TimeDelta::seconds(*seconds);
            }
        }
        self.offset = if one_in(rng, 3) { PACIFIC } else { UTC };
        (self.format, self.microseconds) = match rng.u8(..4) {
            0 => (SecondsFormat::Millis, rng.i64(0..1_000) * 1_000),
            1 => (SecondsFormat::Micros, rng.i64(0..1_000_000)),
            _ => (SecondsFormat::Secs, 0),
        };
    }

    /// Returns the time of the current message.
    pub(super) fn now(&self) -> String {
        self.later(0)
    }

    /// Returns the time `seconds` after the current message, in this message's notation.
    pub(super) fn later(&self, seconds: u32) -> String {
        self.time(seconds).with_timezone(&self.offset).to_rfc3339_opts(self.format, true)
    }

    /// Returns the time `seconds` after the current message.
    pub(super) fn time(&self, seconds: u32) -> DateTime<Utc> {
        self.second + TimeDelta::seconds(seconds.into()) + TimeDelta::microseconds(self.microseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_an_order_come_between_its_placing_and_its_completion() {
        let mut rng = fastrand::Rng::with_seed(4);
        let placed_at = DateTime::UNIX_EPOCH;
        for length in 1..=40 {
            let life = Life { placed_at, completed_at: placed_at + TimeDelta::hours(1) };
            let mut clock = Clock::during(life, length);
            let mut before = placed_at;
            for _ in 0..length {
                clock.advance(&mut rng);
                assert!((before..life.completed_at).contains(&clock.time(0)), "{length} messages");
                before = clock.time(0);
            }
        }
    }

    #[test]
    fn printed_times_never_go_back_and_are_written_in_several_ways() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut clock = Clock::start(&mut rng);
        let mut all = Vec::new();
        for _ in 0..5_000 {
            clock.advance(&mut rng);
            all.push(clock.now());
        }
        let parsed: Vec<_> = all.iter().map(|time| DateTime::parse_from_rfc3339(time).unwrap()).collect();
        assert!(parsed.is_sorted());
        for (fraction, zulu) in [(true, true), (true, false), (false, true), (false, false)] {
            assert!(all.iter().any(|t| t.contains('.') == fraction && t.ends_with('Z') == zulu));
        }
    }
}
