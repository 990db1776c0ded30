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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests per second.
    rate: f64,
    /// When the next request may go.
    next: Instant,
    /// Until the first 429 the pace doubles every second.
    is_searching: bool,
    /// Replies to requests sent before this moment say nothing about the present pace.
    lowered_at: Instant,
}

const LOWEST: f64 = 0.2;
const FALL: f64 = 0.8;
/// Growth per second once a limit has been met.
const RISE: f64 = 0.05;

impl Pace {
    pub(super) fn new(initial: f64, ceiling: Option<f64>) -> Self {
        let ceiling = ceiling.unwrap_or(f64::INFINITY);
        let now = Instant::now();
        let state = State { rate: initial.min(ceiling), next: now, is_searching: true, lowered_at: now };
        Self { ceiling, state: Mutex::new(state) }
    }

    /// Waits for this request's turn; returns when it goes.
    pub(super) async fn turn(&self) -> Instant {
        let turn = {
            let mut state = self.lock();
            let turn = state.next.max(Instant::now());
            state.next = turn + Duration::from_secs_f64(1.0 / state.rate);
            turn
        };
        tokio::time::sleep_until(turn).await;
        turn
    }

    /// A reply that was not a 429, to a request sent at `turn`.
    pub(super) fn went_well(&self, turn: Instant) {
        let mut state = self.lock();
        if turn < state.lowered_at {
            return;
        }
        // Nobody waits: the pace is not what limits, and its growth would be a guess.
        if state.next <= Instant::now() {
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
        state.lowered_at = now;
        // The limit is per second: let the second that was overdrawn pass.
        state.next = state.next.max(now + Duration::from_secs(1));
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
