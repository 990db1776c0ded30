//! The faults of the moment, and which request each of them hits.
//!
//! Asked once per request by `api::gate`. Invariant: the n-th request after a change of the faults draws the same numbers
//! in every simulator with the same seed. Requests that run side by side arrive in another order each time, so a schedule
//! repeats itself only roughly.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::super::random::mix;
use super::{Effect, Fault, Place};

const CHANCE: u64 = 31;
const BURSTS: u64 = 32;

/// How many requests in a row share the fate of a burst.
const BURST: u64 = 50;

/// The faults of the moment.
pub(in crate::simulator) struct Schedule {
    seed: u64,
    current: RwLock<Arc<Current>>,
}

#[derive(Default)]
struct Current {
    faults: Vec<(Fault, AtomicU64)>,
    requests: AtomicU64,
}

/// What happens to a request.
pub(in crate::simulator) struct Blow {
    /// The answer comes this much later.
    pub(in crate::simulator) delay: Duration,
    /// And this happens instead of the answer, or to it.
    pub(super) effect: Option<Effect>,
    /// For what an effect leaves to chance.
    pub(super) rng: fastrand::Rng,
}

impl Schedule {
    pub(in crate::simulator) fn new(seed: u64, faults: Vec<Fault>) -> Self {
        let schedule = Self { seed, current: RwLock::default() };
        schedule.set(faults);
        schedule
    }

    /// From now on these faults and no others; counts and chance start afresh.
    pub(in crate::simulator) fn set(&self, faults: Vec<Fault>) {
        let faults = faults.into_iter().map(|fault| (fault, AtomicU64::new(0))).collect();
        let current = Arc::new(Current { faults, requests: AtomicU64::new(0) });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// Each fault with the number of requests that it struck.
    pub(in crate::simulator) fn struck(&self) -> Vec<(String, u64)> {
        self.current().faults.iter().map(|(fault, struck)| (fault.to_string(), struck.load(Relaxed))).collect()
    }

    /// What happens to the next request: all delays that strike, and the first other fault.
    pub(in crate::simulator) fn next(&self, place: Place) -> Blow {
        let current = self.current();
        let number = current.requests.fetch_add(1, Relaxed);
        let draw = |purpose, number| fastrand::Rng::with_seed(mix(mix(self.seed, purpose), number));
        let mut blow = Blow { delay: Duration::ZERO, effect: None, rng: draw(CHANCE, number) };
        for (fault, struck) in &current.faults {
            let chance = match fault.effect {
                Effect::Burst => draw(BURSTS, number / BURST).f64(),
                _ => blow.rng.f64(),
            };
            if chance >= fault.chance || (fault.place != Place::Any && fault.place != place) {
                continue;
            }
            match &fault.effect {
                Effect::Latency(usual) => blow.delay += usual.mul_f64(0.5 + blow.rng.f64()),
                Effect::LatencySpike(delay) => blow.delay += *delay,
                effect if blow.effect.is_none() => blow.effect = Some(effect.clone()),
                _ => continue,
            }
            struck.fetch_add(1, Relaxed);
        }
        blow
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64, faults: &[&str]) -> Schedule {
        Schedule::new(seed, faults.iter().map(|text| text.parse().unwrap()).collect())
    }

    /// Which of the next thousand chat requests are struck by something that is no delay.
    fn struck(schedule: &Schedule) -> Vec<bool> {
        (0..1_000).map(|_| schedule.next(Place::Chat).effect.is_some()).collect()
    }

    #[test]
    fn a_fault_strikes_its_share_of_the_requests_and_the_same_ones_again() {
        let one = schedule(1, &["cut=0.3"]);
        let first = struck(&one);
        let count = first.iter().filter(|is_struck| **is_struck).count();
        assert!((250..350).contains(&count), "{count}");
        assert_eq!(one.struck(), [("cut=0.3".to_owned(), count as u64)]);
        assert_eq!(struck(&schedule(1, &["cut=0.3"])), first);
        assert_ne!(struck(&schedule(2, &["cut=0.3"])), first);
        one.set(vec!["cut=0.3".parse().unwrap()]);
        assert_eq!(struck(&one), first);
    }

    #[test]
    fn delays_add_up_and_the_first_other_fault_wins() {
        let schedule = schedule(1, &["latency:10ms", "latency-spike:1s", "stall", "cut"]);
        for _ in 0..100 {
            let blow = schedule.next(Place::Token);
            assert!((1_005..1_015).contains(&blow.delay.as_millis()));
            assert_eq!(blow.effect, Some(Effect::Stall));
        }
        let counts: Vec<_> = schedule.struck().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [100, 100, 100, 0]);
    }

    #[test]
    fn a_fault_keeps_to_its_place() {
        let schedule = schedule(1, &["token.cut", "garbled"]);
        assert_eq!(schedule.next(Place::Token).effect, Some(Effect::Cut));
        assert_eq!(schedule.next(Place::Chat).effect, Some(Effect::Garbled));
        assert_eq!(schedule.next(Place::Any).effect, None);
    }

    #[test]
    fn bursts_strike_fifty_requests_in_a_row() {
        let struck = struck(&schedule(1, &["burst=0.3"]));
        assert!(struck.chunks(50).all(|fifty| fifty.iter().all(|is_struck| *is_struck == fifty[0])));
        assert!(struck.contains(&true) && struck.contains(&false));
    }
}
