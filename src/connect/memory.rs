//! The memory that replies may take, from their first bytes until their rows are committed.
//!
//! Requests under way are bounded in number, but a reply can be a thousand times larger than usual. So each reply owns
//! a [`Reservation`] of its size; while there is no room, reading goes no further and the connection fills up. What a
//! reply needs is reserved at once and not by and by: two half-read replies can never wait for each other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For all replies together, in bytes of body. Decoded and as columns of a statement a body is several times as large.
const TOTAL: usize = 12 * 1024 * 1024;
/// Read before anything is reserved: the replies of most orders are smaller.
pub(super) const FREE: usize = 32 * 1024;
/// Bytes per permit.
const UNIT: usize = 1024;

#[derive(Debug)]
pub(super) struct Memory(Arc<Semaphore>);

/// Room for one reply; given back on drop.
#[derive(Debug, Default)]
pub struct Reservation(Option<OwnedSemaphorePermit>);

impl Memory {
    /// Room for many replies, and for one of the largest at least.
    pub(super) fn new(max_response_bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(units(TOTAL.max(max_response_bytes)))))
    }

    /// Waits for room. First come, first served.
    pub(super) async fn reserve(&self, bytes: usize) -> Reservation {
        let count = u32::try_from(units(bytes)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0).acquire_many_owned(count).await;
        Reservation(Some(permit.expect("the semaphore is never closed")))
    }
}

impl Reservation {
    /// Gives back what turned out not to be needed.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
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
    use super::*;

    #[tokio::test]
    async fn a_large_reply_waits_until_others_made_room() {
        let memory = Memory::new(8 * 1024 * 1024);
        let mut first = memory.reserve(8 * 1024 * 1024).await;
        let second = memory.reserve(8 * 1024 * 1024);
        tokio::pin!(second);
        assert!(futures_util::FutureExt::now_or_never(second.as_mut()).is_none());
        first.shrink_to(100);
        assert!(futures_util::FutureExt::now_or_never(second.as_mut()).is_some());
    }

    #[tokio::test]
    async fn the_largest_reply_allowed_always_fits() {
        let memory = Memory::new(3 * TOTAL);
        drop(memory.reserve(3 * TOTAL).await);
        memory.reserve(3 * TOTAL).await;
    }
}
