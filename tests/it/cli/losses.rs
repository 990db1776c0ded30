//! Losses are reported everywhere: in the summary, the log, the exit code, `sync.runs` and `chatsync status`.

use std::sync::Arc;

use chatsync::db::runs::Trigger;
use chatsync::sync::{Progress, Request};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::only_json;
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    a_feed_that_comes_two_days_late_says_so_everywhere,
    a_loss_is_counted_only_by_the_run_that_finds_it,
    a_lost_proof_is_counted_separately_and_is_no_failure,
    without_losses_none_are_reported,
    orders_that_the_next_run_reaches_too_late_are_at_risk,
    what_was_read_in_time_is_neither_overdue_nor_at_risk,
    without_a_schedule_the_next_run_is_expected_by_habit,
    status_and_plan_agree_on_what_is_at_risk,
    a_run_that_failed_says_how_most_of_its_orders_did,
);

const LATE: i32 = 60;
const LOST: usize = 25;

async fn a_feed_that_comes_two_days_late_says_so_everywhere(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(forgets_lost_ones).await;
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, completed_at)
         SELECT CASE WHEN n <= $1 THEN 'lost-' ELSE 'there-' END || n, now() - interval '48 hours'
         FROM generate_series(1, $2) AS n",
    )
    .bind(i32::try_from(LOST)?)
    .bind(LATE)
    .execute(&lab.pool)
    .await?;
    let finished = Finished::of(lab.configured(&["sync"], api.url(), &[])).await?.expect_code(3);
    assert!(finished.stdout.contains(" partial in "), "{}", finished.stdout);
    assert!(finished.stdout.contains("\n  lost       25 expired before the first read\n"), "{}", finished.stdout);
    let warnings: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{}", finished.stderr);
    assert!(warnings[0].contains("orders lost") && warnings[0].contains("lost=25"), "{warnings:?}");
    // The others are open, and completed two days ago: they can no longer be proven complete.
    let run =
        "SELECT concat_ws(' ', status, claimed, fetched, failed, lost, unproven, at_risk, overdue) FROM sync.runs";
    assert_eq!(lab.text(run).await?.as_deref(), Some("partial 60 60 0 25 0 0 0"));

    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0).stdout;
    assert!(status.starts_with("! 25 order(s) found lost in 7 days"), "problems first: {status}");
    let words: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.iter().any(|words| words.ends_with(&["expired_unread", "25"])), "{status}");
    assert!(words.iter().any(|words| words.contains(&"partial") && words.ends_with(&["0", "25", "35"])), "{status}");
    let status = only_json(&Finished::of(lab.with_database(&["status", "--json"])).await?.expect_code(0))?;
    assert_eq!(status["coverage"], json!({"captured_open": 35, "expired_unread": 25}));
    assert_eq!((&status["lost_in_7_days"], &status["runs"][0]["lost"]), (&json!(25), &json!(25)));
    assert_eq!((&status["problems"][0]["kind"], &status["problems"][0]["orders"]), (&json!("lost"), &json!(25)));
    Ok(())
}

async fn a_loss_is_counted_only_by_the_run_that_finds_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(forgets_lost_ones).await;
    lab.enqueue(&["lost-1", "lost-2", "there"]).await?;
    let lost = async || -> anyhow::Result<(Value, Value)> {
        let run = only_json(&Finished::of(lab.configured(&["sync", "--json"], api.url(), &[])).await?)?;
        Ok((run["lost"].clone(), run["status"].clone()))
    };
    assert_eq!(lost().await?, (json!(2), json!("partial")));
    let again = ["retry", "--order", "lost-1", "--order", "lost-2"];
    Finished::of(lab.with_database(&again)).await?.expect_code(0);
    assert_eq!(lost().await?, (json!(0), json!("succeeded")), "known to be lost");
    // Deleted from the queue, but not from the tables.
    sqlx::query("DELETE FROM sync.order_queue WHERE order_id = 'lost-1'").execute(&lab.pool).await?;
    lab.enqueue(&["lost-1"]).await?;
    assert_eq!(lost().await?, (json!(0), json!("succeeded")));
    Ok(())
}

