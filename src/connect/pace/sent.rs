//! The requests of the last seconds that were served, as far as is known: all that were sent but for those refused.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The API limits requests per second.
const WINDOW: Duration = Duration::from_secs(1);

/// Requests do not take equally long to the server: what was sent this much earlier may still count.
const BLUR: Duration = Duration::from_millis(5);

/// Longer than a reply may take by default: a late 429 still finds the second before its request complete. At a thousand
/// requests per second that is about half a MiB.
const KEPT: Duration = Duration::from_secs(32);

/// When each of them was sent, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<Instant>);

impl Sent {
    pub(super) fn add(&mut self, at: Instant) {
        while self.0.front().is_some_and(|oldest| at.duration_since(*oldest) > KEPT) {
            self.0.pop_front();
        }
        self.0.push_back(at);
    }

    /// Takes out the request sent at `at`; returns how many were served in the second before it.
    pub(super) fn refuse(&mut self, at: Instant) -> u32 {
        let end = self.0.partition_point(|sent| *sent <= at);
        let start = self.0.partition_point(|sent| *sent + WINDOW + BLUR <= at);
        let mut served = end - start;
        if served > 0 && self.0[end - 1] == at {
            self.0.remove(end - 1);
            served -= 1;
        }
        u32::try_from(served).unwrap_or(u32::MAX)
    }

    /// When fewer than `most` will have been sent in the second before; `None` if that is so already.
    pub(super) fn falls_below(&self, most: f64, now: Instant) -> Option<Instant> {
        // Saturates: a huge number is never reached.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; the fraction is cut off"
        )]
        let most = (most as usize).max(1);
        let last = *self.0.get(self.0.len().checked_sub(most)?)?;
        let free_at = last + WINDOW;
        (free_at > now).then_some(free_at)
    }
}
