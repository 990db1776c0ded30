//! `chatsync plan`: predictions for hand-made queues, which stay unchanged.
//!
//! Rates are so low, and deadlines so far apart, that the duration of a test does not matter.

use std::sync::Arc;

use chatsync::simulator::{self, Options};
use serde_json::{Value, json};

use super::only_json;
use crate::support::{Finished, Lab, tests};

tests!(
    an_empty_queue_needs_nothing,
    requests_are_counted_as_the_auth_mode_needs_them,
    a_plan_uses_the_pace_that_was_found,
    orders_whose_turn_comes_after_their_deadline_are_counted,
    a_high_priority_spends_the_time_of_the_others,
    orders_that_are_not_due_may_be_missed_too,
    a_limit_leaves_the_rest_to_the_next_tick,
    a_plan_of_a_run_is_what_the_run_does,
    people_read_the_same,
    planning_changes_nothing,
);

/// One request per 1,000 seconds.
const SLOW: (&str, &str) = ("CHATSYNC__PACE__INITIAL_REQUESTS_PER_SECOND", "0.001");
const ONE_TOKEN: (&str, &str) = ("CHATSYNC__AUTH__MODE", "static_token");
/// The only tick is at new year.
const YEARLY: (&str, &str) = ("CHATSYNC__SCHEDULE__CRON", "0 0 0 1 1 *");

async fn an_empty_queue_needs_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plan = plan(&lab, &[], &[]).await?;
    assert_eq!(plan["due"]["orders"], 0);
    assert_eq!(plan["requests"], json!({"total": 0, "messages": 0, "tokens": 0, "probes": 0}));
    assert_eq!((&plan["takes_seconds"], &plan["ends_at"]), (&json!(0.0), &plan["at"]));
    let nothing = json!({"orders": 0, "already_past": 0, "first": []});
    assert_eq!((&plan["missed"], &plan["missed_outside"]), (&nothing, &nothing));
    Ok(())
}

async fn requests_are_counted_as_the_auth_mode_needs_them(lab: Arc<Lab>) -> anyhow::Result<()> {
    insert(
        &lab,
        "('a', 'u1', 'pending', 0, now(), now()), ('b', 'u1', 'open', 0, now(), now()),
         ('c', 'u2', 'pending', 0, now(), now()), ('d', NULL, 'pending', 0, now(), now()),
         ('later', 'u3', 'open', 0, now() + interval '1 hour', now()), ('gone', 'u4', 'closed', 0, now(), now())",
    )
    .await?;
    for (mode, messages, tokens) in [("user_assertion", 3, 2), ("client_credentials", 4, 1), ("static_token", 4, 0)] {
        let plan = plan(&lab, &[], &[("CHATSYNC__AUTH__MODE", mode)]).await?;
        let expected = json!({"total": messages + tokens, "messages": messages, "tokens": tokens, "probes": 0});
        assert_eq!(plan["requests"], expected, "{mode}");
        let due = json!({"orders": 4, "pending": 3, "open": 1, "held": 0, "without_user": 1, "left_by_limit": 0});
        assert_eq!(plan["due"], due, "{mode}");
    }
    Ok(())
}

