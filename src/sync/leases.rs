//! The leases of orders between claim and write: renewed during the run, and released if it ends early.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::run::RunContext;
use crate::db::queue;
use crate::domain::{ClaimedOrder, Lease, OrderId};

/// The leases that this run holds. Bounded by the capacity of the channels and tasks between claim and write.
#[derive(Debug, Default)]
pub(super) struct HeldLeases(Mutex<HashMap<OrderId, Lease>>);

impl HeldLeases {
    pub(super) fn add(&self, orders: &[ClaimedOrder]) {
        self.lock().extend(orders.iter().map(|order| (order.order_id.clone(), order.lease)));
    }

    pub(super) fn remove<'a>(&self, order_ids: impl Iterator<Item = &'a OrderId>) {
        let mut held = self.lock();
        for order_id in order_ids {
            held.remove(order_id);
        }
    }

    fn list(&self) -> Vec<(OrderId, Lease)> {
        self.lock().iter().map(|(order_id, lease)| (order_id.clone(), *lease)).collect()
    }

    fn take(&self) -> Vec<(OrderId, Lease)> {
        self.lock().drain().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Lease>> {
        // Each of these operations leaves the map consistent, even if another thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
