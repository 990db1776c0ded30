//! The orders between claim and write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{ClaimedOrder, Lease, OrderId};

/// The leases that this run holds. Bounded by what the channels and tasks between claim and write can hold.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<OrderId, Lease>>);

impl Held {
    pub(super) fn add(&self, orders: &[ClaimedOrder]) {
        self.lock().extend(orders.iter().map(|order| (order.order_id.clone(), order.lease)));
    }

    pub(super) fn remove<'a>(&self, order_ids: impl Iterator<Item = &'a OrderId>) {
        let mut held = self.lock();
        for order_id in order_ids {
            held.remove(order_id);
        }
    }

    pub(super) fn list(&self) -> Vec<(OrderId, Lease)> {
        self.lock().iter().map(|(order_id, lease)| (order_id.clone(), *lease)).collect()
    }

    pub(super) fn take(&self) -> Vec<(OrderId, Lease)> {
        self.lock().drain().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Lease>> {
        // A map is whole after each of these operations, whatever happened in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
