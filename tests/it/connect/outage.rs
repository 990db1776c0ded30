//! An outage of the whole API: waited out, then given up, without counting against any order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::auth::{USER_ASSERTION, enqueue_for, user_of};
use super::{Queued, api_error, conversation};
use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    a_run_waits_for_an_api_that_comes_back,
    a_lasting_outage_fails_the_run_and_counts_no_failures,
    an_outage_that_answers_every_request_with_a_page_makes_no_order_dead,
    one_refused_user_does_not_stop_the_orders_of_others,
    an_outage_in_the_middle_keeps_what_was_read,
    first_replies_that_are_all_403_stop_the_run_and_name_the_setting,
    a_403_after_other_replies_concerns_its_order_only,
    an_order_that_is_never_understood_becomes_dead_and_its_reply_is_kept,
);

async fn a_run_waits_for_an_api_that_comes_back(lab: Arc<Lab>) -> anyhow::Result<()> {
    let seen = AtomicUsize::new(0);
    let api = Recorder::start(move |_| match seen.fetch_add(1, Ordering::Relaxed) {
        0..34 => Answer::new(503, "down for maintenance"),
        _ => conversation(),
    })
    .await;
    enqueue(&lab, 300).await?;
    let run = Finished::of(lab.configured(&["sync"], api.url(), &[])).await?.expect_code(0);
    assert!(
        run.stderr.contains("most requests fail") && run.stderr.contains("the API answers again"),
        "{}",
        run.stderr
    );
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 300);
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE failures > 0").await?, 0);
    assert!(api.asked().len() < 300 + 34 + 10, "it does not hammer: {}", api.asked().len());
    Ok(())
}

async fn a_lasting_outage_fails_the_run_and_counts_no_failures(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| Answer::new(500, "")).await;
    enqueue(&lab, 300).await?;
    let more = [("breaker.give_up_after", "2s")];
    let run = Finished::of(lab.configured(&["sync"], api.url(), &more)).await?.expect_code(1);
    for part in ["out of order for 2 s", "the server answered 500", "left as they were"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    let untouched =
        "SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND failures = 0 AND due_at <= now()";
    assert_eq!(lab.count(untouched).await?, 300);
    assert_eq!(lab.text("SELECT concat_ws(' ', status, claimed) FROM sync.runs").await?.as_deref(), Some("failed 0"));
    assert!(api.asked().len() < 150, "{} requests", api.asked().len());

    // No server answers at all.
    drop(api);
    let nowhere = format!("http://127.0.0.1:{}", crate::support::free_port()?);
    Finished::of(lab.configured(&["sync"], &nowhere, &more)).await?.expect_code(1);
    assert_eq!(lab.count(untouched).await?, 300);
    Ok(())
}

async fn an_outage_that_answers_every_request_with_a_page_makes_no_order_dead(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| Answer::new(200, "<html>We are down for maintenance</html>")).await;
    enqueue(&lab, 300).await?;
    let report = lab.sync(api.url(), &[("breaker.give_up_after", "2s"), ("queue.max_failures", "2")]).await?;
    assert!(report.failure.is_some());
    // The requests sent before there were enough results.
    let counted = lab.count("SELECT count(*) FROM sync.order_queue WHERE failures > 0").await?;
    assert!(counted < 15, "{counted}");
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'pending'").await?, 300);
    Ok(())
}

async fn one_refused_user_does_not_stop_the_orders_of_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|asked| {
        if !asked.is_token_request() {
            return conversation();
        }
        match user_of(asked).as_str() {
            "gone" => api_error(400, 1002, "user is unknown"),
            user => Answer::token(&format!("token-of-{user}")),
        }
    })
    .await;
    let of = |user: &'static str| (0..100).map(move |n| (format!("{user}-{n:03}"), user));
    let orders: Vec<(String, &str)> = of("gone").chain(of("here")).collect();
    let orders: Vec<(&str, &str)> = orders.iter().map(|(order, user)| (order.as_str(), *user)).collect();
    enqueue_for(&lab, &orders).await?;
    // The refused users come first.
    sqlx::query("UPDATE sync.order_queue SET priority = 1 WHERE connect_user_id = 'gone'").execute(&lab.pool).await?;
    let report = lab.sync(api.url(), USER_ASSERTION).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.counters.fetched, report.run.counters.failed), (100, 100));
    Ok(())
}

