//! The leases of orders between claim and write.

use std::collections::HashMap;

use crate::domain::{ClaimedOrder, Lease, OrderId};
use parking_lot::Mutex;

/// The leases that this run holds. Bounded by the capacity of the channels and tasks between claim and write.
#[derive(Debug, Default)]
pub(super) struct HeldLeases(Mutex<HashMap<OrderId, Lease>>);

impl HeldLeases {
    pub(super) fn add(&self, orders: &[ClaimedOrder]) {
        self.0.lock().extend(orders.iter().map(|order| (order.order_id.clone(), order.lease)));
    }

    pub(super) fn remove<'a>(&self, order_ids: impl Iterator<Item = &'a OrderId>) {
        let mut held = self.0.lock();
        for order_id in order_ids {
            held.remove(order_id);
        }
    }

    pub(super) fn list(&self) -> Vec<(OrderId, Lease)> {
        self.0.lock().iter().map(|(order_id, lease)| (order_id.clone(), *lease)).collect()
    }

    pub(super) fn take(&self) -> Vec<(OrderId, Lease)> {
        self.0.lock().drain().collect()
    }
}