async fn a_lost_proof_is_counted_separately_and_is_no_failure(lab: Arc<Lab>) -> anyhow::Result<()> {
    let here = Recorder::start(|_| one_message()).await;
    lab.enqueue(&["read too early"]).await?;
    lab.sync(here.url(), &[]).await?;
    lab.let_time_pass(std::time::Duration::from_hours(30)).await?;
    let api = Recorder::start(|_| expired()).await;
    let finished = Finished::of(lab.configured(&["sync"], api.url(), &[])).await?.expect_code(0);
    assert!(finished.stdout.contains("\n  unproven   1 last read too early"), "{}", finished.stdout);
    assert!(finished.stderr.contains("unproven=1"), "{}", finished.stderr);
    assert_eq!(lab.text("SELECT coverage FROM chat.orders").await?.as_deref(), Some("expired_partial"));
    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0).stdout;
    assert!(status.starts_with("! 1 order(s) found unproven in 7 days"), "{status}");
    Ok(())
}

async fn without_losses_none_are_reported(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| one_message()).await;
    lab.enqueue(&["a", "b"]).await?;
    let finished = Finished::of(lab.configured(&["sync"], api.url(), &[])).await?.expect_code(0);
    assert_eq!(finished.stdout.lines().count(), 5, "{}", finished.stdout);
    assert!(!finished.stderr.contains("WARN"), "{}", finished.stderr);
    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0).stdout;
    assert!(status.starts_with("nothing is wrong\n"), "{status}");
    Ok(())
}

async fn orders_that_the_next_run_reaches_too_late_are_at_risk(lab: Arc<Lab>) -> anyhow::Result<()> {
    // `order_id`, when it is due, its deadline, both in minutes from now. The next tick is in a year, or in a minute.
    queue(&lab, &[("past", 300, -10), ("soon", 300, 100), ("due then", 10, 100), ("far", 300, 600)]).await?;
    for (cron, at_risk) in [("0 * * * * *", 1), (far_tick(), 3)] {
        let run = run(&lab, Trigger::Cron, &[("schedule.cron", cron)]).await?;
        assert_eq!(run, (Some(at_risk), Some(1)), "{cron}");
    }
    let mut command = lab.with_database(&["status"]);
    command.env("CHATSYNC__SCHEDULE__CRON", far_tick());
    let status = Finished::of(command).await?.expect_code(0).stdout;
    assert!(status.starts_with("! 1 order(s) overdue"), "{status}");
    assert!(status.contains("\n! 3 order(s) at risk") && status.contains("1 overdue, 3 at risk"), "{status}");
    Ok(())
}

async fn what_was_read_in_time_is_neither_overdue_nor_at_risk(lab: Arc<Lab>) -> anyhow::Result<()> {
    queue(&lab, &[("read after its end", 300, -10), ("its end is proven", 300, -10), ("not read", 300, -10)]).await?;
    let read = [
        // Completed a day ago, read an hour ago: the next day's expiry proves that nothing is missing.
        "UPDATE sync.order_queue SET state = 'open', last_fetched_at = now() - interval '1 hour',
             completed_at = now() - interval '25 hours' WHERE order_id = 'read after its end'",
        // Retried by hand: what was proven stays proven.
        "UPDATE sync.order_queue SET state = 'open', last_fetched_at = now() - interval '50 hours',
             expired_at = now() - interval '30 hours' WHERE order_id = 'its end is proven'",
    ];
    for statement in read {
        sqlx::query(statement).execute(&lab.pool).await?;
    }
    assert_eq!(run(&lab, Trigger::Cron, &[("schedule.cron", "0 * * * * *")]).await?, (Some(0), Some(1)));
    Ok(())
}

async fn without_a_schedule_the_next_run_is_expected_by_habit(lab: Arc<Lab>) -> anyhow::Result<()> {
    queue(&lab, &[("in an hour", 300, 60), ("in three", 300, 180), ("in nine", 300, 540)]).await?;
    // No run before: if the next run came now, it would be in time for all but the overdue ones.
    assert_eq!(run(&lab, Trigger::Manual, &[]).await?, (Some(2), Some(0)));
    sqlx::query("UPDATE sync.order_queue SET due_at = now() + interval '1 minute'").execute(&lab.pool).await?;
    sqlx::query("DELETE FROM sync.runs").execute(&lab.pool).await?;
    assert_eq!(run(&lab, Trigger::Manual, &[("pace.initial_requests_per_second", "1000")]).await?, (Some(0), Some(0)));
    // Every two hours, with one by hand in between.
    sqlx::query(
        "INSERT INTO sync.runs (run_id, trigger, worker, started_at, finished_at, alive_until, status)
         SELECT gen_random_uuid(), 'manual', 'test', now() - minutes * interval '1 minute',
                now() - minutes * interval '1 minute', now(), 'succeeded'
         FROM unnest(ARRAY[120, 240, 245, 360, 480, 600]) AS minutes",
    )
    .execute(&lab.pool)
    .await?;
    assert_eq!(run(&lab, Trigger::Manual, &[]).await?, (Some(1), Some(0)));
    Ok(())
}

