//! Refused orders: a few stop nothing, all of them stop the run.

use std::sync::Arc;

use serde_json::json;

use super::{number, one_by_one, one_run, read, small_run};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};
use crate::sync::{execute, feed};

tests!(
    any_number_of_malformed_orders_at_the_head_stops_nothing,
    if_all_orders_are_refused_the_run_stops_and_counts_no_failure,
    ten_malformed_orders_at_the_head_stop_nothing,
    a_few_refused_orders_a_day_are_given_up_and_a_flood_is_held,
);

async fn any_number_of_malformed_orders_at_the_head_stops_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 620).await?;
    execute(&lab, "UPDATE sync.order_queue SET priority = 1 WHERE substr(order_id, 7)::int <= 120").await?;
    let api = Recorder::start(|asked| {
        if number(asked) <= 120 {
            Answer::json(400, &json!({"error": {"message": "no", "code": 1001}}))
        } else {
            read(asked)
        }
    })
    .await;
    let run = one_run(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.dead + run.counters.held),
        ("partial", 500, 120)
    );
    Ok(())
}

async fn if_all_orders_are_refused_the_run_stops_and_counts_no_failure(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 300).await?;
    for (refusal, hint) in [
        (
            Answer::json(400, &json!({"error": {"message": "X-Retailer-Id is required", "code": 1001}})),
            "(400, code 1001)",
        ),
        (Answer::new(403, ""), "shopper information removal"),
    ] {
        let api = Recorder::start(move |_| refusal.clone()).await;
        let report = lab.sync(api.url(), &[("pace.max_in_flight", "8")]).await?;
        let failure = report.failure.map(|failure| failure.to_string()).unwrap_or_default();
        assert!(failure.contains("were refused alike") && failure.contains(hint), "{failure}");
        assert_eq!(report.run.status.as_str(), "failed");
        // As in `connect::outage`: the limit holds on a slow machine too.
        assert!(api.asked().len() <= 10 + 10 + 1 + 3 * 8, "{} requests", api.asked().len());
        let touched =
            "SELECT count(*) FROM sync.order_queue WHERE state <> 'pending' OR failures > 0 OR held_kind IS NOT NULL";
        assert_eq!(lab.count(touched).await?, 0);
    }
    Ok(())
}

async fn ten_malformed_orders_at_the_head_stop_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    for status in [400, 403] {
        execute_any(&lab, "TRUNCATE sync.order_queue, chat.orders, chat.messages").await?;
        feed(&lab, 1_010).await?;
        execute(&lab, "UPDATE sync.order_queue SET priority = 1 WHERE substr(order_id, 7)::int <= 10").await?;
        let api = Recorder::start(move |asked| {
            if number(asked) <= 10 {
                Answer::json(status, &json!({"error": {"message": "no", "code": 1001}}))
            } else {
                read(asked)
            }
        })
        .await;
        let run = one_by_one(&lab, &api).await?;
        assert_eq!((run.status.as_str(), run.counters.fetched, run.counters.held), ("partial", 1_000, 0), "{status}");
        assert_eq!(run.counters.failed + run.counters.dead, 10);
    }
    Ok(())
}

async fn a_few_refused_orders_a_day_are_given_up_and_a_flood_is_held(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 150).await?;
    let api = Recorder::start(|_| Answer::json(422, &json!({"error": {"message": "no", "code": 1001}}))).await;
    for _ in 0..30 {
        small_run(&lab, &api, 5).await?;
    }
    let dead = lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'dead'").await?;
    assert!((1..100).contains(&dead), "{dead}");
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE held_kind = 'refused'").await?, 150 - dead);
    Ok(())
}

async fn execute_any(lab: &Lab, statement: &'static str) -> anyhow::Result<()> {
    sqlx::query(statement).execute(&lab.pool).await?;
    Ok(())
}
