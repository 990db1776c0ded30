//! The request rate above which the simulated API answers 429.
//!
//! Asked once per request, before anything else. Whole seconds are counted on their own, from the start of the simulator:
//! a client that sends evenly below the ceiling is never refused. Refused requests do not count.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The ceiling and what was admitted in the current second.
pub(super) struct Limit(Mutex<State>);

struct State {
    ceiling: Option<u32>,
    second: u64,
    admitted: u32,
}

impl Limit {
    /// At most `ceiling` requests a second; `None` admits all, 0 none.
    pub(super) fn new(ceiling: Option<u32>) -> Self {
        Self(Mutex::new(State { ceiling, second: 0, admitted: 0 }))
    }

    pub(super) fn set(&self, ceiling: Option<u32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ceiling = ceiling;
    }

    /// Whether a request that comes `running` after the start is admitted.
    pub(super) fn admit(&self, running: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ceiling) = state.ceiling else {
            return true;
        };
        // A thread that read the clock earlier may come later: the window never moves back.
        if running.as_secs() > state.second {
            state.second = running.as_secs();
            state.admitted = 0;
        }
        let admitted = state.admitted < ceiling;
        state.admitted += u32::from(admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_admits_its_ceiling_and_the_next_one_starts_afresh() {
        let limit = Limit::new(Some(2));
        let at = Duration::from_millis;
        let answers = [at(1_100), at(1_200), at(1_300), at(1_999), at(2_000), at(1_999), at(2_001)];
        assert_eq!(answers.map(|running| limit.admit(running)), [true, true, false, false, true, true, false]);
    }

    #[test]
    fn no_ceiling_admits_all_and_zero_none() {
        let limit = Limit::new(None);
        assert!((0..10_000).all(|_| limit.admit(Duration::ZERO)));
        limit.set(Some(0));
        assert!(!limit.admit(Duration::from_secs(9)));
    }
}
