//! The breaker: an outage of the API is waited out and not counted against orders.
//!
//! Every attempt passes here before it sends. When most of the latest attempts failed in a way that hints at an outage
//! (the policy table says which do), the breaker opens: all fetches wait, and one at a time goes through as a probe,
//! after growing waits. The first successful probe closes it. After `give_up_after` all waiting fetches end with
//! [`Error::Outage`]. One breaker belongs to one run.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::Error;
use crate::domain::backoff;
use crate::waits::{For, Waiting, Waits};

/// Number of latest results that are considered.
const WINDOW: usize = 20;
/// With fewer results the breaker stays closed: a few bad orders are not an outage.
const FEWEST: usize = 10;
/// The breaker opens when at least this share of the results is bad.
const BAD_SHARE: (usize, usize) = (4, 5);
/// The wait before the first probe; it doubles up to the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Breaker {
    give_up_after: Duration,
    state: Mutex<BreakerState>,
    changed: Notify,
    waits: Waits,
}

#[derive(Debug, Default)]
struct BreakerState {
    /// The latest results, oldest first; true is bad.
    results: VecDeque<bool>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    last: String,
    /// Probes sent, this one included.
    probes: u32,
    next_probe: Instant,
    is_probing: bool,
    _waiting: Waiting,
}

/// Permission to send. A probe that is dropped without a result lets the next one through.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    pub(super) is_probe: bool,
    /// Whether the breaker was open when the pass was requested.
    pub(super) was_waited_for: bool,
}

impl Breaker {
    pub(super) fn new(give_up_after: Duration, waits: Waits) -> Self {
        Self { give_up_after, state: Mutex::default(), changed: Notify::new(), waits }
    }

    /// Waits until a request may be sent. Fails with [`Error::Outage`] after `give_up_after`.
    pub(super) async fn pass(&self) -> Result<Pass<'_>, Error> {
        let mut was_waited_for = false;
        loop {
            // Register before reading the state: otherwise a change in between would be missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let until = {
                let mut state = self.state.lock();
                let Some(open) = &mut state.open else {
                    return Ok(Pass { breaker: self, is_probe: false, was_waited_for });
                };
                was_waited_for = true;
                let (now, end) = (Instant::now(), open.since + self.give_up_after);
                if now >= end {
                    return Err(Error::Outage { lasted: now - open.since, last: open.last.clone() });
                }
                if !open.is_probing && now >= open.next_probe {
                    open.is_probing = true;
                    return Ok(Pass { breaker: self, is_probe: true, was_waited_for });
                }
                if open.is_probing { end } else { end.min(open.next_probe) }
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open.is_some()
    }
}

impl Pass<'_> {
    /// Records that the API answered.
    pub(super) fn went_well(self) {
        let mut state = self.breaker.state.lock();
        if self.is_probe
            && let Some(open) = state.open.take()
        {
            let lasted = open.since.elapsed();
            tracing::info!(?lasted, "the API answers again");
            state.results.clear();
            self.breaker.changed.notify_waiters();
        }
        // Requests sent before the breaker opened say nothing about now.
        if state.open.is_none() {
            state.record(false);
        }
    }

    /// Records a failure that hints at an outage.
    pub(super) fn failed(self, error: &Error) {
        let mut state = self.breaker.state.lock();
        let now = Instant::now();
        match &mut state.open {
            Some(open) if self.is_probe => {
                open.probes += 1;
                open.next_probe = now + backoff(FIRST_WAIT, open.probes, LONGEST_WAIT);
                open.last = error.to_string();
            }
            // Sent before the breaker opened.
            Some(_) => {}
            None => {
                state.record(true);
                let (bad, all) = (state.results.iter().filter(|is_bad| **is_bad).count(), state.results.len());
                if all >= FEWEST && bad * BAD_SHARE.1 >= all * BAD_SHARE.0 {
                    let last = error.to_string();
                    tracing::warn!(failed = bad, of = all, last, "most requests fail: waiting for the API");
                    state.open = Some(Open {
                        since: now,
                        last,
                        probes: 1,
                        next_probe: now + FIRST_WAIT,
                        is_probing: false,
                        _waiting: self.breaker.waits.begin(For::Outage, Some(now + self.breaker.give_up_after)),
                    });
                }
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            if let Some(open) = &mut self.breaker.state.lock().open {
                open.is_probing = false;
            }
            self.breaker.changed.notify_waiters();
        }
    }
}

impl BreakerState {
    fn record(&mut self, is_bad: bool) {
        if self.results.len() == WINDOW {
            self.results.pop_front();
        }
        self.results.push_back(is_bad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVE_UP_AFTER: Duration = Duration::from_mins(5);

    fn failure() -> Error {
        Error::TimedOut {
            asked_for: super::super::Asked::Messages,
            peer: "api".into(),
            within: Duration::from_secs(30),
        }
    }

    async fn opened() -> Breaker {
        let breaker = Breaker::new(GIVE_UP_AFTER, Waits::default());
        for _ in 0..FEWEST {
            breaker.pass().await.expect("closed").failed(&failure());
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_among_good_replies_delay_no_request() {
        let breaker = Breaker::new(GIVE_UP_AFTER, Waits::default());
        let start = Instant::now();
        for _ in 0..FEWEST / 2 {
            breaker.pass().await.expect("closed").failed(&failure());
        }
        for _ in 0..50 {
            breaker.pass().await.expect("closed").went_well();
            breaker.pass().await.expect("closed").failed(&failure());
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_probed_less_and_less_often_until_the_breaker_gives_up() {
        let breaker = opened().await;
        let start = Instant::now();
        let mut probes = 0;
        let error = loop {
            match breaker.pass().await {
                Ok(pass) => {
                    probes += 1;
                    pass.failed(&failure());
                }
                Err(error) => break error,
            }
        };
        assert_eq!(start.elapsed(), GIVE_UP_AFTER);
        assert!((10..20).contains(&probes), "{probes}");
        assert!(matches!(error, Error::Outage { lasted, .. } if lasted == GIVE_UP_AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn only_one_request_probes_and_its_success_lets_all_others_through() {
        let breaker = opened().await;
        let probe = breaker.pass().await.expect("a probe");
        let others = async { tokio::join!(breaker.pass(), breaker.pass()) };
        tokio::pin!(others);
        assert!(tokio::time::timeout(Duration::from_mins(1), others.as_mut()).await.is_err());
        probe.went_well();
        let (one, other) = others.await;
        assert!(one.is_ok() && other.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_probe_lets_the_next_one_through() {
        let breaker = opened().await;
        drop(breaker.pass().await.expect("a probe"));
        breaker.pass().await.expect("another probe").went_well();
        assert!(breaker.pass().await.is_ok());
    }
}
