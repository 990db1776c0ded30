//! Waits that double.

use std::time::Duration;

/// Returns the wait after so many failures in a row: `first` after one, then twice as long each time, `longest` at most.
#[must_use]
pub fn backoff(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_the_longest() {
        let waits = [0, 1, 2, 3, 4, 100]
            .map(|failures| backoff(Duration::from_secs(1), failures, Duration::from_secs(6)).as_secs());
        assert_eq!(waits, [1, 1, 2, 4, 6, 6]);
    }
}