async fn a_plan_uses_the_pace_that_was_found(lab: Arc<Lab>) -> anyhow::Result<()> {
    insert(&lab, "('a', 'u', 'pending', 0, now(), now()), ('b', 'u', 'pending', 0, now(), now())").await?;
    let guess = plan(&lab, &[], &[ONE_TOKEN]).await?;
    let default = json!({"requests_per_second": 20.0, "is_guess": true, "found_at": null, "is_capped": false});
    assert_eq!((&guess["pace"], &guess["takes_seconds"]), (&default, &json!(0.1)));
    sqlx::query(
        "INSERT INTO sync.pace (api, requests_per_second, found_at)
         VALUES ('http://127.0.0.1:9/', 0.5, date_trunc('second', now())), ('http://127.0.0.1:10/', 3, now())",
    )
    .execute(&lab.pool)
    .await?;
    let found_at =
        lab.text(r#"SELECT to_char(found_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM sync.pace WHERE requests_per_second < 1"#);
    let found_at = found_at.await?;
    let api = ("CHATSYNC__API__BASE_URL", "http://127.0.0.1:9");
    let known = plan(&lab, &[], &[ONE_TOKEN, api]).await?;
    let found = json!({"requests_per_second": 0.5, "is_guess": false, "found_at": found_at, "is_capped": false});
    assert_eq!((&known["pace"], &known["takes_seconds"]), (&found, &json!(4.0)));
    let ceiling = ("CHATSYNC__PACE__MAX_REQUESTS_PER_SECOND", "0.25");
    let capped = plan(&lab, &[], &[ONE_TOKEN, api, ceiling]).await?;
    assert_eq!((&capped["pace"]["is_capped"], &capped["takes_seconds"]), (&json!(true), &json!(8.0)));
    // As a run reads it: halved for each day without confirmation.
    sqlx::query("UPDATE sync.pace SET requests_per_second = 100, found_at = now() - interval '49 hours'")
        .execute(&lab.pool)
        .await?;
    let old = plan(&lab, &[], &[ONE_TOKEN, api]).await?;
    assert_eq!((&old["pace"]["requests_per_second"], &old["takes_seconds"]), (&json!(25.0), &json!(0.08)));
    Ok(())
}

async fn orders_whose_turn_comes_after_their_deadline_are_counted(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Turns come at 1,000, 2,000, … seconds; deadlines are enqueued_at + 24 h.
    insert(
        &lab,
        &format!(
            "('past', 'u', 'pending', 0, now(), {}), ('first in time', 'u', 'pending', 0, now(), {}),
             ('too late', 'u', 'pending', 0, now(), {}), ('in time', 'u', 'pending', 0, now(), {})",
            deadline_in(-5_000),
            deadline_in(2_900),
            deadline_in(2_950),
            deadline_in(4_200),
        ),
    )
    .await?;
    let per_order = plan(&lab, &[], &[ONE_TOKEN, SLOW]).await?;
    assert_eq!(per_order["takes_seconds"], 4_000.0);
    assert_eq!((&per_order["missed"]["orders"], &per_order["missed"]["already_past"]), (&json!(2), &json!(1)));
    assert_eq!(late(&per_order["missed"]), ["past: 6", "too late: 0"]);
    // One more token request: 1,250 seconds per order.
    let with_tokens = plan(&lab, &[], &[SLOW]).await?;
    assert_eq!(with_tokens["takes_seconds"], 5_000.0);
    assert_eq!(with_tokens["missed"]["orders"], 3);
    assert_eq!(
        late(&with_tokens["missed"]),
        ["past: 6", "too late: 1", "in time: 1"],
        "the second still comes in time"
    );
    Ok(())
}

async fn a_high_priority_spends_the_time_of_the_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    insert(&lab, &format!("('urgent by time', 'u', 'pending', 0, now(), {})", deadline_in(1_500))).await?;
    assert_eq!(plan(&lab, &[], &[ONE_TOKEN, SLOW]).await?["missed"]["orders"], 0);
    insert(&lab, &format!("('urgent by wish', 'u', 'pending', 9, now(), {})", deadline_in(80_000))).await?;
    let plan = plan(&lab, &[], &[ONE_TOKEN, SLOW]).await?;
    assert_eq!(plan["missed"]["first"][0]["order_id"], "urgent by time");
    assert_eq!((&plan["missed"]["orders"], &plan["missed"]["already_past"]), (&json!(1), &json!(0)));
    Ok(())
}

