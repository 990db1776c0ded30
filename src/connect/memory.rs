//! The memory that replies may take, from their first bytes until their rows are committed.
//!
//! Requests in flight are bounded in number, but a reply can be a thousand times larger than usual. So each reply owns
//! a [`Reservation`] of its size. While no memory is free, reading stops and TCP slows the server down. Large replies
//! take turns, one at a time: otherwise two half-read ones could wait for each other for ever.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For all replies together, except the large one, in bytes of body. Decoded and as columns of a statement a body is
/// several times as large.
const TOTAL: usize = 8 * 1024 * 1024;
/// Bytes read without a reservation: most replies are smaller. While a reply waits, its connection buffers several
/// times as much.
pub(super) const FREE: usize = 16 * 1024;
/// Replies above this size, in bytes, are large.
pub(super) const LARGE: usize = 128 * 1024;
/// Bytes per permit.
const UNIT: usize = 1024;

#[derive(Debug)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// The memory of one reply; released on drop.
#[derive(Debug, Default)]
pub struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
    /// Size of the reply. The permit of a large reply does not say it.
    bytes: usize,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(units(TOTAL))), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for memory, in order of arrival. At most [`LARGE`] bytes are reserved.
    pub(super) async fn reserve(&self, bytes: usize) -> Reservation {
        let count = u32::try_from(units(bytes.min(LARGE))).expect("a million at most");
        let permit = Arc::clone(&self.free).acquire_many_owned(count).await;
        Reservation { permit: Some(permit.expect("the semaphore is never closed")), bytes }
    }

    /// Waits for the turn of a large reply.
    pub(super) async fn reserve_large(&self) -> Reservation {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        Reservation { permit: Some(turn.expect("the semaphore is never closed")), bytes: 0 }
    }
}

impl Reservation {
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Releases the memory beyond `bytes`, the actual size.
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
    async fn a_reply_waits_until_others_release_memory() {
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
    async fn large_replies_wait_only_for_each_other() {
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
