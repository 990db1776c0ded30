//! The failures of a run by kind: a run that failed says in `sync.runs.error` what was wrong as a rule.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{HeldKind, Settlement, Verdict};

/// More orders than this that cannot be settled are no matter of single orders.
const MOST_UNSETTLED: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Failures {
    /// How many orders failed in which way, and the first of each. As many entries as there are kinds.
    by_kind: Mutex<BTreeMap<&'static str, (u64, String)>>,
    /// Orders whose queue rows accept no settlement: they stay leased, and are left to a later run.
    unsettled: Mutex<HashSet<String>>,
}

impl Failures {
    /// Counts those of a batch that was written, and what the storm guard holds back.
    pub(super) fn count(&self, written: &[&Settlement]) {
        for settled in written {
            let kind = match (settled.verdict, &settled.note, &settled.held) {
                (Verdict::Held, _, Some(held)) => match held.kind {
                    HeldKind::Closed => "held back as closed",
                    HeldKind::NotFoundUncoded => "held back as not_found_uncoded",
                    HeldKind::Expired => "held back as expired",
                    HeldKind::Refused => "held back as refused",
                },
                (Verdict::Failed | Verdict::Dead, Some((kind, _)), _) => kind,
                _ => continue,
            };
            self.note(kind, settled.order_id.as_str());
        }
    }

    /// Counts one order.
    pub(super) fn note(&self, kind: &'static str, order_id: &str) {
        lock(&self.by_kind).entry(kind).or_insert_with(|| (0, order_id.to_owned())).0 += 1;
    }

    /// The most frequent kind, its count and an example.
    pub(super) fn most_frequent(&self) -> Option<String> {
        let failures = lock(&self.by_kind);
        let (kind, (orders, example)) = failures.iter().max_by_key(|(_, (orders, _))| *orders)?;
        Some(format!("no order was answered; most often: {kind}, {orders} order(s), such as {example} (chatsync why)"))
    }

    /// Leaves an order to a later run; false if there are too many of them.
    pub(super) fn leave(&self, order_id: &str) -> bool {
        let mut unsettled = lock(&self.unsettled);
        unsettled.insert(order_id.to_owned());
        unsettled.len() <= MOST_UNSETTLED
    }

    /// How many orders are left to a later run.
    pub(super) fn unsettled(&self) -> u64 {
        lock(&self.unsettled).len() as u64
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map is whole after each of these operations, whatever happened in between.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