async fn an_outage_in_the_middle_keeps_what_was_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    let seen = AtomicUsize::new(0);
    let api = Recorder::start(move |_| match seen.fetch_add(1, Ordering::Relaxed) {
        0..100 => conversation(),
        _ => Answer::new(502, "<html>Bad Gateway</html>"),
    })
    .await;
    enqueue(&lab, 300).await?;
    let report = lab.sync(api.url(), &[("breaker.give_up_after", "1s")]).await?;
    assert!(report.failure.is_some());
    assert_eq!(
        (report.run.status.as_str(), report.run.counters.fetched, report.run.counters.failed),
        ("failed", 100, 0)
    );
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 100);
    assert_eq!(u64::try_from(api.asked().len())?, report.run.sent.requests, "all requests are counted");
    Ok(())
}

async fn first_replies_that_are_all_403_stop_the_run_and_name_the_setting(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| api_error(403, 4030, "Shopper information has been removed")).await;
    enqueue(&lab, 300).await?;
    let run = Finished::of(lab.configured(&["sync"], api.url(), &[("pace.max_in_flight", "8")])).await?.expect_code(1);
    assert!(run.stderr.contains("shopper information removal"), "{}", run.stderr);
    let failed = lab.count("SELECT count(*) FROM sync.order_queue WHERE last_error_kind = 'forbidden'").await?;
    assert!(failed < 10, "{failed}");
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'pending'").await?, 300);
    // Ten, ten others, a token. On a slow machine also those in flight, those answered and not yet evaluated, and
    // those sent in their place.
    assert!(api.asked().len() <= 10 + 10 + 1 + 3 * 8, "{} requests", api.asked().len());
    Ok(())
}

async fn a_403_after_other_replies_concerns_its_order_only(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api =
        Recorder::start(
            |asked| {
                if asked.target.contains("order-000/") { conversation() } else { api_error(403, 4030, "no") }
            },
        )
        .await;
    enqueue(&lab, 50).await?;
    let report = lab.sync(api.url(), &[("pace.max_in_flight", "1")]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.counters.fetched, report.run.counters.failed, report.run.counters.dead), (1, 49, 0));
    Ok(())
}

async fn an_order_that_is_never_understood_becomes_dead_and_its_reply_is_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(|_| Answer::new(200, "<html>Welcome</html>")).await;
    enqueue(&lab, 1).await?;
    for failures in 1..=2 {
        lab.make_all_due().await?;
        let report = lab.sync(api.url(), &[("queue.max_failures", "3")]).await?;
        assert_eq!((report.run.status.as_str(), report.run.counters.failed), ("failed", 1));
        Queued::row(&lab, "order-000").await?.expect_failed("not_understood", failures);
    }
    lab.make_all_due().await?;
    assert_eq!(lab.sync(api.url(), &[("queue.max_failures", "3")]).await?.run.counters.dead, 1);
    assert_eq!(Queued::row(&lab, "order-000").await?.state, "dead");
    let kept = "SELECT count(*) FROM sync.rejects WHERE body = '<html>Welcome</html>' AND http_status = 200";
    assert_eq!(lab.count(kept).await?, 3);
    Ok(())
}

async fn enqueue(lab: &Lab, orders: usize) -> anyhow::Result<()> {
    let ids: Vec<String> = (0..orders).map(|n| format!("order-{n:03}")).collect();
    lab.enqueue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await
}
