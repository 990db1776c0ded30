//! What was really served: the highest rate over five seconds.
//!
//! Counted by the time of sending, as the API counts: replies may come late and many at once.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Requests are counted by slices of time this long.
const SLICE: Duration = Duration::from_millis(100);

/// A rate must last so long to count: this many slices.
const LASTS: Duration = Duration::from_secs(5);
const SLICES: usize = 50;

/// Slices remembered: all that ended since the last report, five seconds ago, and the slices before that they need.
const KEPT: usize = 2 * SLICES + 20;

/// The requests served since a start.
#[derive(Debug)]
pub(super) struct Served {
    start: Instant,
    /// Number of the first slice that is remembered.
    first: usize,
    counts: VecDeque<u32>,
}

impl Served {
    pub(super) fn since(start: Instant) -> Self {
        Self { start, first: 0, counts: VecDeque::new() }
    }

    /// A request sent at that time was served.
    pub(super) fn add(&mut self, sent_at: Instant) {
        let Some(since) = sent_at.checked_duration_since(self.start) else { return };
        let slice = slice_of(since);
        self.remember(slice);
        if let Some(count) = slice.checked_sub(self.first).and_then(|index| self.counts.get_mut(index)) {
            *count += 1;
        }
    }

    /// The highest rate of the last ten seconds that lasted five, in requests per second. `None` sooner than five
    /// seconds after the start.
    pub(super) fn per_second(&mut self, now: Instant) -> Option<f64> {
        let current = slice_of(now.duration_since(self.start));
        self.remember(current);
        let complete = current.saturating_sub(self.first);
        let counts = &self.counts.make_contiguous()[..complete];
        let most = counts.windows(SLICES).map(|counts| counts.iter().sum::<u32>()).max()?;
        Some(f64::from(most) / LASTS.as_secs_f64())
    }

    /// Up to this slice, and none that is too old.
    fn remember(&mut self, slice: usize) {
        while self.first + self.counts.len() <= slice {
            self.counts.push_back(0);
        }
        let too_old = self.counts.len().saturating_sub(KEPT);
        self.counts.drain(..too_old);
        self.first += too_old;
    }
}

fn slice_of(since: Duration) -> usize {
    usize::try_from(since.as_millis() / SLICE.as_millis()).unwrap_or(usize::MAX)
}
