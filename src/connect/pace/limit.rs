//! What is believed of the API's limit.
//!
//! A 429 proves that at least the limit was served within the second before it: whether seconds are counted from the
//! clock, over the last second, or by a bucket of tokens. So that count bounds the limit from above, and once
//! everything above the limit is refused it *is* the limit. It can be taken from each of many 429s without falling too
//! far. While none comes the belief grows, slowly at first and ever faster, so that hardly anything is refused near
//! a limit that stays and one that doubled is found within seconds.

use std::time::Duration;

use tokio::time::Instant;

/// No belief is lower: at this rate it is still noticed when the API is well again.
const LOWEST: f64 = 0.5;

/// A limit that nobody objects to is believed to have doubled after this many seconds and requests: two per cent of
/// growth take more than half of either.
const DOUBLES_IN: f64 = 13.0;
const DOUBLES_AFTER: f64 = 200.0;
const CURVE: i32 = 6;

/// A fall deeper than this is no change of the limit but something else: an outage, or others used it up.
const DEEPEST: f64 = 8.0;

/// How much of the pace each second of slow replies takes, and how much they take at most.
const EASE: f64 = 0.9;
const EASE_MOST: f64 = 0.5;

#[derive(Debug)]
pub(super) struct Limit {
    /// Requests per second when it was last met, or when the search began.
    base: f64,
    /// Seconds without a 429 since, counted only while the pace was what limited.
    age: f64,
    /// Until the first 429 the belief doubles every second.
    is_searching: bool,
    /// Whether a 429 showed it.
    is_met: bool,
    /// Refusals of requests sent before this say nothing new.
    deaf_until: Option<Instant>,
    /// The least to which slow replies lower it, as long as they last.
    eased_floor: Option<f64>,
}

impl Limit {
    /// Nothing is known but where to start.
    pub(super) fn unknown(start: f64) -> Self {
        Self { base: start, age: 0.0, is_searching: true, is_met: false, deaf_until: None, eased_floor: None }
    }

    /// It was this, not long ago.
    pub(super) fn known(limit: f64) -> Self {
        Self { is_searching: false, ..Self::unknown(limit.max(LOWEST)) }
    }

    /// The belief.
    pub(super) fn per_second(&self) -> f64 {
        let growth = if self.is_searching {
            self.age.exp2()
        } else {
            1.0 + (self.age / DOUBLES_IN.max(DOUBLES_AFTER / self.base)).powi(CURVE)
        };
        self.base * growth
    }

    /// Whether it was met, and is believed: neither an outage nor slow replies have lowered it.
    pub(super) fn is_found(&self) -> bool {
        self.is_met && !self.is_searching && self.eased_floor.is_none()
    }

    /// A request at full pace was served; the next goes `seconds` later.
    pub(super) fn grow(&mut self, seconds: f64) {
        self.age += seconds;
    }

    /// A request sent at `sent_at` was refused, after `served` others in the second before it. `limit` is the belief,
    /// or what was made of it under a ceiling.
    pub(super) fn refuse(&mut self, limit: f64, sent_at: Instant, served: u32, now: Instant) {
        if self.deaf_until.is_some_and(|until| sent_at < until) {
            return;
        }
        let served = f64::from(served);
        if served >= limit / DEEPEST || self.is_searching && served >= 1.0 {
            self.base = limit.min(served);
            self.is_searching = false;
        } else {
            self.base = limit / DEEPEST;
            self.is_searching = true;
            self.deaf_until = Some(now + Duration::from_secs(1));
        }
        self.base = self.base.max(LOWEST);
        self.is_met = true;
        self.age = 0.0;
    }

    /// Replies have been slow for a while. `limit` as in [`refuse`](Self::refuse).
    pub(super) fn ease(&mut self, limit: f64) {
        let floor = *self.eased_floor.get_or_insert(limit * EASE_MOST);
        self.base = (limit * EASE).max(floor).min(limit).max(LOWEST);
        self.age = 0.0;
        self.is_searching = false;
    }

    /// Replies are as quick as usual again.
    pub(super) fn relax(&mut self) {
        self.eased_floor = None;
    }

    /// Another part of the whole.
    pub(super) fn scale(&mut self, factor: f64) {
        self.base = (self.base * factor).max(LOWEST);
        self.eased_floor = self.eased_floor.map(|floor| floor * factor);
    }
}
