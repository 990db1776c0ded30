//! What a run waits for: every place that may wait long says so here, and the log, the bar and `sync.runs` read it.
//!
//! A place calls [`Waits::begin`] and keeps the [`Waiting`] for as long as it waits. Most waits last milliseconds; one
//! is worth a word once it has lasted [`WORTH_A_WORD`]. Several of one kind are one wait, as long as the longest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use tokio::time::Instant;

/// A wait that lasts longer is explained.
pub const WORTH_A_WORD: Duration = Duration::from_secs(10);

/// The log explains a wait that goes on once in this time.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// What is waited for. The order is that of importance: what comes first explains what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    /// A database that is away.
    Database,
    /// An operation of the database that takes its time: a lock, as a rule.
    Answer,
    /// An API that is out of order: the breaker is open.
    Outage,
    /// The end of a pause that the API asked for: `Retry-After`.
    Pause,
    /// An API that refuses every request with 429.
    Throttling,
    /// A turn, at a low pace.
    Turn,
    /// Orders whose rows a session has locked.
    Locks,
    /// Orders that another worker holds.
    Leases,
}

impl For {
    /// What is waited for, in words: a sentence goes on with "waiting for".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "the database, which is away",
            Self::Answer => "an answer of the database; another session may have locked a row",
            Self::Outage => "the API, which is out of order",
            Self::Pause => "the end of the pause that the API asked for (Retry-After)",
            Self::Throttling => "the API, which answers 429 to every request",
            Self::Turn => "the next request that the pace allows",
            Self::Locks => "orders whose rows a session has locked",
            Self::Leases => "orders that another worker holds",
        }
    }
}

/// A wait that is worth a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// What is waited for.
    pub what: For,
    /// How long it has lasted.
    pub lasted: Duration,
    /// When it ends at the latest, to the second by this machine's clock; `None`: not known.
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
pub struct Waits(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Those that go on, by a number of their own.
    now: BTreeMap<u64, Entry>,
    next: u64,
    /// What the log has explained, and when last.
    explained: BTreeMap<For, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    what: For,
    since: Instant,
    until: Option<Instant>,
}

/// Says that something is waited for until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    waits: Waits,
    number: u64,
}

impl Waits {
    /// From now on this is waited for, `until` then at the latest.
    #[must_use]
    pub fn begin(&self, what: For, until: Option<Instant>) -> Waiting {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.now.insert(number, Entry { what, since: Instant::now(), until });
        Waiting { waits: self.clone(), number }
    }

    /// The most important wait that has lasted for [`WORTH_A_WORD`].
    #[must_use]
    pub fn longest(&self) -> Option<Wait> {
        self.lock().worth_a_word().into_values().next()
    }

    /// The same, if it is time for the log to explain it: at once, and then once a minute.
    #[must_use]
    pub fn unexplained(&self) -> Option<Wait> {
        let now = Instant::now();
        let mut state = self.lock();
        let waits = state.worth_a_word();
        state.explained.retain(|what, _| waits.contains_key(what));
        let wait = waits.into_values().next()?;
        if state.explained.get(&wait.what).is_some_and(|explained| now - *explained < AGAIN_AFTER) {
            return None;
        }
        state.explained.insert(wait.what, now);
        Some(wait)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a poisoned state is still a state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Another time at which it ends at the latest.
    pub fn set_until(&self, until: Option<Instant>) {
        if let Some(entry) = self.waits.lock().now.get_mut(&self.number) {
            entry.until = until;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.lock().now.remove(&self.number);
    }
}

impl State {
    /// Of each kind the wait that has lasted longest, if it has lasted long.
    fn worth_a_word(&self) -> BTreeMap<For, Wait> {
        let (now, time) = (Instant::now(), Utc::now());
        let mut waits: BTreeMap<For, Wait> = BTreeMap::new();
        // Those that began first have the smallest numbers.
        for entry in self.now.values() {
            let lasted = now.duration_since(entry.since);
            if lasted < WORTH_A_WORD {
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
    async fn a_wait_is_worth_a_word_once_it_has_lasted_and_until_it_ends() {
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
    async fn many_short_waits_are_no_long_one() {
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
        tokio::time::advance(WORTH_A_WORD).await;
        assert!(waits.unexplained().is_some(), "another wait");
    }

    #[tokio::test(start_paused = true)]
    async fn what_explains_the_others_comes_first() {
        let waits = Waits::default();
        let _others = (waits.begin(For::Leases, None), waits.begin(For::Turn, None));
        let database = waits.begin(For::Database, None);
        tokio::time::advance(WORTH_A_WORD).await;
        assert_eq!(waits.longest().map(|wait| wait.what), Some(For::Database));
        drop(database);
        assert_eq!(waits.longest().map(|wait| wait.what), Some(For::Turn));
        assert!(waits.longest().expect("a wait").to_string().ends_with("the pace allows; the end is not known"));
    }
}
