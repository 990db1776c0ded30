//! The storm guard: what an API says of every order is not believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chatsync::db::runs::Trigger;
use chatsync::sync::{Progress, Request};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{execute, feed};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    a_server_that_knows_no_order_closes_none,
    a_storm_in_the_middle_of_a_run_takes_nothing_along,
    a_storm_in_the_last_orders_of_a_run_takes_nothing_along,
    good_answers_before_a_storm_are_kept,
    storms_over_many_small_runs_add_up,
    refusals_over_many_small_runs_add_up,
    a_usual_share_of_closed_orders_is_no_storm,
    the_share_that_the_past_explains_is_allowed_for,
    a_first_small_run_is_believed,
    orders_that_expire_all_at_once_and_too_early_are_not_believed,
    old_orders_fed_late_may_all_be_expired,
    orders_refused_one_and_all_are_not_buried,
    closures_are_undone_by_retry,
);

async fn a_server_that_knows_no_order_closes_none(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 2_000).await?;
    let before = lab.dump("chat").await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let run = Finished::of(lab.configured(&["sync"], api.url(), &[])).await?.expect_code(1);
    for help in ["404, code 4000", "api.base_url", "api.retailer_id", "api.treat_ids_as_internal", "stay as they were"]
    {
        assert!(run.stderr.contains(help), "{help}: {}", run.stderr);
    }
    assert_eq!(lab.dump("chat").await?, before);
    let untouched = "SELECT count(*) FROM sync.order_queue
                     WHERE state = 'open' AND attempts = 0 AND closed_at IS NULL AND lease_id IS NULL AND due_at <= now()";
    assert_eq!(lab.count(untouched).await?, 2_000);
    let row = "SELECT concat_ws(' ', status, claimed, closed, left(error, 29)) FROM sync.runs ORDER BY started_at DESC LIMIT 1";
    assert_eq!(lab.text(row).await?.as_deref(), Some("failed 0 0 the API says of 100 of 100 or"));
    assert!(api.asked().len() < 1_000, "it stops soon: {} requests", api.asked().len());
    Ok(())
}

async fn a_storm_in_the_middle_of_a_run_takes_nothing_along(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 1_000).await?;
    let seen = AtomicUsize::new(0);
    // Somebody switches the server in the middle of a block.
    let api = Recorder::start(move |asked| {
        if seen.fetch_add(1, Ordering::Relaxed) < 350 { simulated_read(asked) } else { Answer::not_found() }
    })
    .await;
    let report = lab.sync(api.url(), &[("pace.max_in_flight", "1")]).await?;
    assert!(report.failure.is_some());
    assert_eq!((report.run.status.as_str(), report.run.closed), ("failed", 0));
    assert!((300..=350).contains(&report.run.fetched), "{}", report.run.fetched);
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'closed'").await?, 0);
    Ok(())
}

async fn a_storm_in_the_last_orders_of_a_run_takes_nothing_along(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 190).await?;
    let seen = AtomicUsize::new(0);
    let api = Recorder::start(move |asked| {
        if seen.fetch_add(1, Ordering::Relaxed) < 100 { simulated_read(asked) } else { Answer::not_found() }
    })
    .await;
    let report = lab.sync(api.url(), &[("pace.max_in_flight", "1")]).await?;
    assert!(report.failure.is_some());
    assert_eq!((report.run.fetched, report.run.closed), (100, 0));
    Ok(())
}

async fn good_answers_before_a_storm_are_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    let api = Recorder::start(every(3, simulated_read)).await;
    let report = lab.sync(api.url(), &[("pace.max_in_flight", "1")]).await?;
    assert!(report.failure.is_some());
    assert_eq!((report.run.status.as_str(), report.run.closed), ("failed", 0));
    assert!((34..=67).contains(&report.run.fetched), "{}", report.run.fetched);
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages").await?, report.run.fetched);
    Ok(())
}

async fn storms_over_many_small_runs_add_up(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 500).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    small_runs(&lab, &api).await?;
    let closed = lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'closed'").await?;
    assert!(closed <= 50, "{closed} orders closed");
    assert_eq!(lab.count("SELECT sum(closed)::bigint FROM sync.runs").await?, closed);
    Ok(())
}

async fn refusals_over_many_small_runs_add_up(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 500).await?;
    let refusal = || Answer::json(422, &json!({"error": {"message": "no", "code": 1001}}));
    let api = Recorder::start(move |_| refusal()).await;
    small_runs(&lab, &api).await?;
    let dead = lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'dead'").await?;
    assert!(dead <= 50, "{dead} orders dead");
    assert_eq!(lab.count("SELECT sum(refused)::bigint FROM sync.runs").await?, dead);
    Ok(())
}

