//! What a run waits for. Code that may wait long records it here; the log, the progress bar and `sync.runs` read it.
//!
//! The code calls [`Waits::begin`] and keeps the [`Waiting`] while it waits. Most waits take milliseconds; a wait is
//! shown once it has lasted [`SHOWN_AFTER`]. Several waits of one kind count as one, as long as the longest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A wait is shown after this time.
pub const SHOWN_AFTER: Duration = Duration::from_secs(10);

/// A wait that goes on is logged again after this time.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The kinds of waits, most important first: an earlier kind explains the later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    /// An unavailable database.
    Database,
    /// A slow operation of the database, usually because of a lock.
    Answer,
    /// An outage of the API: the breaker is open.
    Outage,
    /// A pause that the API asked for: `Retry-After`.
    Pause,
    /// An API that answers every request with 429.
    Throttling,
    /// The next turn, at a low pace.
    Turn,
    /// Orders whose rows a session has locked.
    Locks,
    /// Orders that another worker holds.
    Leases,
}

impl For {
    /// Returns the words to follow "waiting for".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "the database, which is away",
            Self::Answer => {
                "an answer of the database; another session may have locked a row, or a pooler has no free connection"
            }
            Self::Outage => "the API, which is out of order",
            Self::Pause => "the end of the pause that the API asked for (Retry-After)",
            Self::Throttling => "the API, which answers 429 to every request",
            Self::Turn => "the next request that the pace allows",
            Self::Locks => "orders whose rows a session has locked, or a trigger keeps from being claimed",
            Self::Leases => "orders that another worker holds",
        }
    }
}

/// A wait that has lasted long enough to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub what: For,
    pub lasted: Duration,
    /// Its latest end, to the second by this machine's clock; `None` if unknown.
    pub until: Option<DateTime<Utc>>,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "waiting for {}", self.what.as_str())?;
        match self.until {
            Some(until) => write!(f, ", until {} at the latest", until.format("%H:%M:%SZ")),
            None => f.write_str("; the end is not known"),
        }
    }
}

/// The waits of a worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<Mutex<WaitsState>>);

#[derive(Debug, Default)]
struct WaitsState {
    /// The current waits by number.
    now: BTreeMap<u64, Entry>,
    next: u64,
    /// The kinds that were logged, and when last.
    explained: BTreeMap<For, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    what: For,
    since: Instant,
    until: Option<Instant>,
}

/// Records a wait until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    waits: Waits,
    number: u64,
}

impl Waits {
    /// Records a wait that ends at `until` at the latest.
    #[must_use]
    pub fn begin(&self, what: For, until: Option<Instant>) -> Waiting {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.now.insert(number, Entry { what, since: Instant::now(), until });
        Waiting { waits: self.clone(), number }
    }

    /// Returns the most important wait that has lasted [`SHOWN_AFTER`].
    #[must_use]
    pub fn longest(&self) -> Option<Wait> {
        self.0.lock().shown().into_values().next()
    }

    /// Like [`longest`](Self::longest), if it is to be logged: immediately, and then once a minute.
    #[must_use]
    pub fn unexplained(&self) -> Option<Wait> {
        let now = Instant::now();
        let mut state = self.0.lock();
        let waits = state.shown();
        state.explained.retain(|what, _| waits.contains_key(what));
        let wait = waits.into_values().next()?;
        if state.explained.get(&wait.what).is_some_and(|explained| now - *explained < AGAIN_AFTER) {
            return None;
        }
        state.explained.insert(wait.what, now);
        Some(wait)
    }
}

impl Waiting {
    /// Changes the latest end.
    pub fn set_until(&self, until: Option<Instant>) {
        if let Some(entry) = self.waits.0.lock().now.get_mut(&self.number) {
            entry.until = until;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.0.lock().now.remove(&self.number);
    }
}

impl WaitsState {
    /// Returns the longest wait of each kind that has lasted [`SHOWN_AFTER`].
    fn shown(&self) -> BTreeMap<For, Wait> {
        let (now, time) = (Instant::now(), Utc::now());
        let mut waits: BTreeMap<For, Wait> = BTreeMap::new();
        // Earlier waits have smaller numbers.
        for entry in self.now.values() {
            let lasted = now.duration_since(entry.since);
            if lasted < SHOWN_AFTER {
                break;
            }
            let until = entry.until.map(|until| {
                let left = TimeDelta::from_std(until.saturating_duration_since(now)).unwrap_or(TimeDelta::MAX);
                time.checked_add_signed(left).unwrap_or(DateTime::<Utc>::MAX_UTC).round_subsecs(0)
            });
            waits.entry(entry.what).or_insert(Wait { what: entry.what, lasted, until });
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_shown_from_ten_seconds_until_it_ends() {
        let waits = Waits::default();
        let waiting = waits.begin(For::Pause, Some(Instant::now() + Duration::from_secs(30)));
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(waits.longest(), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        let wait = waits.longest().expect("ten seconds");
        let left = wait.until.expect("a time") - Utc::now();
        assert!((19..=21).contains(&left.num_seconds()), "{left}");
        drop(waiting);
        assert_eq!(waits.longest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_waits_do_not_add_up() {
        let waits = Waits::default();
        for _ in 0..100 {
            let _waiting = waits.begin(For::Turn, None);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(waits.longest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_explains_a_wait_of_many_once_a_minute() {
        let waits = Waits::default();
        let all: Vec<Waiting> = (0..50).map(|_| waits.begin(For::Outage, None)).collect();
        let mut lines = 0;
        for _ in 0..130 {
            tokio::time::advance(Duration::from_secs(1)).await;
            lines += usize::from(waits.unexplained().is_some());
        }
        assert_eq!(lines, 3, "after 10, 70 and 130 seconds");
        drop(all);
        let _again = waits.begin(For::Outage, None);
        assert_eq!(waits.unexplained(), None);
        tokio::time::advance(SHOWN_AFTER).await;
        assert!(waits.unexplained().is_some(), "another wait");
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_that_explains_the_others_comes_first() {
        let waits = Waits::default();
        let _others = (waits.begin(For::Leases, None), waits.begin(For::Turn, None));
        let database = waits.begin(For::Database, None);
        tokio::time::advance(SHOWN_AFTER).await;
        assert_eq!(waits.longest().map(|wait| wait.what), Some(For::Database));
        drop(database);
        assert_eq!(waits.longest().map(|wait| wait.what), Some(For::Turn));
        assert!(waits.longest().expect("a wait").to_string().ends_with("the pace allows; the end is not known"));
    }
}
