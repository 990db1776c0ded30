//! Fresh orders on top of more and more that are in the tables already. The load before is chatsync's own, and tells
//! how much memory a worker needs for a queue of that length.
//!
//! All sizes take turns, because a machine that others use is not the same ten minutes later. Large tables are built
//! once and stand aside, as schemas of other names, while others are measured.

use chatsync::db;

use super::messages_of;
use crate::arguments::Plan;
use crate::lab::Lab;
use crate::limits;
use crate::orders;
use crate::queue;
use crate::sample::Results;
use crate::worker::{self, Done, Setup};

/// As in the JSON.
pub(crate) const NAME: &str = "growth";
/// Orders measured.
const FRESH: u32 = 20_000;
/// Up to here the tables are built anew for each round; what a round adds to larger ones matters little.
const BUILT_ANEW: u32 = 100_000;

pub(crate) async fn measure(lab: &Lab, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let (large, small): (Vec<u32>, Vec<u32>) = plan.before.iter().partition(|&&before| before > BUILT_ANEW);
    for &before in &large {
        load(lab, plan, before, results).await?;
        queue::put_aside(lab.pool(), before).await?;
        db::migrate(lab.pool()).await?;
    }
    for round in 0..plan.repetitions_of(FRESH) {
        for &before in &small {
            load(lab, plan, before, results).await?;
            repetition(lab, plan, before, before, results).await?;
        }
        for &before in &large {
            queue::reset(lab.pool()).await?;
            queue::swap(lab.pool(), before).await?;
            repetition(lab, plan, before, before + round * FRESH, results).await?;
            queue::swap(lab.pool(), before).await?;
        }
    }
    for &before in &large {
        queue::drop_aside(lab.pool(), before).await?;
    }
    queue::reset(lab.pool()).await
}

async fn load(lab: &Lab, plan: &Plan, orders: u32, results: &mut Results) -> anyhow::Result<()> {
    let messages = messages_of(orders);
    queue::reset(lab.pool()).await?;
    queue::enqueue(lab.pool(), 0..orders).await?;
    let sample = worker::measure(lab, setup(plan), messages, Done::first(orders, messages)).await?;
    results.add(NAME, orders, "load", sample);
    queue::expect_stored(lab.pool(), orders, messages).await
}

async fn repetition(lab: &Lab, plan: &Plan, before: u32, stored: u32, results: &mut Results) -> anyhow::Result<()> {
    let (pool, messages) = (lab.pool(), messages_of(FRESH));
    let fresh = stored..stored + FRESH;
    queue::enqueue(pool, fresh.clone()).await?;
    // The others were read a moment ago and wait for hours.
    queue::expect_due(pool, FRESH).await?;
    let sample = worker::measure(lab, setup(plan), messages, Done::first(FRESH, messages)).await?;
    results.add(NAME, before, "first", sample);
    queue::make_due(pool, fresh).await?;
    queue::expect_due(pool, FRESH).await?;
    let sample = worker::measure(lab, setup(plan), messages, Done::again(FRESH)).await?;
    results.add(NAME, before, "resync", sample);
    let fresh = (stored..stored + FRESH).map(orders::order_id).collect();
    results.add(NAME, before, "limit_copy", limits::copy_on_top(lab, fresh, messages).await?);
    queue::expect_stored(pool, stored + FRESH, messages_of(stored + FRESH)).await
}

fn setup(plan: &Plan) -> Setup {
    Setup { in_flight: plan.max_in_flight, workers: 1 }
}
