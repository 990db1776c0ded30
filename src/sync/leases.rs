//! Renews the leases of a run while it lasts, and releases them if it ends early.

use tokio_util::sync::CancellationToken;

use super::run::RunContext;
use crate::db::queue;

/// Renews all leases and the sign of life of the run until it has ended, at a third of their length, so that one failed
/// renewal loses none. A failure does not end the run: the stages notice the database too, and an order whose lease was
/// lost is not written.
pub(super) async fn renew_until(ended: &CancellationToken, run: &RunContext) {
    while ended.run_until_cancelled(tokio::time::sleep(run.lease / 3)).await.is_some() {
        if let Err(error) = queue::renew(&run.store, run.id, &run.held.list(), run.lease).await {
            tracing::warn!(%error, "leases were not renewed");
        }
    }
}

/// Releases what was claimed but not settled: the rest after a signal or an error. Returns how many orders.
pub(super) async fn release(run: &RunContext) -> u64 {
    let rest = run.held.take();
    if rest.is_empty() {
        return 0;
    }
    let orders = rest.len();
    match queue::release(&run.store, &rest).await {
        Ok(()) => tracing::info!(orders, "claimed orders released"),
        Err(error) => {
            tracing::warn!(orders, %error, "claimed orders were not released, their leases will expire");
        }
    }
    orders as u64
}
