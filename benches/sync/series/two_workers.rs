//! Two workers on one database, each limited by its requests in flight.

use super::latency::LATENCY_MS;
use super::messages_of;
use crate::arguments::Plan;
use crate::lab::Lab;
use crate::queue;
use crate::sample::Results;
use crate::worker::{self, Done, Setup};

/// The name in the JSON.
pub(crate) const NAME: &str = "two-workers";
pub(crate) const ORDERS: u32 = 6_000;
const IN_FLIGHT: u32 = 32;

pub(crate) async fn measure(lab: &Lab, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let (pool, messages) = (lab.pool(), messages_of(ORDERS));
    lab.server.set_latency(LATENCY_MS).await?;
    for _ in 0..plan.few_repetitions() {
        for (name, workers) in [("one_worker", 1), ("two_workers", 2)] {
            queue::reset(pool).await?;
            queue::enqueue(pool, 0..ORDERS).await?;
            let setup = Setup { workers, ..Setup::one(IN_FLIGHT) };
            let sample = worker::measure(lab, setup, messages, Done::first(ORDERS, messages)).await?;
            results.add(NAME, ORDERS, name, sample);
            queue::expect_stored(pool, ORDERS, messages).await?;
        }
    }
    lab.server.set_latency(0).await
}
