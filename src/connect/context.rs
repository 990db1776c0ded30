//! What the layers below a [`Session`](super::Session) know of it: whether the run is being stopped, and where to count
//! requests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use crate::domain::TokenKind;
use crate::waits::{For, Waiting, Waits};

/// The requests of a run.
pub(super) struct Traffic {
    /// Once it is cancelled, no further request is sent.
    stop: CancellationToken,
    requests: AtomicU64,
    throttled: AtomicU64,
    /// Lasts from a 429 to the next reply that is none.
    throttling: Mutex<Option<Waiting>>,
    waits: Waits,
}

impl Traffic {
    pub(super) fn new(stop: CancellationToken, waits: Waits) -> Self {
        let (requests, throttled) = (AtomicU64::default(), AtomicU64::default());
        Self { stop, requests, throttled, throttling: Mutex::default(), waits }
    }

    /// Returns the numbers of requests sent and 429s received so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.throttled.load(Relaxed))
    }

    /// Waits until the run is to stop.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    fn throttling(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.throttling.lock()
    }
}

/// The context of one fetch: its counters, and the cancellation of its run.
pub(super) struct FetchContext<'a> {
    traffic: &'a Traffic,
    requests: u32,
    /// To be stored with the order: [`ClaimedOrder::token_kind`](crate::domain::ClaimedOrder::token_kind).
    pub(super) token_kind: Option<TokenKind>,
}

impl<'a> FetchContext<'a> {
    pub(super) fn new(traffic: &'a Traffic, token_kind: Option<TokenKind>) -> Self {
        Self { traffic, requests: 0, token_kind }
    }

    /// Returns the number of requests of this fetch.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// Waits for something other than a reply. Fails with [`Error::Stopped`] once the run is being stopped.
    pub(super) async fn wait<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Error> {
        self.traffic.stop.run_until_cancelled(waiting).await.ok_or(Error::Stopped)
    }

    pub(super) fn count_request(&mut self) {
        self.requests += 1;
        self.traffic.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn count_throttled(&self) {
        self.traffic.throttled.fetch_add(1, Relaxed);
        self.traffic.throttling().get_or_insert_with(|| self.traffic.waits.begin(For::Throttling, None));
    }

    /// Records a reply that is no 429.
    pub(super) fn end_throttling(&self) {
        self.traffic.throttling().take();
    }
}
