//! What the stages of one run share.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::clock::DatabaseClock;
use super::failures::Failures;
use super::leased::HeldLeases;
use super::rejects::RejectLimits;
use crate::connect::Session;
use crate::db::Store;
use crate::db::queue::Scope;
use crate::db::runs::Sent;
use crate::domain::QueuePolicy;

/// One run. Stages and their tasks share it behind an `Arc`.
pub(super) struct RunContext {
    pub(super) id: Uuid,
    pub(super) scope: Scope,
    pub(super) store: Store,
    pub(super) session: Session,
    pub(super) clock: DatabaseClock,
    pub(super) policy: QueuePolicy,
    /// The length of a lease.
    pub(super) lease: Duration,
    pub(super) max_in_flight: usize,
    pub(super) held: HeldLeases,
    pub(super) failures: Failures,
    pub(super) rejects: RejectLimits,
    /// Whether a message of this run was stored.
    pub(super) has_stored: AtomicBool,
    /// Cancelled by a signal or by the first stage that fails. Then no new request is sent.
    pub(super) halt: CancellationToken,
}

impl RunContext {
    /// Requests and 429s so far.
    pub(super) fn sent(&self) -> Sent {
        let (requests, throttled) = self.session.counts();
        Sent { requests, throttled }
    }

    /// Runs a stage; if it fails, the other stages stop.
    pub(super) async fn halt_on_error<T, E>(&self, stage: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let result = stage.await;
        if result.is_err() {
            self.halt.cancel();
        }
        result
    }
}
