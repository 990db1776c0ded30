//! The memory that replies may take, from their first bytes until their rows are committed.
//!
//! Requests under way are bounded in number, but a reply can be a thousand times larger than usual. So each reply owns
//! a [`Reservation`] of its size; while there is no room, reading goes no further and the connection fills up. Large
//! replies take turns, one at a time, so that two half-read ones never wait for each other's room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For all replies together but the large one, in bytes of body. Decoded and as columns of a statement a body is
/// several times as large.
const TOTAL: usize = 8 * 1024 * 1024;
/// Read before anything is reserved: the replies of most orders are smaller. While a reply waits, its connection holds
/// several times as much.
pub(super) const FREE: usize = 16 * 1024;
/// A reply beyond this size is large.
pub(super) const LARGE: usize = 128 * 1024;
/// Bytes per permit.
const UNIT: usize = 1024;

#[derive(Debug)]
pub(super) struct Memory {
    room: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// Room for one reply; given back on drop.
#[derive(Debug, Default)]
pub struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
    /// Of a large reply the permit says nothing about its size.
    bytes: usize,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(units(TOTAL))), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for room, for a reply of at most [`LARGE`] bytes. First come, first served.
    pub(super) async fn reserve(&self, bytes: usize) -> Reservation {
        let count = u32::try_from(units(bytes.min(LARGE))).expect("a million at most");
        let room = Arc::clone(&self.room).acquire_many_owned(count).await;
        Reservation { permit: Some(room.expect("the semaphore is never closed")), bytes }
    }

    /// Waits for the turn of a large reply.
    pub(super) async fn reserve_large(&self) -> Reservation {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        Reservation { permit: Some(turn.expect("the semaphore is never closed")), bytes: 0 }
    }
}

impl Reservation {
    /// The size of the reply.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what turned out not to be needed.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.bytes = bytes;
        if let Some(permit) = &mut self.permit {
            let excess = permit.num_permits().saturating_sub(units(bytes));
            drop(permit.split(excess));
        }
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_reply_waits_until_others_made_room() {
        let memory = Memory::new();
        let mut all = Vec::new();
        while let Some(reservation) = memory.reserve(LARGE).now_or_never() {
            all.push(reservation);
        }
        assert_eq!(all.len(), TOTAL / LARGE);
        let next = memory.reserve(LARGE);
        tokio::pin!(next);
        assert!(next.as_mut().now_or_never().is_none());
        all[0].shrink_to(100);
        assert!(next.as_mut().now_or_never().is_none(), "a little is missing");
        all[1].shrink_to(100);
        assert!(next.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn large_replies_take_turns_and_wait_for_nobody_else() {
        let memory = Memory::new();
        let mut all = Vec::new();
        while let Some(reservation) = memory.reserve(LARGE).now_or_never() {
            all.push(reservation);
        }
        let first = memory.reserve_large().now_or_never().expect("its turn");
        let second = memory.reserve_large();
        tokio::pin!(second);
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().is_some());
    }
}
