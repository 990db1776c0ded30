//! The pace: how many requests per second the API is sent.
//!
//! The API publishes no limit and its 429 carries no hint, so the limit is inferred. `limit` keeps what is believed of
//! it, `sent` what was sent lately, `served` what was served, `latency` whether replies have become slow. Every request waits here for its
//! [`Turn`], retries and token requests included, and its reply reports back with it. Requests go evenly, at
//! [`HEADROOM`] of the believed limit, and never more than that limit within any one second, however late timers are.
//! Workers that share an API send a part each: [`Pace::share`].

mod latency;
mod limit;
mod retry_after;
mod sent;
mod served;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::waits::{For, Waits};
use latency::{Latency, Verdict};
use limit::Limit;
pub(super) use retry_after::retry_after;
use sent::Sent;
use served::Served;

/// Part of the believed limit that is used: the rest makes up for late timers and uneven networks.
const HEADROOM: f64 = 0.98;

/// Turns missed by late timers are made up for, up to this much time; more would be a burst.
const SLACK: Duration = Duration::from_millis(100);

/// A wait that the API asks for is honoured within these bounds: 0 and a year are both nonsense.
const SHORTEST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_mins(1);

/// A worker's pace comes closer to an equal part of the whole by this factor at most, each time it hears of the others.
const LEAN: f64 = 1.1;

/// A change of the pace by this factor is worth a line in the log.
const NEWS: f64 = 1.5;

/// The pace of one [`Client`](super::Client), shared by all its requests.
#[derive(Debug)]
pub struct Pace {
    /// Requests per second where nothing is known.
    initial: f64,
    /// Who waits for a turn; the lock is fair.
    line: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    waits: Waits,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    sent: Sent,
    /// Since the run began, or the number of workers changed.
    served: Served,
    latency: Latency,
    /// For all workers together.
    ceiling: f64,
    workers: u32,
    /// When the next request may go.
    next: Instant,
    /// Until then the API wants nothing to be sent.
    held_until: Option<Instant>,
    /// The rate that was last logged.
    told: f64,
}

/// Leave to send one request, now.
#[derive(Debug)]
pub(super) struct Turn {
    sent_at: Instant,
    /// Seconds until the next turn; `None` if requests come more slowly than the pace allows: their success says
    /// nothing about it.
    slot: Option<f64>,
}

impl Pace {
    pub(super) fn new(initial: f64, ceiling: Option<f64>) -> Self {
        let ceiling = ceiling.unwrap_or(f64::INFINITY);
        let state = State {
            limit: Limit::unknown(initial / HEADROOM),
            sent: Sent::default(),
            served: Served::since(Instant::now()),
            latency: Latency::default(),
            ceiling,
            workers: 1,
            next: Instant::now(),
            held_until: None,
            told: initial.min(ceiling),
        };
        Self { initial, line: tokio::sync::Mutex::default(), state: Mutex::new(state), waits: Waits::default() }
    }

