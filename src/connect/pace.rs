//! The pace: how many requests per second the API is sent.
//!
//! The API publishes no limit and its 429 carries no hint, so the pace is found by trying: it doubles every second
//! until the first 429, then rises slowly and falls by a fifth with each further one. Every request waits here for its
//! turn, retries and token requests included. The configured ceiling always holds.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Shared by all requests of a [`Client`](super::Client).
#[derive(Debug)]
pub(super) struct Pace {
    ceiling: f64,
    /// Who waits for a turn; the lock is fair.
    line: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests per second.
    rate: f64,
    /// When the next request may go.
    next: Instant,
    /// Whether requests came as fast as the pace allows.
    is_limiting: bool,
    /// Until the first 429 the pace doubles every second.
    is_searching: bool,
    /// Replies to requests sent before this moment say nothing about the present pace.
    lowered_at: Instant,
}

/// Timers are late by a millisecond or so; without this the pace would never be more than one request per wake-up.
const SLACK: Duration = Duration::from_millis(100);
const LOWEST: f64 = 0.5;
const FALL: f64 = 0.8;
/// Growth per second once a limit has been met.
const RISE: f64 = 0.05;

impl Pace {
    pub(super) fn new(initial: f64, ceiling: Option<f64>) -> Self {
        let ceiling = ceiling.unwrap_or(f64::INFINITY);
        let now = Instant::now();
        let state =
            State { rate: initial.min(ceiling), next: now, is_limiting: false, is_searching: true, lowered_at: now };
        Self { ceiling, line: tokio::sync::Mutex::default(), state: Mutex::new(state) }
    }

    /// Waits for this request's turn; returns when it goes.
    pub(super) async fn turn(&self) -> Instant {
        // One after the other, in the order of arrival: only the first of the line knows when it goes, so that all
        // others feel a change of the pace at once.
        let _first = self.line.lock().await;
        loop {
            let now = Instant::now();
            let next = {
                let mut state = self.lock();
                if state.next <= now {
                    // A turn missed by a slow timer is made up for, up to a tenth of a second of them.
                    let from = state.next.max(now.checked_sub(SLACK).unwrap_or(now));
                    state.next = from + Duration::from_secs_f64(1.0 / state.rate);
                    state.is_limiting = from + SLACK / 2 > now;
                    return now;
                }
                state.next
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// A reply that was not a 429, to a request sent at `turn`.
    pub(super) fn went_well(&self, turn: Instant) {
        let mut state = self.lock();
        if turn < state.lowered_at {
            return;
        }
        // The pace is not what limits, and its growth would be a guess.
        if !state.is_limiting {
            return;
        }
        // One reply out of `rate` per second.
        let growth = if state.is_searching { 1.0 } else { RISE };
        state.rate = (state.rate + growth).min(self.ceiling);
    }

    /// A 429 to a request sent at `turn`.
    pub(super) fn was_throttled(&self, turn: Instant) {
        let mut state = self.lock();
        // The many 429s of one moment are one piece of news.
        if turn < state.lowered_at {
            return;
        }
        let now = Instant::now();
        state.rate = (state.rate * FALL).max(LOWEST).min(self.ceiling);
        state.is_searching = false;
        // The limit is per second: let the second that was overdrawn pass. What was sent before is old news then.
        state.next = state.next.max(now + Duration::from_secs(1));
        state.lowered_at = state.next;
        tracing::debug!(requests_per_second = state.rate, "the API throttles: pace lowered");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held; a poisoned pace is still a pace.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_go_at_the_rate_and_no_faster_than_the_ceiling() {
        let pace = Pace::new(1000.0, Some(10.0));
        let start = Instant::now();
        for _ in 0..21 {
            let turn = pace.turn().await;
            pace.went_well(turn);
        }
        let elapsed = start.elapsed().as_secs_f64();
        assert!((1.99..2.1).contains(&elapsed), "{elapsed}");
    }

    /// A server that answers 429 above `limit` requests in a second, asked for `wanted` good replies by 32 at once;
    /// returns the seconds that it took.
    async fn seconds_against(limit: u64, initial: f64, wanted: usize) -> f64 {
        let pace = std::sync::Arc::new(Pace::new(initial, None));
        let served = std::sync::Arc::new(Mutex::new((0, 0)));
        let todo = std::sync::Arc::new(tokio::sync::Semaphore::new(wanted));
        let start = Instant::now();
        let mut askers = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (pace, served, todo) = (pace.clone(), served.clone(), todo.clone());
            askers.spawn(async move {
                while let Ok(order) = todo.try_acquire() {
                    order.forget();
                    loop {
                        let turn = pace.turn().await;
                        let second = start.elapsed().as_secs();
                        let is_served = {
                            let mut served = served.lock().unwrap();
                            *served = if served.0 == second { (second, served.1 + 1) } else { (second, 1) };
                            served.1 <= limit
                        };
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        if is_served {
                            pace.went_well(turn);
                            break;
                        }
                        pace.was_throttled(turn);
                    }
                }
            });
        }
        while askers.join_next().await.is_some() {}
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_found_and_most_of_it_used() {
        for (limit, initial) in [(5, 20.0), (40, 20.0), (400, 20.0), (400, 5000.0)] {
            let wanted = usize::try_from(limit).unwrap() * 60;
            let seconds = seconds_against(limit, initial, wanted).await;
            assert!(seconds < 60.0 / 0.7, "{limit} requests/s, from {initial}: {seconds} s instead of 60");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_doubles_until_throttled_and_falls_once_per_moment() {
        let pace = Pace::new(10.0, None);
        let mut turns = Vec::new();
        for _ in 0..30 {
            let turn = pace.turn().await;
            pace.went_well(turn);
            turns.push(turn);
        }
        let risen = pace.lock().rate;
        assert!(risen > 20.0, "{risen}");
        for turn in turns.iter().rev() {
            pace.was_throttled(*turn);
        }
        let fallen = pace.lock().rate;
        assert!((fallen - risen * FALL).abs() < 0.001, "{fallen}");
    }
}
