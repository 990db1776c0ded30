//! A door before a hand-made API: requests wait there until the test lets them in.
//!
//! The test keeps the [`Door`], the handler the [`Gate`]. A test that fails opens the door on its way out, so that no
//! thread waits for ever.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::PATIENCE;

pub(crate) struct Door(Arc<Passage>);

pub(crate) struct Gate(Arc<Passage>);

struct Passage {
    /// One permit for each request that came.
    arrived: Semaphore,
    /// One permit for each request that may pass; closed when all may.
    admitted: Semaphore,
}

impl Door {
    pub(crate) fn shut() -> Self {
        Self(Arc::new(Passage { arrived: Semaphore::new(0), admitted: Semaphore::new(0) }))
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate(Arc::clone(&self.0))
    }

    /// Waits until this many requests more have come.
    pub(crate) async fn arrivals(&self, requests: u32) {
        let arrivals = timeout(PATIENCE, self.0.arrived.acquire_many(requests)).await;
        arrivals.unwrap_or_else(|_| panic!("fewer than {requests} requests came")).expect("never closed").forget();
    }

    /// Lets this many requests in.
    pub(crate) fn admit(&self, requests: usize) {
        self.0.admitted.add_permits(requests);
    }

    /// Lets everything in from now on.
    pub(crate) fn open(&self) {
        self.0.admitted.close();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.open();
    }
}

impl Gate {
    /// For a handler: says that a request has come, and waits until it is let in.
    pub(crate) fn pass(&self) {
        self.0.arrived.add_permits(1);
        // Handlers are not asynchronous; the runtime gets another thread for the rest of its work.
        tokio::task::block_in_place(|| {
            if let Ok(admission) = Handle::current().block_on(self.0.admitted.acquire()) {
                admission.forget();
            }
        });
    }
}
