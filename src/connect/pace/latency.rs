//! Whether replies have become slow: a server in trouble, before it says so with 429 or 5xx.
//!
//! Judged by the median of every second, so that neither a single slow reply nor a few bodies that take long count.
//! Slow is a multiple of what is usual, and what is usual follows what is seen: within a minute a lasting change, or a
//! usual value taken in a lucky moment, is the new normal.

use std::time::Duration;

use tokio::time::Instant;

/// Slow is more than this many times the usual, plus a little that is slow for nobody.
const SLOW_FACTOR: f64 = 3.0;
const SLOW_PLUS: f64 = 0.05;

/// Slow seconds in a row before anything is done about it.
const PATIENCE: u32 = 3;

/// Replies without which a second is no sample; it is made longer until they are there.
const FEWEST: usize = 8;

/// Seconds over which the usual is averaged.
const MEMORY: f64 = 30.0;

#[derive(Debug, Default)]
pub(super) struct Latency {
    /// In seconds, of the second under way.
    replies: Vec<f64>,
    since: Option<Instant>,
    /// In seconds.
    usual: f64,
    /// How many seconds it was averaged over so far.
    seconds: f64,
    slow_in_a_row: u32,
}

/// What to make of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well.
    Calm,
    /// Replies are slow, and it is not yet time to do something, or something more, about it.
    Unsure,
    /// Another second of slow replies, after several.
    Slow,
    /// The first calm second after those.
    CalmAgain,
}

impl Latency {
    pub(super) fn note(&mut self, latency: Duration, now: Instant) -> Verdict {
        let since = *self.since.get_or_insert(now);
        self.replies.push(latency.as_secs_f64());
        if now.duration_since(since) < Duration::from_secs(1) || self.replies.len() < FEWEST {
            return if self.slow_in_a_row == 0 { Verdict::Calm } else { Verdict::Unsure };
        }
        let middle = self.replies.len() / 2;
        let median = *self.replies.select_nth_unstable_by(middle, f64::total_cmp).1;
        self.replies.clear();
        self.since = None;
        self.judge(median)
    }

    fn judge(&mut self, median: f64) -> Verdict {
        let is_slow = self.seconds > 0.0 && median > self.usual * SLOW_FACTOR + SLOW_PLUS;
        // The average is quick at first; later, and for what is slow, it is not.
        self.seconds = (self.seconds + 1.0).min(MEMORY);
        let seen = if is_slow { median.min(self.usual * 2.0 + SLOW_PLUS) } else { median };
        self.usual += (seen - self.usual) / self.seconds;
        let slow_before = self.slow_in_a_row;
        self.slow_in_a_row = if is_slow { slow_before + 1 } else { 0 };
        match (is_slow, slow_before) {
            (true, before) if before + 1 >= PATIENCE => Verdict::Slow,
            (true, _) => Verdict::Unsure,
            (false, 0) => Verdict::Calm,
            (false, _) => Verdict::CalmAgain,
        }
    }
}
