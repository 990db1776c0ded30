//! Progress of a run, for display.

use std::sync::atomic::{AtomicU64, Ordering};

/// Orders expected and settled so far. Approximate; the exact counts are in `sync.runs`.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether to count the due orders first, which takes a while in a long queue.
    is_counted: bool,
    expected: AtomicU64,
    settled: AtomicU64,
}

impl Progress {
    /// Creates a progress that counts the due orders first.
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

    /// Orders that were due when the run started, if counted.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.expected.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }
}
