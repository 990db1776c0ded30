//! The pace: how many requests per second are sent to the API.
//!
//! The API publishes no limit and its 429 carries no hint, so the limit is inferred. `limit` holds the estimate,
//! `sent` the latest requests, `served` the measured rate, `latency` whether replies have become slow.
//! Every request waits here for its [`Turn`], including retries and token requests, and its reply reports back with
//! it. Requests go evenly, at [`HEADROOM`] of the estimate, and never more than the estimate within any second,
//! however late timers are. Workers that share an API divide the rate: [`Pace::share`].

mod latency;
mod limit;
mod retry_after;
mod sent;
mod served;
#[cfg(test)]
mod tests;

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::waits::{For, Waits};
use latency::{Latency, Trend};
use limit::LimitEstimate;
pub(super) use retry_after::retry_after;
use sent::Sent;
use served::Served;

/// Share of the estimated limit that is used. The rest makes up for late timers and uneven networks.
const HEADROOM: f64 = 0.98;

/// Turns missed by late timers are caught up, up to this much time; more would be a burst.
const SLACK: Duration = Duration::from_millis(100);

/// Bounds of a wait that the API requests: neither 0 nor a year makes sense.
const SHORTEST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_mins(1);

/// Largest factor by which a worker's pace approaches an equal share, each time it learns about the others.
const APPROACH_FACTOR: f64 = 1.1;

/// A change of the pace by this factor is logged.
const LOGGED_CHANGE: f64 = 1.5;

/// The pace of one [`Client`](super::Client), shared by all its requests.
#[derive(Debug)]
pub struct Pace {
    /// Requests per second to start with if no limit is known.
    initial: f64,
    /// Held by the request that waits for the next turn; the lock is fair.
    queue: tokio::sync::Mutex<()>,
    state: Mutex<PaceState>,
    waits: Waits,
}

#[derive(Debug)]
struct PaceState {
    limit: LimitEstimate,
    sent: Sent,
    /// Counted since the run began, or since the number of workers changed.
    served: Served,
    latency: Latency,
    /// In requests per second, for all workers together.
    ceiling: f64,
    workers: u32,
    /// When the next request may be sent.
    next: Instant,
    /// No request is sent before this time, as the API asked.
    held_until: Option<Instant>,
    /// The rate in the last log line.
    logged_rate: f64,
}

/// Permission to send one request now.
#[derive(Debug)]
pub(super) struct Turn {
    sent_at: Instant,
    /// Seconds until the next turn; `None` if requests come more slowly than the pace allows. Then their success says
    /// nothing about the pace.
    slot: Option<f64>,
}

impl Pace {
    pub(super) fn new(initial: f64, ceiling: Option<f64>) -> Self {
        let ceiling = ceiling.unwrap_or(f64::INFINITY);
        let state = PaceState {
            limit: LimitEstimate::unknown(initial / HEADROOM),
            sent: Sent::default(),
            served: Served::since(Instant::now()),
            latency: Latency::default(),
            ceiling,
            workers: 1,
            next: Instant::now(),
            held_until: None,
            logged_rate: initial.min(ceiling),
        };
        Self { initial, queue: tokio::sync::Mutex::default(), state: Mutex::new(state), waits: Waits::default() }
    }

    /// Records its waits in `waits`.
    pub(super) fn with_waits(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    pub(super) async fn turn(&self) -> Turn {
        // Requests queue in order of arrival. Only the first one computes its time, so that a change of the pace
        // applies to all others at once.
        let _first = self.queue.lock().await;
        let mut has_waited = false;
        loop {
            let (free_at, what) = {
                let mut state = self.state.lock();
                match state.take_turn(Instant::now(), has_waited) {
                    Ok(turn) => return turn,
                    Err(free_at) => (free_at, if state.held_until >= Some(free_at) { For::Pause } else { For::Turn }),
                }
            };
            let _waiting = self.waits.begin(what, Some(free_at));
            tokio::time::sleep_until(free_at).await;
            has_waited = true;
        }
    }

    /// Records that a reply arrived that was neither a 429 nor a server error.
    pub(super) fn went_well(&self, turn: &Turn) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.served.add(turn.sent_at);
        let Some(slot) = turn.slot else { return };
        match state.latency.note(now.duration_since(turn.sent_at), now) {
            Trend::Calm if state.rate() < state.own_ceiling() => state.limit.grow(slot),
            Trend::Calm | Trend::Unsure => {}
            Trend::Slow => {
                let limit = state.used_limit();
                state.limit.ease(limit);
            }
            Trend::CalmAgain => state.limit.relax(),
        }
        state.log_change();
    }