async fn orders_that_are_not_due_may_be_missed_too(lab: Arc<Lab>) -> anyhow::Result<()> {
    insert(
        &lab,
        &format!(
            "('due in time', 'u', 'open', 0, now() + interval '1 hour', {}),
             ('due too late', 'u', 'open', 0, now() + interval '9 hours', {}),
             ('past', 'u', 'pending', 0, now() + interval '9 hours', {})",
            deadline_in(80_000),
            deadline_in(8 * 3_600),
            deadline_in(-3_600),
        ),
    )
    .await?;
    let every_minute = ("CHATSYNC__SCHEDULE__CRON", "0 * * * * *");
    let often = plan(&lab, &[], &[every_minute]).await?;
    assert_eq!((&often["due"]["orders"], &often["missed"]["orders"]), (&json!(0), &json!(0)));
    let outside = &often["missed_outside"];
    assert_eq!((&outside["orders"], &outside["already_past"]), (&json!(2), &json!(1)));
    assert_eq!(late(outside), ["past: 36", "due too late: 4"]);
    // With the next tick months away every order is late. (Not on the last day of a year.)
    sqlx::query("DELETE FROM sync.order_queue WHERE order_id <> 'due in time'").execute(&lab.pool).await?;
    let tick: chrono::DateTime<chrono::Utc> = text(&plan(&lab, &[], &[YEARLY]).await?["next_tick"]).parse()?;
    let is_far = tick - chrono::Utc::now() > chrono::TimeDelta::days(1);
    let seldom = plan(&lab, &[], &[YEARLY]).await?;
    assert_eq!(seldom["missed_outside"]["orders"], i64::from(is_far));
    Ok(())
}

async fn a_limit_leaves_the_rest_to_the_next_tick(lab: Arc<Lab>) -> anyhow::Result<()> {
    insert(
        &lab,
        &format!(
            "('1', 'u1', 'pending', 9, now(), now()), ('2', 'u2', 'pending', 0, now(), {}),
             ('3', 'u3', 'open', 0, now(), {}), ('4', 'u4', 'open', 0, now(), now())",
            deadline_in(60),
            deadline_in(-60),
        ),
    )
    .await?;
    let plan_of = async |limit: &str| plan(&lab, &["--limit", limit], &[]).await;
    let two = plan_of("2").await?;
    assert_eq!((&two["due"]["pending"], &two["due"]["open"]), (&json!(1), &json!(1)), "1 by priority, 3 by deadline");
    assert_eq!((&two["due"]["left_by_limit"], &two["requests"]["tokens"]), (&json!(2), &json!(2)));
    assert_eq!((&two["missed"]["orders"], &two["missed"]["already_past"]), (&json!(1), &json!(1)));
    let one = plan(&lab, &["--limit", "1"], &[YEARLY]).await?;
    assert_eq!((&one["due"]["orders"], &one["missed"]["orders"]), (&json!(1), &json!(0)));
    assert_eq!(one["missed_outside"]["already_past"], 1, "the order that the limit left");
    let all = plan_of("9").await?;
    assert_eq!((&all["due"]["orders"], &all["due"]["left_by_limit"]), (&json!(4), &json!(0)));
    Finished::of(lab.with_database(&["plan", "--limit", "0"])).await?.expect_code(2);
    Ok(())
}

async fn a_plan_of_a_run_is_what_the_run_does(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = Options { orders: 60, expired_share: 0.0, ..Options::default() };
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options.clone()).await?;
    let orders = simulator::orders(&options).map(|order| format!("{},{}", order.order_id, order.connect_user_id));
    let feed: Vec<String> = std::iter::once("order_id,connect_user_id".to_owned()).chain(orders).collect();
    let enqueue = lab.with_database(&["enqueue"]);
    Finished::of_input(enqueue, feed.join("\n").as_bytes()).await?.expect_code(0);
    let plan = plan(&lab, &[], &[]).await?;
    let keys = [
        ("auth.mode", "user_assertion"),
        ("auth.client_id", simulator::CLIENT_ID),
        ("auth.client_secret", simulator::CLIENT_SECRET),
    ];
    let run =
        only_json(&Finished::of(lab.configured(&["sync", "--json"], &api.base_url(), &keys)).await?.expect_code(0))?;
    assert_eq!((&plan["due"]["orders"], &plan["requests"]["total"]), (&run["claimed"], &run["requests"]));
    api.stop().await;
    Ok(())
}

