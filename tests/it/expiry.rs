//! The promise: every conversation is read before the API deletes it, and the reported coverage is true.
//!
//! A simulated retailer's orders are placed, discussed, completed and deleted. Time passes on both sides together: the
//! simulator's clock moves forward, the database's times move back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chatsync::db::queue::{self, Feeding};
use chatsync::domain::{NewOrder, OrderId};
use chatsync::simulator::{self, Life, Lifecycle, ListedOrder, Options, Running};
use chatsync::sync::Worker;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::support::{Lab, tests};

tests!(
    hourly_runs_lose_nothing_in_a_week_with_an_outage_of_ten_hours,
    nightly_runs_report_for_each_order_exactly_what_they_can_prove,
);

const HOUR: Duration = Duration::from_hours(1);
const READABLE: TimeDelta = TimeDelta::hours(24);

async fn hourly_runs_lose_nothing_in_a_week_with_an_outage_of_ten_hours(lab: Arc<Lab>) -> anyhow::Result<()> {
    let week = Duration::from_hours(7 * 24);
    let mut shop = Shop::open(lab, 3 * 7 * 24, week).await?;
    // The last order is completed at most five hours after the week, and readable for one more day; the rest is the
    // time until its next fetch.
    for hour in 0..7 * 24 + 5 + 24 + 8 {
        match hour {
            60 => shop.api.set_faults(["status:503".parse()?]),
            // A gateway's page instead of the server's errors: nothing that is retried immediately.
            61 => shop.api.set_faults(["page-not-found".parse()?]),
            70 => shop.api.set_faults([]),
            _ => {}
        }
        shop.wait(HOUR).await?;
        shop.feed().await?;
        shop.run().await?;
    }
    let failed = shop.lab.count("SELECT count(*) FROM sync.runs WHERE status = 'failed'").await?;
    assert_eq!(failed, 10, "each run of the outage met it, and no other");
    let coverage = shop.coverage().await?;
    let kinds: BTreeSet<&str> = coverage.values().map(String::as_str).collect();
    assert_eq!(kinds, BTreeSet::from(["captured", "no_chat", "not_found"]));
    assert_eq!(coverage.len(), 3 * 7 * 24);

    // And the coverage is true: as many messages are stored as were ever written.
    let stored: Vec<(String, i32)> =
        sqlx::query_as("SELECT order_id, message_count FROM chat.orders").fetch_all(&shop.lab.pool).await?;
    let stored: BTreeMap<String, i32> = stored.into_iter().collect();
    for order in shop.orders() {
        let written = shop.messages_at(&order, life(&order).completed_at).map_or(0, |messages| messages.len());
        assert_eq!(usize::try_from(stored[&order.order_id])?, written, "{}", order.order_id);
    }
    shop.close().await
}

async fn nightly_runs_report_for_each_order_exactly_what_they_can_prove(lab: Arc<Lab>) -> anyhow::Result<()> {
    let minutes = |more: i64| TimeDelta::minutes(24 * 60 + more);
    // One run per night. The fourth is missed; a run exactly a day after another comes a moment too late.
    let nights = [0, -20, 15, 0, -10, 0, -5, 10, -15].map(minutes);
    let missed = 3;
    let mut shop = Shop::open(lab, 200, Duration::from_hours(6 * 24)).await?;
    let mut at = shop.lifecycle.epoch;
    let times = nights.map(|night| {
        at += night;
        at
    });
    // Leave out orders with an event during a run: their result is undefined.
    let is_clear = |moment: DateTime<Utc>| times.iter().all(|time| !(0..300).contains(&(moment - time).num_seconds()));
    shop.leave_out(|life| !is_clear(life.placed_at) || !is_clear(life.completed_at + READABLE));
    for (number, night) in nights.iter().enumerate() {
        shop.wait(night.to_std()?).await?;
        shop.feed().await?;
        if number != missed {
            shop.run().await?;
        }
    }

    let runs: Vec<DateTime<Utc>> =
        times.into_iter().enumerate().filter(|(number, _)| *number != missed).map(|(_, time)| time).collect();
    let expected: BTreeMap<String, String> =
        shop.orders().map(|order| (order.order_id.clone(), shop.provable(&order, &runs).to_owned())).collect();
    let said = shop.coverage().await?;
    let wrong: Vec<_> = expected.iter().filter(|(order, coverage)| said.get(*order) != Some(*coverage)).collect();
    assert!(wrong.is_empty() && said.len() == expected.len(), "to be expected was {wrong:?}, but it says {said:?}");
    let kinds: BTreeSet<&str> = expected.values().map(String::as_str).collect();
    assert_eq!(
        kinds,
        BTreeSet::from(["captured", "expired_partial", "expired_unread", "no_chat", "not_found"]),
        "all cases come up"
    );
    shop.close().await
}

/// A retailer, the API with its orders, and the worker that reads them.
struct Shop {
    lab: Arc<Lab>,
    api: Running,
    worker: Worker,
    options: Options,
    lifecycle: Lifecycle,
    /// How far simulated time is ahead of real time.
    passed: Duration,
    left_out: BTreeSet<String>,
    /// Orders that were fed, and whether with their completion.
    fed: BTreeMap<String, bool>,
}