    /// Says there what it waits for.
    pub(super) fn explaining(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// Waits for this request's turn.
    pub(super) async fn turn(&self) -> Turn {
        // One after the other, in the order of arrival: only the first of the line knows when it goes, so that all
        // others feel a change of the pace at once.
        let _first = self.line.lock().await;
        let mut has_waited = false;
        loop {
            let (free_at, what) = {
                let mut state = self.lock();
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

    /// A reply that was neither a 429 nor a failure of the server has begun to come.
    pub(super) fn went_well(&self, turn: &Turn) {
        let now = Instant::now();
        let mut state = self.lock();
        state.served.add(turn.sent_at);
        let Some(slot) = turn.slot else { return };
        match state.latency.note(now.duration_since(turn.sent_at), now) {
            Verdict::Calm if state.rate() < state.own_ceiling() => state.limit.grow(slot),
            Verdict::Calm | Verdict::Unsure => {}
            Verdict::Slow => {
                let limit = state.used_limit();
                state.limit.ease(limit);
            }
            Verdict::CalmAgain => state.limit.relax(),
        }
        state.tell();
    }

    /// A 429.
    pub(super) fn was_throttled(&self, turn: &Turn) {
        let now = Instant::now();
        let mut state = self.lock();
        let (limit, served) = (state.used_limit(), state.sent.refuse(turn.sent_at));
        state.limit.refuse(limit, turn.sent_at, served, now);
        // Wait until the last second holds no more than the new rate: nothing but refusals would come before.
        if let Some(free_at) = state.sent.falls_below(state.rate().ceil(), now) {
            state.next = state.next.max(free_at);
        }
        state.tell();
    }

    /// Nobody sends for so long, but for a second at least and a minute at most.
    pub fn hold_for(&self, wait: Duration) {
        let wait = wait.clamp(SHORTEST_HOLD, LONGEST_HOLD);
        let mut state = self.lock();
        state.next = state.next.max(Instant::now() + wait);
        state.held_until = Some(state.next);
    }

    /// Requests per second at the moment, of this worker alone.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.lock().rate()
    }

    /// Where the search starts if nothing is known.
    #[must_use]
    pub fn initial(&self) -> f64 {
        self.initial
    }

    /// The highest rate that this worker was served for five seconds, of the last ten; `None` if it has not asked for
    /// so long.
    #[must_use]
    pub fn served(&self) -> Option<f64> {
        self.lock().served.per_second(Instant::now())
    }

    /// The pace that all workers together may keep, if the API's limit was met.
    #[must_use]
    pub fn found(&self) -> Option<f64> {
        let state = self.lock();
        state.limit.is_found().then(|| state.rate() * f64::from(state.workers))
    }

    /// From now on this is one of `workers` that share the API, and `total` the pace of all of them. If that is not
    /// known, it is what this one believes.
    pub fn share(&self, workers: u32, total: Option<f64>) {
        let mut state = self.lock();
        let factor = state.now_one_of(workers);
        match total {
            Some(total) => state.limit = Limit::known(state.part_of(total)),
            None => state.limit.scale(factor),
        }
        state.tell();
    }

    /// The same, where `total` is no limit but was served before: the search for the limit goes on from there.
    pub fn search_from(&self, workers: u32, total: f64) {
        let mut state = self.lock();
        state.now_one_of(workers);
        state.limit = Limit::unknown(state.part_of(total));
        state.tell();
    }

    /// Leans towards an equal part of `total`, a little at a time: what this worker sees itself counts for more. One that
    /// has not met the limit yet has an equal part already, and looks for more.
    pub fn lean_to(&self, total: f64) {
        let mut state = self.lock();
        if !state.limit.is_found() {
            return;
        }
        let factor = total / f64::from(state.workers) / state.rate();
        state.limit.scale(factor.clamp(1.0 / LEAN, LEAN));
    }

    /// Whether a ceiling is configured.
    #[must_use]
    pub fn has_ceiling(&self) -> bool {
        self.lock().ceiling.is_finite()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a poisoned pace is still a pace.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns how many times as large this worker's part is now. What was served beside another number of others is
    /// forgotten.
    fn now_one_of(&mut self, workers: u32) -> f64 {
        self.served = Served::since(Instant::now());
        let before = std::mem::replace(&mut self.workers, workers.max(1));
        f64::from(before) / f64::from(self.workers)
    }

    /// The limit to believe in, if all workers together may send `total`.
    fn part_of(&self, total: f64) -> f64 {
        total / f64::from(self.workers) / HEADROOM
    }

    fn own_ceiling(&self) -> f64 {
        self.ceiling / f64::from(self.workers)
    }

    fn rate(&self) -> f64 {
        (self.limit.per_second() * HEADROOM).min(self.own_ceiling())
    }

    /// The limit that the rate goes by: a ceiling may leave less than what is believed.
    fn used_limit(&self) -> f64 {
        self.rate() / HEADROOM
    }

    /// A turn, or when to ask again.
    fn take_turn(&mut self, now: Instant, has_waited: bool) -> Result<Turn, Instant> {
        let rate = self.rate();
        // Made-up turns must not come to more than the limit in a second; that of a low rate may be a fraction.
        let most = self.limit.per_second().min(self.own_ceiling()).floor().max(rate.ceil());
        let free_at = self.sent.falls_below(most, now).map_or(self.next, |free_at| free_at.max(self.next));
        if free_at > now {
            return Err(free_at);
        }
        let from = self.next.max(now.checked_sub(SLACK).unwrap_or(now));
        let slot = 1.0 / rate;
        self.next = from + Duration::from_secs_f64(slot);
        self.sent.add(now);
        // Timers are late: who comes a little after the time may well have waited in line for somebody who waited.
        let is_limiting = has_waited || from + SLACK / 2 > now;
        Ok(Turn { sent_at: now, slot: is_limiting.then_some(slot) })
    }

    fn tell(&mut self) {
        let rate = self.rate();
        if rate > self.told * NEWS || rate * NEWS < self.told {
            tracing::debug!(requests_per_second = rate, before = self.told, "the pace changes");
            self.told = rate;
        }
    }
}
