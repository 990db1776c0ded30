//! The latest requests that were served, as far as is known: all that were sent, except those that got a 429.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The API limits requests per second.
const WINDOW: Duration = Duration::from_secs(1);

/// Requests take different times to reach the server: one sent this much earlier may still count.
const BLUR: Duration = Duration::from_millis(5);

/// Longer than the default `api.timeout`: a late 429 still finds the second before its request complete.
const KEPT: Duration = Duration::from_secs(32);

/// Beyond this many entries, requests within a [`BURST`] share one: 0.4 MiB at most at any rate. One entry per request
/// would take 5 MiB at 10,000 per second.
const MAX_SINGLE: usize = 4_096;

/// Shorter than [`BLUR`], so that it costs no accuracy.
const BURST: Duration = Duration::from_millis(4);

/// The times of sending, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sent {
    bursts: VecDeque<Burst>,
    /// Number of requests in all bursts.
    count: usize,
}

/// Requests sent at about the same time.
#[derive(Debug)]
struct Burst {
    first: Instant,
    /// Nanoseconds from the first to the last request.
    length: u32,
    count: u32,
}

impl Burst {
    fn last(&self) -> Instant {
        self.first + Duration::from_nanos(self.length.into())
    }
}

impl Sent {
    pub(super) fn add(&mut self, at: Instant) {
        while let Some(oldest) = self.bursts.pop_front_if(|oldest| at.duration_since(oldest.first) > KEPT) {
            self.count -= oldest.count as usize;
        }
        self.count += 1;
        let are_too_many = self.bursts.len() >= MAX_SINGLE;
        if let Some(latest) = self.bursts.back_mut().filter(|_| are_too_many) {
            let length = at.duration_since(latest.first);
            if length < BURST {
                (latest.length, latest.count) = (length.subsec_nanos(), latest.count + 1);
                return;
            }
        }
        self.bursts.push_back(Burst { first: at, length: 0, count: 1 });
    }

    /// Removes the request sent at `at`, which got a 429. Returns how many were served in the second before it.
    pub(super) fn on_throttled(&mut self, at: Instant) -> u32 {
        let end = self.bursts.partition_point(|burst| burst.first <= at);
        let start = self.bursts.partition_point(|burst| burst.last() + WINDOW + BLUR <= at);
        let mut served: u32 = self.bursts.range(start..end).map(|burst| burst.count).sum();
        if let Some(own) = self.bursts.range_mut(start..end).next_back()
            && at <= own.last()
        {
            own.count -= 1;
            served -= 1;
            self.count -= 1;
            if own.count == 0 {
                self.bursts.remove(end - 1);
            }
        }
        served
    }

    /// Returns when fewer than `most` were sent in the second before; `None` if that is already so.
    pub(super) fn falls_below(&self, most: f64, now: Instant) -> Option<Instant> {
        // The cast saturates: a huge number is never reached.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; the fraction is cut off"
        )]
        let most = (most as usize).max(1);
        if self.count < most {
            return None;
        }
        let (mut free_at, mut count) = (now, 0);
        for burst in self.bursts.iter().rev() {
            free_at = burst.last() + WINDOW;
            count += burst.count as usize;
            if count >= most || free_at <= now {
                break;
            }
        }
        (free_at > now).then_some(free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for a minute at a steady rate. Returns when the latest request was sent.
    fn send(sent: &mut Sent, per_second: u32) -> Instant {
        let start = Instant::now();
        let at = (0..60 * per_second).map(|index| start + Duration::from_secs(1) / per_second * index);
        at.inspect(|at| sent.add(*at)).last().unwrap()
    }

    #[test]
    fn memory_is_bounded_at_any_rate() {
        let most_bursts = usize::try_from(KEPT.as_millis() / BURST.as_millis()).unwrap();
        for per_second in [10, 100, 1_000, 30_000] {
            let mut sent = Sent::default();
            send(&mut sent, per_second);
            assert!(sent.bursts.len() <= MAX_SINGLE + most_bursts, "{per_second}: {}", sent.bursts.len());
            assert_eq!(sent.count, sent.bursts.iter().map(|burst| burst.count as usize).sum::<usize>());
            let expected = KEPT.as_secs() * u64::from(per_second);
            assert!((sent.count as u64).abs_diff(expected) <= expected / 200 + 1, "{per_second}: {}", sent.count);
        }
    }

    #[test]
    fn a_second_is_counted_exactly_at_low_rates_and_closely_at_high_ones() {
        for (per_second, error) in [(1, 0), (100, 0), (1_000, 8), (20_000, 160)] {
            let mut sent = Sent::default();
            let latest = send(&mut sent, per_second);
            // The requests of 1.005 seconds, except the refused one itself.
            let (served, expected) = (sent.on_throttled(latest), per_second * 1_005 / 1_000);
            assert!(served.abs_diff(expected) <= error, "{per_second}: {served}");
            // A request that was sent half a minute ago.
            let (served, expected) = (sent.on_throttled(latest - Duration::from_secs(30)), per_second * 1_005 / 1_000);
            assert!(served.abs_diff(expected) <= error, "{per_second}, late: {served}");
        }
    }

    #[test]
    fn refused_requests_do_not_count_as_served_even_within_bursts() {
        let mut sent = Sent::default();
        let latest = send(&mut sent, 20_000);
        let (kept, bursts) = (sent.count, sent.bursts.len());
        // All requests of the last two bursts and some of the one before, latest first. Everything before them was
        // served.
        for index in 0..200 {
            let served = sent.on_throttled(latest - Duration::from_secs(1) / 20_000 * index);
            assert!(served.abs_diff(20_100) <= 80, "{index}: {served}");
        }
        assert_eq!(sent.count, kept - 200);
        assert_eq!(sent.count, sent.bursts.iter().map(|burst| burst.count as usize).sum::<usize>());
        assert!(sent.bursts.len() < bursts && sent.bursts.iter().all(|burst| burst.count > 0));
    }

    #[test]
    fn a_request_waits_until_enough_earlier_ones_are_a_second_old() {
        let late_by = |per_second: u32| {
            let mut sent = Sent::default();
            let latest = send(&mut sent, per_second);
            let most = f64::from(per_second) / 2.0;
            assert_eq!(sent.falls_below(most, latest + WINDOW), None, "{per_second}");
            assert_eq!(sent.falls_below(f64::INFINITY, latest), None, "{per_second}");
            // The older half of the last second's requests must leave the window first.
            let exact = latest + WINDOW - Duration::from_secs(1) / per_second * (per_second / 2 - 1);
            sent.falls_below(most, latest).unwrap().duration_since(exact)
        };
        assert_eq!(late_by(100), Duration::ZERO);
        assert!(late_by(20_000) < BURST);
    }
}
