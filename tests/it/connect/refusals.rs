//! Refused credentials: what stops the run and leaves its orders unchanged, and what concerns one user only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chatsync::simulator;
use chatsync::sync::Report;

use super::auth::{
    CLIENT_CREDENTIALS, USER_ASSERTION, bearer, enqueue_for, enqueue_numbered, expect_nothing_kept, issuing_recorder,
    user_of,
};
use super::{Queued, api_error, conversation};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};

tests!(
    a_refused_static_token_stops_the_run,
    a_backend_token_refused_twice_stops_the_run,
    a_token_refused_half_way_keeps_what_was_read,
    a_wrong_client_secret_stops_the_run_in_both_modes,
    a_client_without_the_scope_stops_the_run,
    a_user_token_refused_twice_fails_that_users_orders_only,
    a_user_without_a_token_fails_alone,
    an_order_without_a_user_is_dead_at_once,
    an_invalid_token_reply_is_not_kept,
    a_token_endpoint_that_redirects_is_not_followed,
    a_page_instead_of_the_token_endpoint_stops_no_run_and_makes_no_order_dead,
    documented_errors_of_the_token_endpoint_are_named,
);

const ORDERS: i64 = 50;

async fn a_refused_static_token_stops_the_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(|_| refused()).await;
    enqueue_numbered(&lab, 50, 1).await?;
    let token = ("auth.token", "secret-token-by-hand");
    let report = lab.sync(recorder.url(), &[token, ("pace.max_in_flight", "1")]).await?;
    expect_stopped(&lab, &report, ORDERS).await?;
    assert_eq!(recorder.asked().len(), 1, "no renewal, no other order");

    let report = lab.sync(recorder.url(), &[token]).await?;
    expect_stopped(&lab, &report, ORDERS).await
}

async fn a_backend_token_refused_twice_stops_the_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder(|_| refused()).await;
    enqueue_numbered(&lab, 50, 1).await?;
    let report = lab.sync(recorder.url(), &[CLIENT_CREDENTIALS, &[("pace.max_in_flight", "1")]].concat()).await?;
    expect_stopped(&lab, &report, ORDERS).await?;
    assert_eq!((recorder.token_requests().len(), recorder.chat_requests().len()), (2, 2), "renewed once");

    let report = lab.sync(recorder.url(), CLIENT_CREDENTIALS).await?;
    expect_stopped(&lab, &report, ORDERS).await
}

async fn a_token_refused_half_way_keeps_what_was_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    let seen = AtomicUsize::new(0);
    let recorder =
        Recorder::start(move |_| if seen.fetch_add(1, Ordering::Relaxed) < 20 { conversation() } else { refused() })
            .await;
    enqueue_numbered(&lab, 50, 1).await?;
    let report = lab.sync(recorder.url(), &[("auth.token", "secret-token-by-hand")]).await?;
    expect_stopped(&lab, &report, 30).await?;
    assert_eq!((report.run.counters.fetched, report.run.counters.claimed), (20, 20));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'open'").await?, 20);
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages").await?, 20);
    Ok(())
}

async fn a_wrong_client_secret_stops_the_run_in_both_modes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = simulator::start(([127, 0, 0, 1], 0).into(), simulator::Options::default()).await?;
    enqueue_numbered(&lab, 50, 5).await?;
    for mode in [USER_ASSERTION, CLIENT_CREDENTIALS] {
        let report = lab.sync(&api.base_url(), mode).await?;
        expect_stopped(&lab, &report, ORDERS).await?;
        let text = report.run.error.unwrap_or_default();
        assert!(text.contains("401") && text.contains("section auth"), "{text}");
    }
    assert_eq!(api.stats().chat_requests, 0);
    api.stop().await;
    Ok(())
}

async fn a_client_without_the_scope_stops_the_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    for status in [400, 403] {
        let recorder = Recorder::start(move |_| api_error(status, 1003, "scope is not allowed")).await;
        enqueue_for(&lab, &[("a", "user-1"), ("b", "user-2")]).await?;
        let report = lab.sync(recorder.url(), CLIENT_CREDENTIALS).await?;
        expect_stopped(&lab, &report, 2).await?;
        let text = report.run.error.unwrap_or_default();
        assert!(text.contains("code 1003") && text.contains("section auth"), "{text}");
        assert!(!text.contains("scope is not allowed"), "{text}");
    }
    Ok(())
}

async fn a_user_token_refused_twice_fails_that_users_orders_only(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder =
        issuing_recorder(|asked| if bearer(asked).contains("-of-user-3-") { refused() } else { conversation() }).await;
    enqueue_numbered(&lab, 50, 5).await?;
    let report = lab.sync(recorder.url(), USER_ASSERTION).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.counters.fetched, report.run.counters.failed, report.run.counters.dead), (40, 10, 0));
    assert_eq!(report.run.status.as_str(), "partial");
    expect_failed_orders(&lab, "user-3", "unauthorized").await?;
    expect_nothing_kept(&lab).await
}

async fn a_user_without_a_token_fails_alone(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = Recorder::start(|asked| {
        if !asked.is_token_request() {
            return conversation();
        }
        match user_of(asked).as_str() {
            "user-3" => api_error(400, 1002, "user is unknown"),
            user => Answer::token(&format!("secret-token-of-{user}")),
        }
    })
    .await;
    enqueue_numbered(&lab, 50, 5).await?;
    let report = lab.sync(recorder.url(), USER_ASSERTION).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.counters.fetched, report.run.counters.failed, report.run.counters.dead), (40, 10, 0));
    expect_failed_orders(&lab, "user-3", "token_refused").await?;
    let error = Queued::row(&lab, "order-0003").await?;
    assert!(error.error().contains("access token") && error.error().contains("code 1002"), "{error:?}");
    assert!(!error.error().contains("user is unknown"), "{error:?}");
    Ok(())
}