async fn status_and_plan_agree_on_what_is_at_risk(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Each turn takes 1,000 seconds, and three priorities follow one another.
    queue(&lab, &[("a", 0, 10), ("b", 0, 20), ("c", 0, 60), ("d", 0, 62), ("e", 0, 1_000), ("f", 0, -5)]).await?;
    sqlx::query("UPDATE sync.order_queue SET priority = CASE order_id WHEN 'd' THEN 5 WHEN 'e' THEN 9 ELSE 0 END")
        .execute(&lab.pool)
        .await?;
    let slow = ("pace.initial_requests_per_second", "0.001");
    let command = lab.configured(&["sync", "--json", "--limit", "0"], "http://127.0.0.1:9", &[slow]);
    let run = only_json(&Finished::of(command).await?.expect_code(0))?;
    let command = lab.configured(&["plan", "--json"], "http://127.0.0.1:9", &[slow]);
    let plan = only_json(&Finished::of(command).await?.expect_code(0))?;
    let missed = plan["missed"]["orders"].as_i64().zip(plan["missed"]["already_past"].as_i64());
    assert_eq!(run["at_risk"].as_i64().zip(run["overdue"].as_i64()), missed.map(|(all, past)| (all - past, past)));
    assert_eq!((&run["at_risk"], &run["overdue"]), (&json!(3), &json!(1)), "{plan}");
    Ok(())
}

async fn a_run_that_failed_says_how_most_of_its_orders_did(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|asked| Answer::new(if asked.target.contains("odd") { 301 } else { 403 }, "{}")).await;
    lab.enqueue(&["a", "b", "odd", "c"]).await?;
    let command = lab.configured(&["sync", "--json"], api.url(), &[]);
    let run = only_json(&Finished::of(command).await?.expect_code(3))?;
    let error = run["error"].as_str().unwrap_or_default();
    assert!(error.contains("forbidden, 3 order(s), such as "), "{run}");
    assert_eq!(run["status"], "failed");
    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0).stdout;
    assert!(status.starts_with("! the run of 20"), "{status}");
    assert!(status.contains("forbidden, 3 order(s)"), "{status}");
    Ok(())
}

/// Orders named as lost have expired and are empty; the others have a message.
fn forgets_lost_ones(asked: &Asked) -> Answer {
    if asked.target.contains("lost") { expired() } else { one_message() }
}

fn expired() -> Answer {
    Answer::json(200, &json!({"is_expired": true, "chat_messages": [], "metadata": null}))
}

fn one_message() -> Answer {
    let message = json!({
        "id": 1, "order_id": 2, "created_at": "2026-01-05T10:00:00Z", "sender_id": 3, "sender_type": "user",
        "recipient_id": 4, "recipient_type": "driver", "read": false, "body": "hello",
    });
    Answer::json(200, &json!({"is_expired": false, "chat_messages": [message], "metadata": null}))
}

/// Never-read orders: when they are due and their deadline, in minutes from now.
async fn queue(lab: &Lab, orders: &[(&str, i32, i32)]) -> anyhow::Result<()> {
    for (order_id, due, deadline) in orders {
        sqlx::query(
            "INSERT INTO sync.order_queue (order_id, due_at, enqueued_at)
             VALUES ($1, now() + $2 * interval '1 minute', now() - interval '24 hours' + $3 * interval '1 minute')",
        )
        .bind(order_id)
        .bind(due)
        .bind(deadline)
        .execute(&lab.pool)
        .await?;
    }
    Ok(())
}

/// Runs with nothing due. Returns the orders at risk and overdue.
async fn run(lab: &Lab, trigger: Trigger, more: &[(&str, &str)]) -> anyhow::Result<(Option<i64>, Option<i64>)> {
    let worker = lab.worker(&lab.settings("http://127.0.0.1:9", more));
    let request = Request::all(trigger);
    let run = worker.run(&request, &CancellationToken::new(), &Progress::default()).await?.run;
    assert_eq!(run.counters.claimed, 0);
    Ok((run.at_risk, run.overdue))
}

/// Half a year away, whatever the date.
fn far_tick() -> &'static str {
    use chrono::Datelike as _;
    if (3..9).contains(&chrono::Utc::now().month()) { "0 0 0 1 1 *" } else { "0 0 0 1 7 *" }
}
