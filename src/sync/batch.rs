//! Answers that may be written, cut into batches: one transaction each.

use std::collections::VecDeque;

use super::write::Answered;

/// Most orders in a batch. Larger ones gain nothing measurable and hold locks longer.
pub(super) const MOST_ORDERS: usize = 400;
/// Most messages in a batch, unless a single order has more.
const MOST_MESSAGES: usize = 20_000;
/// Most bytes of replies in a batch, unless a single reply is larger. A batch owns the room of its replies until it is
/// committed: with all of it, nothing could be read meanwhile.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// Answers in the order in which they came.
#[derive(Default)]
pub(super) struct Ready(VecDeque<Answered>);

impl Ready {
    pub(super) fn add(&mut self, answered: Vec<Answered>) {
        self.0.extend(answered);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the next batch is as large as it may be.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST_ORDERS || self.next_batch() < self.0.len()
    }

    /// The next batch; empty only if nothing is ready.
    pub(super) fn take(&mut self) -> Vec<Answered> {
        let orders = self.next_batch();
        self.0.drain(..orders).collect()
    }

    fn next_batch(&self) -> usize {
        let (mut messages, mut bytes) = (0, 0);
        let fits = |answered: &&Answered| {
            messages += answered.settlement.conversation.as_ref().map_or(0, |read| read.messages.len());
            bytes += answered.reservation.bytes();
            messages <= MOST_MESSAGES && bytes <= MOST_BYTES
        };
        let orders = self.0.iter().take(MOST_ORDERS).take_while(fits).count();
        orders.max(1).min(self.0.len())
    }
}
