//! How far a run is, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Orders expected and settled so far. Counts are for the eye; the truth is in `sync.runs`.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether somebody wants to know how much there is to do: to count it takes a while where the queue is long.
    is_counted: bool,
    expected: AtomicU64,
    settled: AtomicU64,
}

impl Progress {
    /// For somebody who wants to know how much there is to do.
    #[must_use]
    pub fn counted() -> Self {
        Self { is_counted: true, ..Self::default() }
    }

    pub(super) fn is_counted(&self) -> bool {
        self.is_counted
    }

    pub(super) fn expect(&self, orders: u64) {
        self.expected.store(orders, Ordering::Relaxed);
    }

    pub(super) fn settle(&self, orders: u64) {
        self.settled.fetch_add(orders, Ordering::Relaxed);
    }

    /// Orders that were due when the run started, if they are counted.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.expected.load(Ordering::Relaxed)
    }

    /// Orders settled by this run.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }
}
