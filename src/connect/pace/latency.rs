//! Detects slow replies: a server in trouble, before it answers 429 or 5xx.
//!
//! The median of each second is judged, so that neither one slow reply nor a few large bodies count. Slow means a
//! multiple of the usual median. The usual value follows what is measured: within a minute a lasting change becomes
//! the new normal, and so does a usual value that was measured at a lucky moment.

use std::time::Duration;

use tokio::time::Instant;

/// A median is slow above this factor of the usual one, plus a constant in seconds for very quick servers.
const SLOW_FACTOR: f64 = 3.0;
const SLOW_PLUS: f64 = 0.05;

/// Slow seconds in a row before the pace is lowered.
const PATIENCE: u32 = 3;

/// Fewest replies in a sample. A second with fewer is extended until they are there.
const FEWEST: usize = 8;

/// Seconds over which the usual median is averaged.
const MEMORY: f64 = 30.0;

#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Latencies of the current sample, in seconds.
    replies: Vec<f64>,
    since: Option<Instant>,
    /// In seconds.
    usual: f64,
    /// Number of seconds in the average so far.
    seconds: f64,
    slow_in_a_row: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trend {
    Calm,
    /// Replies are slow, but not for long enough to lower the pace, or to lower it further.
    Unsure,
    /// Another second of slow replies, after several.
    Slow,
    /// The first normal second after slow ones.
    CalmAgain,
}

impl Latency {
    pub(super) fn note(&mut self, latency: Duration, now: Instant) -> Trend {
        let since = *self.since.get_or_insert(now);
        self.replies.push(latency.as_secs_f64());
        if now.duration_since(since) < Duration::from_secs(1) || self.replies.len() < FEWEST {
            return if self.slow_in_a_row == 0 { Trend::Calm } else { Trend::Unsure };
        }
        let middle = self.replies.len() / 2;
        let median = *self.replies.select_nth_unstable_by(middle, f64::total_cmp).1;
        self.replies.clear();
        self.since = None;
        self.judge(median)
    }

    fn judge(&mut self, median: f64) -> Trend {
        let is_slow = self.seconds > 0.0 && median > self.usual * SLOW_FACTOR + SLOW_PLUS;
        // The average adapts quickly at first and slowly later. Slow samples are capped, so that they raise it slowly.
        self.seconds = (self.seconds + 1.0).min(MEMORY);
        let seen = if is_slow { median.min(self.usual * 2.0 + SLOW_PLUS) } else { median };
        self.usual += (seen - self.usual) / self.seconds;
        let slow_before = self.slow_in_a_row;
        self.slow_in_a_row = if is_slow { slow_before + 1 } else { 0 };
        match (is_slow, slow_before) {
            (true, before) if before + 1 >= PATIENCE => Trend::Slow,
            (true, _) => Trend::Unsure,
            (false, 0) => Trend::Calm,
            (false, _) => Trend::CalmAgain,
        }
    }
}
