//! The estimate of the API's limit.
//!
//! A 429 proves that at least the limit was served within the second before its request, whether the server counts
//! clock seconds, a sliding second, or tokens in a bucket. So that count is an upper bound of the limit, and once
//! everything above the limit is refused it equals the limit. It can be taken from each of many 429s without falling
//! too far.
//! Without a 429 the estimate grows, slowly at first and then ever faster. So a constant limit causes hardly any 429s,
//! and a limit that doubled is found within seconds.

use std::time::Duration;

use tokio::time::Instant;

/// Lower bound of the estimate, in requests per second: enough to notice soon that the API has recovered.
const LOWEST: f64 = 0.5;

/// Without a 429 the estimate doubles after this many seconds and requests. The first two per cent of growth take more
/// than half of either.
const DOUBLES_IN: f64 = 13.0;
const DOUBLES_AFTER: f64 = 200.0;
const CURVE: i32 = 6;

/// A deeper fall is not a change of the limit: an outage, or other clients used the limit up.
const DEEPEST: f64 = 8.0;

/// Factor per second of slow replies, and the lowest factor in total.
const EASE: f64 = 0.9;
const EASE_MOST: f64 = 0.5;

#[derive(Debug)]
pub(super) struct LimitEstimate {
    /// Requests per second at the last 429, or when the search began.
    base: f64,
    /// Seconds without a 429 since then, counted only while the pace was the bottleneck.
    age: f64,
    /// Until the first 429 the estimate doubles every second.
    is_searching: bool,
    /// Whether there was a 429.
    is_met: bool,
    /// A 429 to a request sent before this time is ignored.
    ignored_before: Option<Instant>,
    /// The lowest rate to which slow replies may reduce it, while they last.
    eased_floor: Option<f64>,
}

impl LimitEstimate {
    /// An unknown limit: the search begins at `start`.
    pub(super) fn unknown(start: f64) -> Self {
        Self { base: start, age: 0.0, is_searching: true, is_met: false, ignored_before: None, eased_floor: None }
    }

    /// A limit that was measured a short while ago.
    pub(super) fn known(limit: f64) -> Self {
        Self { is_searching: false, ..Self::unknown(limit.max(LOWEST)) }
    }

    /// Returns the estimate, in requests per second.
    pub(super) fn per_second(&self) -> f64 {
        let growth = if self.is_searching {
            self.age.exp2()
        } else {
            1.0 + (self.age / DOUBLES_IN.max(DOUBLES_AFTER / self.base)).powi(CURVE)
        };
        self.base * growth
    }

    /// Returns whether a 429 confirmed the estimate, and neither an outage nor slow replies have lowered it.
    pub(super) fn is_found(&self) -> bool {
        self.is_met && !self.is_searching && self.eased_floor.is_none()
    }

    /// Counts a request that was served at full pace; the next goes `seconds` later.
    pub(super) fn grow(&mut self, seconds: f64) {
        self.age += seconds;
    }

    /// Lowers the estimate after a 429 to a request sent at `sent_at`, with `served` others in the second before it.
    /// `limit` is the estimate as reduced by a ceiling.
    pub(super) fn on_throttled(&mut self, limit: f64, sent_at: Instant, served: u32, now: Instant) {
        if self.ignored_before.is_some_and(|until| sent_at < until) {
            return;
        }
        let served = f64::from(served);
        if served >= limit / DEEPEST || self.is_searching && served >= 1.0 {
            self.base = limit.min(served);
            self.is_searching = false;
        } else {
            self.base = limit / DEEPEST;
            self.is_searching = true;
            self.ignored_before = Some(now + Duration::from_secs(1));
        }
        self.base = self.base.max(LOWEST);
        self.is_met = true;
        self.age = 0.0;
    }

    /// Lowers the estimate because replies are slow. `limit` as in [`on_throttled`](Self::on_throttled).
    pub(super) fn ease(&mut self, limit: f64) {
        let floor = *self.eased_floor.get_or_insert(limit * EASE_MOST);
        self.base = (limit * EASE).max(floor).min(limit).max(LOWEST);
        self.age = 0.0;
        self.is_searching = false;
    }

    /// Ends the reduction: replies are as quick as usual again.
    pub(super) fn relax(&mut self) {
        self.eased_floor = None;
    }

    /// Scales the estimate to another share of the total.
    pub(super) fn scale(&mut self, factor: f64) {
        self.base = (self.base * factor).max(LOWEST);
        self.eased_floor = self.eased_floor.map(|floor| floor * factor);
    }
}
