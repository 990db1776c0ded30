//! The series of measurements, a module each.

pub(crate) mod growth;
pub(crate) mod latency;
pub(crate) mod sizes;
pub(crate) mod two_workers;

use crate::orders::MESSAGES_PER_ORDER;

/// Messages of so many orders as long as nothing has changed.
fn messages_of(orders: u32) -> u64 {
    u64::from(orders) * u64::from(MESSAGES_PER_ORDER)
}
