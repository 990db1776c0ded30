//! New orders, the same again, and again after some have changed, at several sizes, each with the machine's limits
//! without a worker. Over TCP, and new orders over a Unix socket as well. Each repetition measures everything once, so
//! that all phases have the same conditions.

use super::messages_of;
use crate::arguments::Plan;
use crate::lab::Lab;
use crate::limits::Limits;
use crate::orders::{Changes, UNREAD_PER_ORDER};
use crate::postgres::Transport;
use crate::queue;
use crate::sample::Results;
use crate::worker::{self, Done, Setup};

/// The name in the JSON.
pub(crate) const NAME: &str = "sizes";

pub(crate) async fn measure(lab: &Lab, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    for &orders in &plan.sizes {
        for round in 0..plan.repetitions_of(orders) {
            repetition(lab, plan, orders, round, results).await?;
        }
    }
    Ok(())
}

async fn repetition(lab: &Lab, plan: &Plan, orders: u32, round: u32, results: &mut Results) -> anyhow::Result<()> {
    let (pool, messages) = (lab.pool(), messages_of(orders));
    let setup = Setup::one(plan.max_in_flight);
    let mut add = |name, sample| results.add(NAME, orders, name, sample);

    add("limit_fetch", worker::measure_fetch(lab, orders, messages, plan.max_in_flight).await?);
    // Alternate which of the two is first.
    let mut ways = [("first", Transport::Tcp), ("first_socket", Transport::Socket)];
    ways.rotate_left(round as usize % 2);
    for (name, transport) in ways {
        queue::reset(pool).await?;
        queue::enqueue(pool, 0..orders).await?;
        let first = worker::measure(lab, Setup { transport, ..setup }, messages, Done::first(orders, messages)).await?;
        add(name, first);
        queue::expect_stored(pool, orders, messages).await?;
    }
    queue::make_due(pool, 0..orders).await?;

    let limits = Limits::prepare(lab, orders, messages).await?;
    add("limit_copy", limits.copy().await?);
    add("limit_upsert", limits.upsert().await?);
    add("limit_upsert_again", limits.upsert().await?);
    add("limit_queue", limits.queue().await?);
    limits.finish().await?;

    add("resync", worker::measure(lab, setup, messages, Done::again(orders)).await?);
    queue::expect_stored(pool, orders, messages).await?;

    let changes = Changes::of(0..orders);
    let changed_messages = messages + u64::from(changes.grown);
    queue::make_due(pool, 0..orders).await?;
    lab.server.set_changed(true).await?;
    let expected = Done::changed(orders, changes, UNREAD_PER_ORDER);
    add("changed", worker::measure(lab, setup, changed_messages, expected).await?);
    lab.server.set_changed(false).await?;
    queue::expect_stored(pool, orders, changed_messages).await
}
