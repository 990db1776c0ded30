//! A slow API: the limit is the number of requests in flight divided by the latency.

use super::messages_of;
use crate::arguments::Plan;
use crate::lab::Lab;
use crate::queue;
use crate::sample::Results;
use crate::worker::{self, Done, Setup};

/// The name in the JSON.
pub(crate) const NAME: &str = "latency";
/// Enough for a quarter of a minute, so that starting and ending do not matter.
pub(crate) const ORDERS: u32 = 60_000;
pub(crate) const LATENCY_MS: u32 = 50;
pub(crate) const IN_FLIGHT: u32 = 200;

pub(crate) async fn measure(lab: &Lab, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let (pool, messages) = (lab.pool(), messages_of(ORDERS));
    lab.server.set_latency(LATENCY_MS).await?;
    for _ in 0..plan.few_repetitions() {
        queue::reset(pool).await?;
        queue::enqueue(pool, 0..ORDERS).await?;
        results.add(NAME, ORDERS, "limit_fetch", worker::measure_fetch(lab, ORDERS, messages, IN_FLIGHT).await?);
        let setup = Setup::one(IN_FLIGHT);
        let first = worker::measure(lab, setup, messages, Done::first(ORDERS, messages)).await?;
        results.add(NAME, ORDERS, "first", first);
        queue::expect_stored(pool, ORDERS, messages).await?;
    }
    lab.server.set_latency(0).await
}
