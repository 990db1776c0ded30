//! Failures of a run by kind. A failed run reports the most frequent one in `sync.runs.error`.

use std::collections::{BTreeMap, HashSet};

use crate::domain::{HeldKind, Settlement, Verdict};
use parking_lot::Mutex;

/// If more orders than this cannot be settled, the cause is not in single orders.
const MOST_UNSETTLED: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Count and first example per kind of failure.
    by_kind: Mutex<BTreeMap<&'static str, (u64, String)>>,
    /// Orders whose queue rows accept no settlement: they stay leased and are left to a later run.
    unsettled: Mutex<HashSet<String>>,
}

impl Failures {
    /// Counts the failed and held orders of a written batch.
    pub(super) fn count(&self, written: &[&Settlement]) {
        for settled in written {
            let kind = match (settled.verdict, &settled.attempt.note, &settled.queue.held) {
                (Verdict::Held, _, Some(held)) => match held.kind {
                    HeldKind::Closed => "held back as closed",
                    HeldKind::NotFoundUncoded => "held back as not_found_uncoded",
                    HeldKind::Expired => "held back as expired",
                    HeldKind::Refused => "held back as refused",
                },
                (Verdict::Failed | Verdict::Dead, Some(note), _) => note.kind.as_str(),
                _ => continue,
            };
            self.note(kind, settled.order_id.as_str());
        }
    }

    pub(super) fn note(&self, kind: &'static str, order_id: &str) {
        self.by_kind.lock().entry(kind).or_insert_with(|| (0, order_id.to_owned())).0 += 1;
    }

    /// Describes the most frequent kind, with its count and an example.
    pub(super) fn most_frequent(&self) -> Option<String> {
        let failures = self.by_kind.lock();
        let (kind, (orders, example)) = failures.iter().max_by_key(|(_, (orders, _))| *orders)?;
        Some(format!("no order was answered; most often: {kind}, {orders} order(s), such as {example} (chatsync why)"))
    }

    /// Leaves an order to a later run. Returns false if there are too many of them.
    pub(super) fn leave(&self, order_id: &str) -> bool {
        let mut unsettled = self.unsettled.lock();
        unsettled.insert(order_id.to_owned());
        unsettled.len() <= MOST_UNSETTLED
    }

    pub(super) fn unsettled(&self) -> u64 {
        self.unsettled.lock().len() as u64
    }
}
