//! New orders on top of more and more orders in the tables. The earlier orders have random-looking ids; the new ones
//! have similar ids, or rising ones. chatsync itself reads the earlier orders, which shows how much memory a worker
//! needs for a queue of that length.
//!
//! The sizes are measured in turn, because a shared machine changes within ten minutes. Large tables are built once
//! and renamed while others are measured.

use std::ops::Range;

use chatsync::db;

use super::messages_of;
use crate::arguments::Plan;
use crate::lab::Lab;
use crate::limits;
use crate::orders;
use crate::queue;
use crate::sample::{Results, Sample};
use crate::worker::{self, Done, Setup};

/// The name in the JSON.
pub(crate) const NAME: &str = "growth";
/// Number of measured orders.
const FRESH: u32 = 20_000;
/// Up to this size the tables are rebuilt for each round; in larger ones the rows of a round matter little.
const BUILT_ANEW: u32 = 100_000;

pub(crate) async fn measure(lab: &Lab, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let (large, small): (Vec<u32>, Vec<u32>) = plan.before.iter().partition(|&&before| before > BUILT_ANEW);
    for &before in &large {
        load(lab, plan, before, results).await?;
        queue::put_aside(lab.pool(), before).await?;
        db::migrate(&mut *lab.pool().acquire().await?).await?;
    }
    for round in 0..plan.repetitions_of(FRESH) {
        for &before in &small {
            let loaded = Tables { lab, plan, before, random: before, rising: 0 };
            load(lab, plan, before, results).await?;
            loaded.random(results).await?;
            load(lab, plan, before, results).await?;
            loaded.rising(results).await?;
        }
        for &before in &large {
            let added = round * FRESH;
            let grown = Tables { lab, plan, before, random: before + added, rising: added };
            queue::reset(lab.pool()).await?;
            queue::swap(lab.pool(), before).await?;
            grown.random(results).await?;
            Tables { random: grown.random + FRESH, ..grown }.rising(results).await?;
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

#[derive(Clone, Copy)]
struct Tables<'a> {
    lab: &'a Lab,
    plan: &'a Plan,
    /// Number of orders before the first round.
    before: u32,
    /// Number of orders with random-looking ids, including those before.
    random: u32,
    /// Number of orders with rising ids.
    rising: u32,
}

impl Tables<'_> {
    /// Measures new orders with random-looking ids, the same again, and `COPY` of such rows.
    async fn random(self, results: &mut Results) -> anyhow::Result<()> {
        let (lab, messages) = (self.lab, messages_of(FRESH));
        let fresh = self.random..self.random + FRESH;
        results.add(NAME, self.before, "first", self.first(fresh.clone()).await?);
        queue::make_due(lab.pool(), fresh.clone()).await?;
        queue::expect_due(lab.pool(), FRESH).await?;
        let sample = worker::measure(lab, setup(self.plan), messages, Done::again(FRESH)).await?;
        results.add(NAME, self.before, "resync", sample);
        let fresh = fresh.map(orders::order_id).collect();
        results.add(NAME, self.before, "limit_copy", limits::copy_on_top(lab, fresh, messages).await?);
        self.expect_more().await
    }

    /// Measures new orders with rising ids.
    async fn rising(self, results: &mut Results) -> anyhow::Result<()> {
        let start = orders::RISING + self.rising;
        results.add(NAME, self.before, "first_rising", self.first(start..start + FRESH).await?);
        self.expect_more().await
    }

    async fn first(self, fresh: Range<u32>) -> anyhow::Result<Sample> {
        queue::enqueue(self.lab.pool(), fresh).await?;
        // The others were just read and are not due for hours.
        queue::expect_due(self.lab.pool(), FRESH).await?;
        let messages = messages_of(FRESH);
        worker::measure(self.lab, setup(self.plan), messages, Done::first(FRESH, messages)).await
    }

    /// Asserts that the new orders are stored, and nothing else was added.
    async fn expect_more(self) -> anyhow::Result<()> {
        let orders = self.random + self.rising + FRESH;
        queue::expect_stored(self.lab.pool(), orders, messages_of(orders)).await
    }
}

fn setup(plan: &Plan) -> Setup {
    Setup::one(plan.max_in_flight)
}
