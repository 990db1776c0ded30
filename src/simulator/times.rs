//! The times of a simulated conversation, in the several ways in which RFC 3339 lets them be written.
//!
//! Used while messages are made. Invariant: `now` never goes back, as printed and as meant; two messages may have the same time.

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};

use super::random::one_in;

/// 2026-01-05T00:00:00Z: fixed, because a reply does not depend on when it is asked for.
const FIRST_ORDER: i64 = 1_767_571_200;

/// The orders are spread over this many seconds (60 days).
const SPREAD: i64 = 60 * 24 * 3_600;

const PACIFIC: FixedOffset = FixedOffset::west_opt(7 * 3_600).expect("seven hours are less than a day");
const UTC: FixedOffset = FixedOffset::east_opt(0).expect("nothing is less than a day");

/// The time of the current message and how this message writes times.
pub(super) struct Clock {
    second: DateTime<Utc>,
    microseconds: i64,
    offset: FixedOffset,
    format: SecondsFormat,
}

impl Clock {
    /// Somewhere in the spread, before the first message.
    pub(super) fn start(rng: &mut fastrand::Rng) -> Self {
        let second = FIRST_ORDER + rng.i64(0..SPREAD);
        Self {
            second: DateTime::UNIX_EPOCH + TimeDelta::seconds(second),
            microseconds: 0,
            offset: UTC,
            format: SecondsFormat::Secs,
        }
    }

    /// Goes on to the next message: mostly some seconds or minutes later, now and then at the very same time.
    pub(super) fn advance(&mut self, rng: &mut fastrand::Rng) {
        if one_in(rng, 40) {
            return;
        }
        let seconds = if one_in(rng, 8) { rng.i64(120..2_400) } else { rng.i64(2..120) };
        self.second += TimeDelta::seconds(seconds);
        self.offset = if one_in(rng, 3) { PACIFIC } else { UTC };
        (self.format, self.microseconds) = match rng.u8(..4) {
            0 => (SecondsFormat::Millis, rng.i64(0..1_000) * 1_000),
            1 => (SecondsFormat::Micros, rng.i64(0..1_000_000)),
            _ => (SecondsFormat::Secs, 0),
        };
    }

    /// The time of the current message.
    pub(super) fn now(&self) -> String {
        self.later(0)
    }

    /// `seconds` after the current message.
    pub(super) fn later(&self, seconds: u32) -> String {
        let time = self.second + TimeDelta::seconds(seconds.into()) + TimeDelta::microseconds(self.microseconds);
        time.with_timezone(&self.offset).to_rfc3339_opts(self.format, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
