//! The rate that was served: the highest over five seconds.
//!
//! Requests count at their time of sending, as the API counts: replies may arrive late and many at once.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Requests are counted in slices of this length.
const SLICE: Duration = Duration::from_millis(100);

/// How long a rate must last to count, as a time and as a number of slices.
const LASTS: Duration = Duration::from_secs(5);
const SLICES: usize = 50;

/// Slices kept: all that ended since the last report, five seconds ago, and the earlier ones that these need.
const KEPT: usize = 2 * SLICES + 20;

#[derive(Debug)]
pub(super) struct Served {
    start: Instant,
    /// Number of the first slice that is kept.
    first: usize,
    counts: VecDeque<u32>,
}

impl Served {
    pub(super) fn since(start: Instant) -> Self {
        Self { start, first: 0, counts: VecDeque::new() }
    }

    /// Counts a request sent at that time as served.
    pub(super) fn add(&mut self, sent_at: Instant) {
        let Some(since) = sent_at.checked_duration_since(self.start) else { return };
        let slice = slice_of(since);
        self.extend_to(slice);
        if let Some(count) = slice.checked_sub(self.first).and_then(|index| self.counts.get_mut(index)) {
            *count += 1;
        }
    }

    /// Returns the highest rate of the last ten seconds that lasted five, in requests per second. `None` in the first
    /// five seconds after the start.
    pub(super) fn per_second(&mut self, now: Instant) -> Option<f64> {
        let current = slice_of(now.duration_since(self.start));
        self.extend_to(current);
        let complete = current.saturating_sub(self.first);
        let counts = &self.counts.make_contiguous()[..complete];
        let most = counts.windows(SLICES).map(|counts| counts.iter().sum::<u32>()).max()?;
        Some(f64::from(most) / LASTS.as_secs_f64())
    }

    /// Adds slices up to this one, and drops old ones.
    fn extend_to(&mut self, slice: usize) {
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