/// Ten runs of at most twenty orders each, until one is stopped: the others after it are as well.
async fn small_runs(lab: &Lab, api: &Recorder) -> anyhow::Result<()> {
    let mut is_stopped = false;
    for _ in 0..10 {
        let worker = lab.worker(&lab.settings(api.url(), &[]));
        let request = Request { trigger: Trigger::Manual, only: None, limit: Some(20) };
        let report = worker.run(&request, &CancellationToken::new(), &Progress::default()).await?;
        assert!(report.failure.is_some() || !is_stopped);
        is_stopped |= report.failure.is_some();
    }
    assert!(is_stopped);
    Ok(())
}

async fn a_usual_share_of_closed_orders_is_no_storm(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    let api = Recorder::start(every(2, |_| Answer::not_found())).await;
    let report = lab.sync(api.url(), &[("pace.max_in_flight", "1")]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.status.as_str(), report.run.closed, report.run.fetched), ("succeeded", 500, 500));
    Ok(())
}

async fn the_share_that_the_past_explains_is_allowed_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    execute(
        &lab,
        "INSERT INTO sync.runs (run_id, trigger, worker, alive_until, status, finished_at, fetched, closed)
         SELECT gen_random_uuid(), 'cron', 'earlier', now(), 'succeeded', now(), 300, 700 FROM generate_series(1, 5)",
    )
    .await?;
    let api = Recorder::start(every(4, simulated_read)).await;
    let report = lab.sync(api.url(), &[("pace.max_in_flight", "1")]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.closed, report.run.fetched), (750, 250));
    Ok(())
}

async fn a_first_small_run_is_believed(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 99).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!((report.run.status.as_str(), report.run.closed), ("succeeded", 99));
    Ok(())
}

async fn orders_that_expire_all_at_once_and_too_early_are_not_believed(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 300).await?;
    let api = Recorder::start(|_| expired()).await;
    let report = lab.sync(api.url(), &[]).await?;
    let failure = report.failure.map(|failure| failure.to_string()).unwrap_or_default();
    assert!(failure.contains("expired, sooner than possible"), "{failure}");
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'expired'").await?, 0);

    // The next day it is no wonder.
    execute(&lab, "UPDATE sync.order_queue SET enqueued_at = now() - interval '25 hours'").await?;
    execute(&lab, "UPDATE chat.orders SET last_message_at = now() - interval '25 hours'").await?;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'captured'").await?, 300);
    Ok(())
}

async fn old_orders_fed_late_may_all_be_expired(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 300).await?;
    let api = Recorder::start(|_| expired()).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'expired_unread'").await?, 300);
    Ok(())
}

async fn orders_refused_one_and_all_are_not_buried(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 300).await?;
    let refusal = || Answer::json(400, &json!({"error": {"message": "X-Retailer-Id is required", "code": 1001}}));
    let api = Recorder::start(move |_| refusal()).await;
    let report = lab.sync(api.url(), &[]).await?;
    let failure = report.failure.map(|failure| failure.to_string()).unwrap_or_default();
    assert!(failure.contains("100 of 100 orders were refused for good"), "{failure}");
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state <> 'pending' OR attempts > 0").await?, 0);
    Ok(())
}

async fn closures_are_undone_by_retry(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 300).await?;
    let before = lab.dump_without("chat", &["updated_at"]).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    lab.sync(api.url(), &[("guard.max_closed_share", "1")]).await?;
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE status = 'closed'").await?, 300);

    let retry = Finished::of(lab.with_database(&["retry", "--closed-since", "2026-01-01T00:00:00Z"])).await?;
    assert_eq!(retry.expect_code(0).stdout, "300 put back\n");
    let api = Recorder::start(simulated_read).await;
    lab.sync(api.url(), &[]).await?;
    assert_eq!(lab.dump_without("chat", &["updated_at"]).await?, before);
    Ok(())
}

/// Orders that were read once, a moment ago, and are due again.
async fn read_before(lab: &Lab, orders: i32) -> anyhow::Result<()> {
    feed(lab, orders).await?;
    let api = Recorder::start(simulated_read).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!(report.run.fetched, i64::from(orders));
    lab.make_all_due().await
}

/// A conversation of one message, whatever the order.
fn simulated_read(_: &Asked) -> Answer {
    let message = json!({"id": 1, "created_at": "2026-01-02T03:04:05Z", "body": "on my way",
                         "sender_id": 5, "sender_type": "driver", "recipient_id": 6, "recipient_type": "user"});
    Answer::json(200, &json!({"chat_messages": [message], "metadata": {"is_expired": false}}))
}

fn expired() -> Answer {
    Answer::json(200, &json!({"chat_messages": [], "is_expired": true}))
}

/// Every `n`th request gets this answer; of the others, those get a conversation or a 404, whichever it is not.
fn every(n: usize, answer: fn(&Asked) -> Answer) -> impl Fn(&Asked) -> Answer + Send + Sync {
    let turn = AtomicUsize::new(0);
    move |asked| {
        let special = answer(asked);
        if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(n) {
            special
        } else if special.status == 404 {
            simulated_read(asked)
        } else {
            Answer::not_found()
        }
    }
}
