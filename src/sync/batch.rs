//! Settled orders that wait to be written, cut into batches: one transaction each.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::answered::Answered;

/// Most orders in a batch. Larger ones gain nothing measurable and hold locks longer.
pub(super) const MOST_ORDERS: usize = 400;
/// Most messages in a batch, unless a single order has more.
const MOST_MESSAGES: usize = 20_000;
/// Most bytes of replies in a batch, unless a single reply is larger. A batch keeps the memory of its replies reserved
/// until it commits: if it reserved all of it, no reply could be read meanwhile.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// How long answers wait for others. A batch costs the database about as much as 30 orders. Without the wait, a slow
/// API and a free writer would make a batch for every few answers.
const LINGER: Duration = Duration::from_millis(100);

/// Answers in the order of their arrival.
pub(super) struct BatchQueue {
    answers: VecDeque<Answered>,
    /// When the first answer of the next batch came, or the previous batch was taken.
    since: Instant,
    /// Totals of all answers, so that they are not counted again for every new one.
    messages: usize,
    bytes: usize,
}

impl BatchQueue {
    pub(super) fn new() -> Self {
        Self { answers: VecDeque::new(), since: Instant::now(), messages: 0, bytes: 0 }
    }

    pub(super) fn add(&mut self, answers: Vec<Answered>) {
        if self.is_empty() {
            self.since = Instant::now();
        }
        for answered in &answers {
            let (messages, bytes) = size(answered);
            self.messages += messages;
            self.bytes += bytes;
        }
        self.answers.extend(answers);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether the next batch has reached a limit.
    pub(super) fn is_full(&self) -> bool {
        self.answers.len() >= MOST_ORDERS || self.messages > MOST_MESSAGES || self.bytes > MOST_BYTES
    }

    /// When the next batch has waited long enough for more answers.
    pub(super) fn waits_until(&self) -> Instant {
        self.since + LINGER
    }

    /// Takes the next batch; empty only if no answer waits.
    pub(super) fn take(&mut self) -> Vec<Answered> {
        let (mut orders, mut all_messages, mut all_bytes) = (0, 0, 0);
        for (messages, bytes) in self.answers.iter().take(MOST_ORDERS).map(size) {
            if orders > 0 && (all_messages + messages > MOST_MESSAGES || all_bytes + bytes > MOST_BYTES) {
                break;
            }
            orders += 1;
            all_messages += messages;
            all_bytes += bytes;
        }
        self.since = Instant::now();
        self.messages -= all_messages;
        self.bytes -= all_bytes;
        self.answers.drain(..orders).collect()
    }
}

fn size(answered: &Answered) -> (usize, usize) {
    let messages = answered.settlement.chat.conversation.as_ref().map_or(0, |read| read.messages.len());
    (messages, answered.reservation.bytes())
}
