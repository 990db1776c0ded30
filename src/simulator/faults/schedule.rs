//! The current faults, and which request each of them hits.
//!
//! Asked once per request by `routes::gate`. Invariant: the n-th request after a change of the faults draws the same
//! numbers in every simulator with the same seed. Concurrent requests arrive in varying order, so a schedule repeats
//! only approximately.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::super::random::mix;
use super::fault::{Effect, InjectedFault, Target};
use parking_lot::RwLock;

const CHANCE: u64 = 31;
const BURSTS: u64 = 32;

/// How many requests in a row a burst hits.
const BURST: u64 = 50;

pub(in crate::simulator) struct FaultSchedule {
    seed: u64,
    current: RwLock<Arc<Current>>,
}

#[derive(Default)]
struct Current {
    faults: Vec<(InjectedFault, AtomicU64)>,
    requests: AtomicU64,
}

/// What the faults do to a request.
pub(in crate::simulator) struct Blow {
    /// The delay of the reply.
    pub(in crate::simulator) delay: Duration,
    /// What happens instead of the reply, or to it.
    pub(super) effect: Option<Effect>,
    /// The generator for random choices of an effect.
    pub(super) rng: fastrand::Rng,
}

impl FaultSchedule {
    pub(in crate::simulator) fn new(seed: u64, faults: Vec<InjectedFault>) -> Self {
        let schedule = Self { seed, current: RwLock::default() };
        schedule.set(faults);
        schedule
    }

    /// Replaces the faults; counters and random numbers start again.
    pub(in crate::simulator) fn set(&self, faults: Vec<InjectedFault>) {
        let faults = faults.into_iter().map(|fault| (fault, AtomicU64::new(0))).collect();
        let current = Arc::new(Current { faults, requests: AtomicU64::new(0) });
        *self.current.write() = current;
    }

    /// Returns each fault with the number of requests it hit.
    pub(in crate::simulator) fn struck(&self) -> Vec<(String, u64)> {
        self.current().faults.iter().map(|(fault, struck)| (fault.to_string(), struck.load(Relaxed))).collect()
    }

    /// Returns what happens to the next request: all delays that hit it, and the first other fault.
    pub(in crate::simulator) fn next(&self, target: Target) -> Blow {
        let current = self.current();
        let number = current.requests.fetch_add(1, Relaxed);
        let draw = |purpose, number| fastrand::Rng::with_seed(mix(mix(self.seed, purpose), number));
        let mut blow = Blow { delay: Duration::ZERO, effect: None, rng: draw(CHANCE, number) };
        for (fault, struck) in &current.faults {
            let chance = match fault.effect {
                Effect::Burst => draw(BURSTS, number / BURST).f64(),
                _ => blow.rng.f64(),
            };
            if chance >= fault.chance || (fault.target != Target::Any && fault.target != target) {
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
        Arc::clone(&self.current.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64, faults: &[&str]) -> FaultSchedule {
        FaultSchedule::new(seed, faults.iter().map(|text| text.parse().unwrap()).collect())
    }

    /// Returns which of the next thousand chat requests are hit by something other than a delay.
    fn struck(schedule: &FaultSchedule) -> Vec<bool> {
        (0..1_000).map(|_| schedule.next(Target::Chat).effect.is_some()).collect()
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
            let blow = schedule.next(Target::Token);
            assert!((1_005..1_015).contains(&blow.delay.as_millis()));
            assert_eq!(blow.effect, Some(Effect::Stall));
        }
        let counts: Vec<_> = schedule.struck().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [100, 100, 100, 0]);
    }

    #[test]
    fn a_fault_keeps_to_its_place() {
        let schedule = schedule(1, &["token.cut", "garbled"]);
        assert_eq!(schedule.next(Target::Token).effect, Some(Effect::Cut));
        assert_eq!(schedule.next(Target::Chat).effect, Some(Effect::Garbled));
        assert_eq!(schedule.next(Target::Any).effect, None);
    }

    #[test]
    fn bursts_strike_fifty_requests_in_a_row() {
        let struck = struck(&schedule(1, &["burst=0.3"]));
        assert!(struck.chunks(50).all(|fifty| fifty.iter().all(|is_struck| *is_struck == fifty[0])));
        assert!(struck.contains(&true) && struck.contains(&false));
    }
}
