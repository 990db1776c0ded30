//! The series of measurements, one module each.

pub(crate) mod growth;
pub(crate) mod latency;
pub(crate) mod sizes;
pub(crate) mod two_workers;

use crate::orders::MESSAGES_PER_ORDER;

/// Returns the number of messages of this many orders before the change.
fn messages_of(orders: u32) -> u64 {
    u64::from(orders) * u64::from(MESSAGES_PER_ORDER)
}
