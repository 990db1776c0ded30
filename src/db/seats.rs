//! Shares the connections that the server gives among the operations of a run.
//!
//! A pooler, a role or a small server may give fewer than `database.max_connections`. An operation that asked for one
//! more would wait in vain while the others are idle, and call the database away. So an operation takes a seat first,
//! and a seat for which there is no connection is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The seats of all stores of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    all: Arc<AtomicU32>,
    /// Notified when a connection is idle again.
    idle: Arc<Notify>,
}

/// The right to use one connection.
pub(super) type Seat = OwnedSemaphorePermit;

impl Seats {
    pub(super) fn new(most: u32) -> Self {
        let all = Arc::new(AtomicU32::new(most));
        Self { free: Arc::new(Semaphore::new(most as usize)), all, idle: Arc::default() }
    }

    /// Waits for a seat, first come, first served.
    pub(super) async fn take(&self) -> Seat {
        Arc::clone(&self.free).acquire_owned().await.expect("it is never closed")
    }

    /// Takes a seat if one is free.
    pub(super) fn try_take(&self) -> Option<Seat> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Removes a seat for which there is no connection. The last one stays and is free again: returns false.
    pub(super) fn remove(&self, seat: Seat) -> bool {
        let is_removed = self.all.fetch_update(Relaxed, Relaxed, |all| (all > 1).then(|| all - 1)).is_ok();
        if is_removed {
            seat.forget();
        }
        is_removed
    }

    /// Wakes all who wait for an idle connection.
    pub(super) fn note_idle(&self) {
        self.idle.notify_waiters();
    }

    /// Calls `find` now and whenever a connection becomes idle, until it returns one.
    pub(super) async fn until_idle<T>(&self, find: impl Fn() -> Option<T>) -> T {
        loop {
            let idle = self.idle.notified();
            if let Some(found) = find() {
                return found;
            }
            idle.await;
        }
    }
}