async fn people_read_the_same(lab: Arc<Lab>) -> anyhow::Result<()> {
    insert(
        &lab,
        &format!(
            "('a', 'u', 'pending', 0, now(), {}), ('b', NULL, 'open', 0, now(), now()),
             ('c', 'u', 'open', 0, now() + interval '3 days', now())",
            deadline_in(-7_000)
        ),
    )
    .await?;
    let mut command = lab.with_database(&["plan"]);
    command.env(SLOW.0, SLOW.1);
    let finished = Finished::of(command).await?.expect_code(0);
    assert_eq!(finished.stderr, "");
    for line in [
        "due now      2 (1 pending, 1 open), 0 held by a worker\n",
        "             1 name no connect_user_id: they would be given up\n",
        "requests     2 (1 for messages, 1 for tokens)\n",
        "requests/s, a guess (pace.initial_requests_per_second): none was found yet\n",
        "takes        33m 20s, until 20",
        "the run: 1 deadline(s) would be missed, 1 of them past already; the first:\n",
        "2h 13m",
        "orders outside the run: 1 deadline(s) would be missed, 0 of them past already; the first:\n",
    ] {
        assert!(finished.stdout.contains(line), "{line:?} in\n{}", finished.stdout);
    }
    Ok(())
}

async fn planning_changes_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = Options { orders: 40, ..Options::default() };
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options.clone()).await?;
    let ids: Vec<String> = simulator::orders(&options).map(|order| order.order_id).collect();
    lab.enqueue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    lab.sync(&api.base_url(), &[]).await?;
    lab.make_all_due().await?;
    api.stop().await;
    let before = (lab.dump("sync").await?, lab.dump("chat").await?);
    Finished::of(lab.with_database(&["plan"])).await?.expect_code(0);
    plan(&lab, &["--limit", "7"], &[SLOW]).await?;
    assert_eq!((lab.dump("sync").await?, lab.dump("chat").await?), before);
    Ok(())
}

/// `chatsync plan --json` with nothing configured but the database and `more` variables.
async fn plan(lab: &Lab, arguments: &[&str], more: &[(&str, &str)]) -> anyhow::Result<Value> {
    let arguments: Vec<&str> = ["plan", "--json"].iter().chain(arguments).copied().collect();
    let mut command = lab.with_database(&arguments);
    command.envs(more.iter().copied());
    let finished = Finished::of(command).await?.expect_code(0);
    assert_eq!(finished.stderr, "");
    only_json(&finished)
}

/// Adds rows: `order_id`, `connect_user_id`, `state`, `priority`, `due_at`, `enqueued_at`.
async fn insert(lab: &Lab, rows: &str) -> anyhow::Result<()> {
    let insert = format!(
        "INSERT INTO sync.order_queue (order_id, connect_user_id, state, priority, due_at, enqueued_at) VALUES {rows}"
    );
    sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&lab.pool).await?;
    Ok(())
}

/// When an order with a deadline in that many seconds was enqueued.
fn deadline_in(seconds: i64) -> String {
    format!("now() - interval '24 hours' + interval '{seconds} seconds'")
}

/// The listed orders, each with its delay in units of 1,000 seconds.
fn late(missed: &Value) -> Vec<String> {
    let listed = missed["first"].as_array().expect("a list").iter();
    listed
        .map(|missed| {
            let seconds = missed["late_by_seconds"].as_f64().expect("seconds");
            format!("{}: {:.0}", text(&missed["order_id"]), seconds / 1_000.0)
        })
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