impl Shop {
    async fn open(lab: Arc<Lab>, orders: u64, span: Duration) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle { epoch: Utc::now(), span };
        let options = Options { orders, users: 7, lifecycle: Some(lifecycle), ..Options::default() };
        let api = simulator::start(([127, 0, 0, 1], 0).into(), options.clone()).await?;
        let settings = [
            ("auth.mode", "user_assertion"),
            ("auth.client_id", simulator::CLIENT_ID),
            ("auth.client_secret", simulator::CLIENT_SECRET),
            // Do not wait out an outage: the next run is an hour away, and that hour passes immediately.
            ("breaker.give_up_after", "100ms"),
        ];
        let worker = lab.worker(&lab.settings(&api.base_url(), &settings));
        let (left_out, fed) = <_>::default();
        Ok(Self { lab, api, worker, options, lifecycle, passed: Duration::ZERO, left_out, fed })
    }

    async fn close(self) -> anyhow::Result<()> {
        self.api.stop().await;
        Ok(())
    }

    fn orders(&self) -> impl Iterator<Item = ListedOrder> {
        simulator::orders(&self.options).filter(|order| !self.left_out.contains(&order.order_id))
    }

    /// Leaves out the orders with such a life.
    fn leave_out(&mut self, is_left_out: impl Fn(Life) -> bool) {
        self.left_out = self.orders().filter(|order| is_left_out(life(order))).map(|order| order.order_id).collect();
    }

    /// Lets time pass on both sides.
    async fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        self.passed += time;
        self.api.advance(time);
        self.lab.let_time_pass(time).await
    }

    /// Feeds orders that were placed, and later their completion, as an upstream job does.
    async fn feed(&mut self) -> anyhow::Result<()> {
        let now = self.api.now();
        let mut changed = Vec::new();
        for order in self.orders().filter(|order| order.is_placed(now)) {
            let completed_at = order.completed_by(now);
            if self.fed.get(&order.order_id) != Some(&completed_at.is_some()) {
                changed.push((order, completed_at));
            }
        }
        let mut incoming = Vec::new();
        for (order, completed_at) in changed {
            self.fed.insert(order.order_id.clone(), completed_at.is_some());
            incoming.push(NewOrder {
                connect_user_id: Some(order.connect_user_id),
                // The database still uses real time.
                completed_at: completed_at.map(|time| time - self.passed),
                ..NewOrder::new(OrderId::new(order.order_id)?)
            });
        }
        queue::enqueue(&self.lab.store, &incoming, &Feeding::of("test")).await?;
        Ok(())
    }

    async fn run(&self) -> anyhow::Result<()> {
        match self.lab.run(&self.worker).await?.failure {
            None | Some(chatsync::sync::Error::Api(_)) => Ok(()),
            Some(error) => Err(error).context("the run could not proceed"),
        }
    }

    /// Returns the coverage of each order.
    async fn coverage(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let unsettled = "SELECT count(*) FROM sync.order_queue WHERE state NOT IN ('expired', 'closed')";
        ensure!(self.lab.count(unsettled).await? == 0, "some orders are not at their end");
        let coverage: Vec<(String, String)> =
            sqlx::query_as("SELECT order_id, coverage FROM chat.orders").fetch_all(&self.lab.pool).await?;
        Ok(coverage.into_iter().collect())
    }

    /// Returns the messages that the API returns at a time; `None` if it does not know the order.
    fn messages_at(&self, order: &ListedOrder, time: DateTime<Utc>) -> Option<Vec<Value>> {
        let reply = simulator::reply_at(&self.options, self.lifecycle, &order.order_id, time)?;
        let mut reply: Value = serde_json::from_slice(&reply).expect("a reply is JSON");
        serde_json::from_value(reply["chat_messages"].take()).ok()
    }

    /// Returns what runs at these times prove about an order, from first principles. An order is readable until a day
    /// after its completion. So a read, and an expiry first seen less than a day later, have the completion before
    /// them.
    fn provable(&self, order: &ListedOrder, runs: &[DateTime<Utc>]) -> &'static str {
        let life = life(order);
        let is_readable = |time: &&DateTime<Utc>| (life.placed_at..life.completed_at + READABLE).contains(*time);
        if self.messages_at(order, life.placed_at).is_none() {
            return "not_found";
        }
        let Some(read) = runs.iter().rfind(is_readable) else { return "expired_unread" };
        let has_messages = self.messages_at(order, *read).is_some_and(|messages| !messages.is_empty());
        let seen_expired = runs.iter().find(|time| **time > *read).expect("the last night comes after all orders");
        match (*seen_expired - *read < READABLE, has_messages) {
            (false, _) => "expired_partial",
            (true, true) => "captured",
            (true, false) => "no_chat",
        }
    }
}

fn life(order: &ListedOrder) -> Life {
    order.life.expect("the orders have a lifecycle")
}