async fn an_order_without_a_user_is_dead_at_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder(|_| conversation()).await;
    enqueue_for(&lab, &[("with", "user-1")]).await?;
    lab.enqueue(&["without"]).await?;
    let report = lab.sync(recorder.url(), USER_ASSERTION).await?;
    assert_eq!((report.run.counters.fetched, report.run.counters.dead, report.run.status.as_str()), (1, 1, "partial"));
    let order = Queued::row(&lab, "without").await?;
    assert_eq!((order.state.as_str(), order.kind(), order.failures), ("dead", "no_user", 1));
    for help in ["connect_user_id", "user_assertion", "--user-id"] {
        assert!(order.error().contains(help), "{help}: {order:?}");
    }
    assert!(recorder.chat_requests().iter().all(|asked| !asked.target.contains("without")));
    Ok(())
}

async fn an_invalid_token_reply_is_not_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    let large = format!(r#"{{"access_token":"secret-token","padding":"{}"}}"#, "x".repeat(2_000));
    let replies = [r#"{"token":"secret-token"}"#, "secret-token", r#"{"access_token":["secret-token"]}"#, &large];
    for (reply, failures) in replies.into_iter().zip(1..) {
        let reply = reply.to_owned();
        let recorder = Recorder::start(move |_| Answer::new(200, reply.clone())).await;
        enqueue_for(&lab, &[("a", "user-1")]).await?;
        lab.make_all_due().await?;
        lab.sync(recorder.url(), &[USER_ASSERTION, &[("api.max_response_bytes", "1024")]].concat()).await?;
        let order = Queued::row(&lab, "a").await?;
        order.expect_failed("not_understood", failures);
        assert!(order.error().contains("access token"), "{order:?}");
        assert_eq!(recorder.chat_requests().len(), 0);
    }
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 0);
    expect_nothing_kept(&lab).await
}

async fn a_token_endpoint_that_redirects_is_not_followed(lab: Arc<Lab>) -> anyhow::Result<()> {
    let elsewhere = issuing_recorder(|_| conversation()).await;
    let target = format!("{}/v2/oauth/token", elsewhere.url());
    let recorder = Recorder::start(move |_| Answer::new(307, "").with_header("location", &target)).await;
    enqueue_for(&lab, &[("a", "user-1")]).await?;
    lab.sync(recorder.url(), USER_ASSERTION).await?;
    Queued::row(&lab, "a").await?.expect_failed("redirect", 1);
    assert_eq!(elsewhere.asked().len(), 0, "the client's secret never travels to another host");
    Ok(())
}

async fn a_page_instead_of_the_token_endpoint_stops_no_run_and_makes_no_order_dead(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    let mut failures = 0;
    for status in [400, 403, 404, 407, 451] {
        for mode in [USER_ASSERTION, CLIENT_CREDENTIALS] {
            let recorder = Recorder::start(move |_| Answer::new(status, "<html>secret-token</html>")).await;
            enqueue_for(&lab, &[("a", "user-1")]).await?;
            lab.make_all_due().await?;
            let report = lab.sync(recorder.url(), &[mode, &[("queue.max_failures", "1")]].concat()).await?;
            assert!(report.failure.is_none(), "{status}: {:?}", report.failure);
            failures += 1;
            Queued::row(&lab, "a").await?.expect_failed("not_the_api", failures);
        }
    }
    expect_nothing_kept(&lab).await
}

async fn documented_errors_of_the_token_endpoint_are_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (body, expected) in [
        (r#"{"error":"invalid_scope","error_description":"secret-words"}"#, "400, invalid_scope; check section auth"),
        (r#"{"error":"secret-words"}"#, "400, an error without a code; check section auth"),
    ] {
        let recorder = Recorder::start(move |_| Answer::new(400, body)).await;
        enqueue_for(&lab, &[("a", "user-1")]).await?;
        let report = lab.sync(recorder.url(), CLIENT_CREDENTIALS).await?;
        expect_stopped(&lab, &report, 1).await?;
        let text = report.run.error.unwrap_or_default();
        assert!(text.contains(expected), "{text}");
    }
    Ok(())
}

fn refused() -> Answer {
    api_error(401, 4010, "The access token is invalid")
}

/// Asserts that the run could not proceed and left this many orders unchanged.
async fn expect_stopped(lab: &Lab, report: &Report, untouched: i64) -> anyhow::Result<()> {
    let failure = report.failure.as_ref().map(ToString::to_string);
    assert!(failure.is_some(), "{report:?}");
    assert_eq!((report.run.status.as_str(), &report.run.error), ("failed", &failure));
    assert!(report.run.finished_at.is_some());
    assert_eq!((report.run.counters.failed, report.run.counters.dead), (0, 0));
    let left = "SELECT count(*) FROM sync.order_queue
                WHERE state = 'pending' AND failures = 0 AND lease_id IS NULL AND leased_until IS NULL
                  AND last_error IS NULL AND due_at <= now()";
    assert_eq!(lab.count(left).await?, untouched);
    expect_nothing_kept(lab).await
}

/// Asserts that the failed orders are this user's, all with the same failure.
async fn expect_failed_orders(lab: &Lab, user: &str, kind: &str) -> anyhow::Result<()> {
    let failed: Vec<(String, String, String, i32, i64)> = sqlx::query_as(
        "SELECT connect_user_id, state, last_error_kind, failures, count(*) FROM sync.order_queue
         WHERE last_error IS NOT NULL GROUP BY 1, 2, 3, 4",
    )
    .fetch_all(&lab.pool)
    .await?;
    assert_eq!(failed, [(user.to_owned(), "pending".to_owned(), kind.to_owned(), 1, 10)]);
    Ok(())
}
