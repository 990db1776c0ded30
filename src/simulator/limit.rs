//! The request rate above which the simulated API answers 429.
//!
//! Checked once per request, before anything else. Whole seconds are counted separately, from the start of the
//! simulator, so a client that sends evenly below the ceiling is never refused. Refused requests do not count.

use std::time::Duration;

use parking_lot::Mutex;

/// The ceiling, and the number of requests admitted in the current second.
pub(super) struct RequestLimit(Mutex<LimitState>);

struct LimitState {
    ceiling: Option<u32>,
    second: u64,
    admitted: u32,
}

impl RequestLimit {
    /// Admits at most `ceiling` requests a second; `None` admits all, 0 none.
    pub(super) fn new(ceiling: Option<u32>) -> Self {
        Self(Mutex::new(LimitState { ceiling, second: 0, admitted: 0 }))
    }

    pub(super) fn set(&self, ceiling: Option<u32>) {
        self.0.lock().ceiling = ceiling;
    }

    /// Returns whether a request that arrives `running` after the start is admitted.
    pub(super) fn admit(&self, running: Duration) -> bool {
        let mut state = self.0.lock();
        let Some(ceiling) = state.ceiling else {
            return true;
        };
        // A thread that read the clock earlier may arrive later: the window never moves back.
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
        let limit = RequestLimit::new(Some(2));
        let at = Duration::from_millis;
        let answers = [at(1_100), at(1_200), at(1_300), at(1_999), at(2_000), at(1_999), at(2_001)];
        assert_eq!(answers.map(|running| limit.admit(running)), [true, true, false, false, true, true, false]);
    }

    #[test]
    fn no_ceiling_admits_all_and_zero_none() {
        let limit = RequestLimit::new(None);
        assert!((0..10_000).all(|_| limit.admit(Duration::ZERO)));
        limit.set(Some(0));
        assert!(!limit.admit(Duration::from_secs(9)));
    }
}