    /// Records a 429 and lowers the rate.
    pub(super) fn was_throttled(&self, turn: &Turn) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (limit, served) = (state.used_limit(), state.sent.on_throttled(turn.sent_at));
        state.limit.on_throttled(limit, turn.sent_at, served, now);
        // Wait until the last second holds no more than the new rate: before that every request would get a 429.
        if let Some(free_at) = state.sent.falls_below(state.rate().ceil(), now) {
            state.next = state.next.max(free_at);
        }
        state.log_change();
    }

    /// Sends nothing for this long, but at least a second and at most a minute.
    pub fn hold_for(&self, wait: Duration) {
        let wait = wait.clamp(SHORTEST_HOLD, LONGEST_HOLD);
        let mut state = self.state.lock();
        state.next = state.next.max(Instant::now() + wait);
        state.held_until = Some(state.next);
    }

    /// Returns the current rate of this worker, in requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.state.lock().rate()
    }

    /// Returns the rate to start with if no limit is known.
    #[must_use]
    pub fn initial(&self) -> f64 {
        self.initial
    }

    /// Returns the highest rate of this worker over five of the last ten seconds. `None` in the first five seconds.
    #[must_use]
    pub fn served(&self) -> Option<f64> {
        self.state.lock().served.per_second(Instant::now())
    }

    /// Returns the pace of all workers together, if a 429 confirmed the limit.
    #[must_use]
    pub fn found(&self) -> Option<f64> {
        let state = self.state.lock();
        state.limit.is_found().then(|| state.rate() * f64::from(state.workers))
    }

    /// Makes this one of `workers` that share the API; `total` is the pace of all of them. Without `total` this
    /// worker's own estimate counts.
    pub fn share(&self, workers: u32, total: Option<f64>) {
        let mut state = self.state.lock();
        let factor = state.set_workers(workers);
        match total {
            Some(total) => state.limit = LimitEstimate::known(state.share_of(total)),
            None => state.limit.scale(factor),
        }
        state.log_change();
    }

    /// Like [`share`](Self::share), but `total` is no limit: it was served before, and the search for the limit goes
    /// on from there.
    pub fn search_from(&self, workers: u32, total: f64) {
        let mut state = self.state.lock();
        state.set_workers(workers);
        state.limit = LimitEstimate::unknown(state.share_of(total));
        state.log_change();
    }

    /// Approaches an equal share of `total` in small steps: the worker's own measurements count for more. A worker
    /// that has not found the limit keeps searching instead.
    pub fn approach(&self, total: f64) {
        let mut state = self.state.lock();
        if !state.limit.is_found() {
            return;
        }
        let factor = total / f64::from(state.workers) / state.rate();
        state.limit.scale(factor.clamp(1.0 / APPROACH_FACTOR, APPROACH_FACTOR));
    }

    #[must_use]
    pub fn has_ceiling(&self) -> bool {
        self.state.lock().ceiling.is_finite()
    }
}

impl PaceState {
    /// Sets the number of workers and returns the factor by which this worker's share changes. Forgets the rate that
    /// was served before.
    fn set_workers(&mut self, workers: u32) -> f64 {
        self.served = Served::since(Instant::now());
        let before = std::mem::replace(&mut self.workers, workers.max(1));
        f64::from(before) / f64::from(self.workers)
    }

    /// Returns this worker's limit if all workers together may send `total`.
    fn share_of(&self, total: f64) -> f64 {
        total / f64::from(self.workers) / HEADROOM
    }

    fn own_ceiling(&self) -> f64 {
        self.ceiling / f64::from(self.workers)
    }

    fn rate(&self) -> f64 {
        (self.limit.per_second() * HEADROOM).min(self.own_ceiling())
    }

    /// Returns the limit that the rate follows: a ceiling may be below the estimate.
    fn used_limit(&self) -> f64 {
        self.rate() / HEADROOM
    }

    /// Returns a turn, or when to try again.
    fn take_turn(&mut self, now: Instant, has_waited: bool) -> Result<Turn, Instant> {
        let rate = self.rate();
        // Turns that are caught up must not exceed the limit within a second. The limit may be less than one.
        let most = self.limit.per_second().min(self.own_ceiling()).floor().max(rate.ceil());
        let free_at = self.sent.falls_below(most, now).map_or(self.next, |free_at| free_at.max(self.next));
        if free_at > now {
            return Err(free_at);
        }
        let from = self.next.max(now.checked_sub(SLACK).unwrap_or(now));
        let slot = 1.0 / rate;
        self.next = from + Duration::from_secs_f64(slot);
        self.sent.add(now);
        // Timers are late: a request that arrives slightly after its time may have queued behind one that waited.
        let is_limiting = has_waited || from + SLACK / 2 > now;
        Ok(Turn { sent_at: now, slot: is_limiting.then_some(slot) })
    }

    fn log_change(&mut self) {
        let rate = self.rate();
        if rate > self.logged_rate * LOGGED_CHANGE || rate * LOGGED_CHANGE < self.logged_rate {
            tracing::debug!(requests_per_second = rate, before = self.logged_rate, "the pace changed");
            self.logged_rate = rate;
        }
    }
}
