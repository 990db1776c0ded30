//! A gate in front of a hand-made API: requests wait until the test lets them in.
//!
//! The test has the [`Door`], the handler the [`Gate`]. A failing test opens the door when it is dropped, so that no
//! thread waits for ever.

use crate::support::PATIENCE;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub(crate) struct Door(Arc<Passage>);

pub(crate) struct Gate(Arc<Passage>);

struct Passage {
    /// One permit per request that came.
    arrived: Semaphore,
    /// One permit per request that may pass; closed when all may.
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
    /// Called by a handler: reports a request and waits until it is let in.
    pub(crate) fn pass(&self) {
        self.0.arrived.add_permits(1);
        // Handlers are synchronous, so the runtime needs another thread for its other tasks.
        tokio::task::block_in_place(|| {
            if let Ok(admission) = Handle::current().block_on(self.0.admitted.acquire()) {
                admission.forget();
            }
        });
    }
}
