//! Orders that need the other kind of token than `auth.mode` names, and token replies of gateways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::auth::{
    CLIENT_CREDENTIALS, USER_ASSERTION, bearer, enqueue_for, expect_nothing_kept, issuing_recorder, user_of,
};
use super::{Queued, api_error, conversation};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    an_order_that_needs_its_users_token_gets_it_and_the_kind_is_stored,
    an_order_with_an_unknown_user_is_read_with_the_shared_token,
    an_order_that_no_token_reads_is_never_given_up,
    code_4001_is_seen_in_both_shapes,
    a_static_token_has_no_other,
    a_refusal_of_the_other_kind_stops_no_run,
    the_reply_to_the_other_kind_counts,
    a_stored_kind_that_is_refused_is_replaced_by_that_of_the_mode,
    each_kind_of_token_has_its_scope,
    tokens_of_gateways_are_read,
    a_token_reply_without_a_token_is_not_understood,
);

const OF_USER: &str = "secret-token-of-user-1-1";
const OF_ALL: &str = "secret-token-of-everybody-1";

/// Starts an API that answers code 4001 to one kind of token and a conversation to the other.
async fn api_for(wanted: &'static str) -> Recorder {
    issuing_recorder(move |asked| if bearer(asked) == wanted { conversation() } else { wrong_kind() }).await
}

fn wrong_kind() -> Answer {
    api_error(400, 4001, "User ID not found")
}

async fn an_order_that_needs_its_users_token_gets_it_and_the_kind_is_stored(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = api_for(OF_USER).await;
    enqueue_for(&lab, &[("a", "user-1")]).await?;
    let report = lab.sync(api.url(), CLIENT_CREDENTIALS).await?;
    Queued::row(&lab, "a").await?.expect_read();
    assert_eq!((report.run.status.as_str(), report.run.sent.requests), ("succeeded", 4));
    assert_eq!(used(&api), [OF_ALL, OF_USER]);
    assert_eq!(kind_of(&lab).await?.as_deref(), Some("user"));
    let mut why = lab.with_database(&["why", "a"]);
    why.env("CHATSYNC__AUTH__MODE", "client_credentials");
    let stdout = Finished::of(why).await?.expect_code(0).stdout;
    let line = "token        that of Connect user user-1 (auth.mode = client_credentials names the other kind, which this order refused with code 4001)";
    assert!(stdout.contains(line), "{stdout}");

    // From now on it is tried first, and stays stored when the reply is unchanged.
    for _ in 0..2 {
        let api = api_for(OF_USER).await;
        lab.make_all_due().await?;
        let report = lab.sync(api.url(), CLIENT_CREDENTIALS).await?;
        assert_eq!((report.run.counters.fetched, report.run.sent.requests), (1, 2));
        assert_eq!(used(&api), [OF_USER]);
    }
    assert_eq!(kind_of(&lab).await?.as_deref(), Some("user"));
    expect_nothing_kept(&lab).await
}

async fn an_order_with_an_unknown_user_is_read_with_the_shared_token(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = api_for(OF_ALL).await;
    enqueue_for(&lab, &[("a", "user-1")]).await?;
    lab.sync(api.url(), USER_ASSERTION).await?;
    Queued::row(&lab, "a").await?.expect_read();
    assert_eq!(used(&api), [OF_USER, OF_ALL]);
    assert_eq!(kind_of(&lab).await?.as_deref(), Some("client"));
    // This kind works, so the order needs no user any more.
    sqlx::query("UPDATE sync.order_queue SET connect_user_id = NULL").execute(&lab.pool).await?;
    let api = api_for(OF_ALL).await;
    lab.make_all_due().await?;
    lab.sync(api.url(), USER_ASSERTION).await?;
    Queued::row(&lab, "a").await?.expect_read();
    assert_eq!(used(&api), [OF_ALL]);
    Ok(())
}

async fn an_order_that_no_token_reads_is_never_given_up(lab: Arc<Lab>) -> anyhow::Result<()> {
    enqueue_for(&lab, &[("a", "user-1")]).await?;
    lab.enqueue(&["without"]).await?;
    for failures in 1..=3 {
        let api = issuing_recorder(|_| wrong_kind()).await;
        lab.make_all_due().await?;
        let report = lab.sync(api.url(), &[CLIENT_CREDENTIALS, &[("queue.max_failures", "1")]].concat()).await?;
        assert_eq!((report.run.counters.failed, report.run.counters.dead), (2, 0));
        for (order, advice) in [("a", "with the other kind of token"), ("without", "--user-id")] {
            let order = Queued::row(&lab, order).await?;
            order.expect_failed("wants_user_token", failures);
            for part in ["400, code 4001", advice] {
                assert!(order.error().contains(part), "{part}: {order:?}");
            }
        }
        assert_eq!(api.chat_requests().len(), 3);
    }
    assert_eq!(lab.count("SELECT sum(counted_failures)::bigint FROM sync.order_queue").await?, 0);
    assert_eq!(kind_of(&lab).await?, None);
    Ok(())
}

async fn code_4001_is_seen_in_both_shapes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let multiple = r#"{"error":{"message":"m","code":9999,"errors":[{"error":{"message":"m","code":"4001"}}]}}"#;
    let single = "\u{feff}{\"error\":{\"message\":\"m\",\"code\":4001.0}}";
    for (status, body) in [(400, multiple), (400, single), (422, multiple)] {
        let api = issuing_recorder(
            move |asked| {
                if bearer(asked) == OF_USER { conversation() } else { Answer::new(status, body) }
            },
        )
        .await;
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        enqueue_for(&lab, &[("a", "user-1")]).await?;
        lab.sync(api.url(), CLIENT_CREDENTIALS).await?;
        Queued::row(&lab, "a").await?.expect_read();
    }
    Ok(())
}

async fn a_static_token_has_no_other(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = issuing_recorder(|_| wrong_kind()).await;
    enqueue_for(&lab, &[("a", "user-1")]).await?;
    lab.sync(api.url(), &[]).await?;
    Queued::row(&lab, "a").await?.expect_failed("wants_user_token", 1);
    assert_eq!((api.token_requests().len(), api.chat_requests().len()), (0, 1));
    Ok(())
}

async fn a_refusal_of_the_other_kind_stops_no_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (mode, refused_user) in [(USER_ASSERTION, "everybody"), (CLIENT_CREDENTIALS, "user-1")] {
        for status in [400, 401, 403] {
            sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
            let api = Recorder::start(move |asked| match asked {
                asked if !asked.is_token_request() && asked.target.contains("/other/") => conversation(),
                asked if !asked.is_token_request() => wrong_kind(),
                asked if user_of(asked) == refused_user => api_error(status, 1002, "not this kind"),
                asked => Answer::token(&format!("secret-token-of-{}", user_of(asked))),
            })
            .await;
            enqueue_for(&lab, &[("a", "user-1"), ("other", "user-2")]).await?;
            let report = lab.sync(api.url(), mode).await?;
            assert!(report.failure.is_none(), "{status}: {:?}", report.failure);
            let order = Queued::row(&lab, "a").await?;
            order.expect_failed("wants_user_token", 1);
            assert!(order.error().contains("asking for an access token"), "{order:?}");
            Queued::row(&lab, "other").await?.expect_read();
        }
    }
    Ok(())
}

async fn the_reply_to_the_other_kind_counts(lab: Arc<Lab>) -> anyhow::Result<()> {
    let cases = [
        (Answer::not_found(), "closed", ""),
        (api_error(400, 1001, "no"), "dead", "refused"),
        (api_error(403, 4030, "no"), "pending", "forbidden"),
        (Answer::new(200, "<html>"), "pending", "not_understood"),
    ];
    for (answer, state, kind) in cases {
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        let api =
            issuing_recorder(move |asked| if bearer(asked) == OF_USER { answer.clone() } else { wrong_kind() }).await;
        enqueue_for(&lab, &[("a", "user-1")]).await?;
        lab.sync(api.url(), CLIENT_CREDENTIALS).await?;
        let order = Queued::row(&lab, "a").await?;
        assert_eq!((order.state.as_str(), order.kind()), (state, kind), "{order:?}");
        assert_eq!(kind_of(&lab).await?, None, "only a read proves that a kind works");
    }
    Ok(())
}

async fn a_stored_kind_that_is_refused_is_replaced_by_that_of_the_mode(lab: Arc<Lab>) -> anyhow::Result<()> {
    for status in [401, 400] {
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        enqueue_for(&lab, &[("a", "user-1")]).await?;
        sqlx::query("UPDATE sync.order_queue SET token_kind = 'client'").execute(&lab.pool).await?;
        // The shared token is no longer issued.
        let api = Recorder::start(move |asked| match asked {
            asked if !asked.is_token_request() => conversation(),
            asked if user_of(asked) == "everybody" => api_error(status, 1003, "no"),
            _ => Answer::token("secret-token-of-user-1"),
        })
        .await;
        let report = lab.sync(api.url(), USER_ASSERTION).await?;
        assert!(report.failure.is_none(), "{:?}", report.failure);
        Queued::row(&lab, "a").await?.expect_read();
        assert_eq!(kind_of(&lab).await?, None, "it is the one of auth.mode again");
    }
    Ok(())
}

async fn each_kind_of_token_has_its_scope(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (client_scope, sent) in [("connect:fulfillment", "connect:fulfillment"), ("", "connect:post_checkout")] {
        for (mode, wanted) in [(CLIENT_CREDENTIALS, OF_USER), (USER_ASSERTION, OF_ALL)] {
            sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
            let api = api_for(wanted).await;
            enqueue_for(&lab, &[("a", "user-1")]).await?;
            lab.sync(api.url(), &[mode, &[("auth.client_scope", client_scope)]].concat()).await?;
            Queued::row(&lab, "a").await?.expect_read();
            for asked in api.token_requests() {
                let scope = if user_of(&asked) == "everybody" { sent } else { "connect:post_checkout" };
                assert_eq!(asked.json()["scope"], scope);
            }
            assert_eq!(api.token_requests().len(), 2);
        }
    }
    Ok(())
}

async fn tokens_of_gateways_are_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    let lives = [
        "\"3599\"",
        "3599.0",
        "-1",
        "null",
        "\"soon\"",
        "1e3",
        "true",
        "[]",
        "{\"a\":1}",
        "1e999",
        "99999999999999999999",
    ];
    let mut replies: Vec<Vec<u8>> = lives
        .iter()
        .map(|life| {
            format!(r#"{{"access_token":"secret-token","token_type":"Bearer","expires_in":{life}}}"#).into_bytes()
        })
        .collect();
    replies.push(b"\xef\xbb\xbf{\"access_token\":\"secret-token\"}".to_vec());
    replies.push(b" \r\n{\"expires_in\":\"\",\"access_token\":\"secret-token\"}\n".to_vec());
    for reply in replies {
        let what = String::from_utf8_lossy(&reply).into_owned();
        let is_asked_twice = AtomicBool::new(false);
        let api = Recorder::start(move |asked| {
            if asked.is_token_request() {
                assert!(!is_asked_twice.swap(true, Ordering::Relaxed), "one token is enough");
                return Answer::new(200, reply.clone());
            }
            conversation()
        })
        .await;
        sqlx::query("TRUNCATE sync.order_queue").execute(&lab.pool).await?;
        enqueue_for(&lab, &[("a", "user-1"), ("b", "user-1"), ("c", "user-1")]).await?;
        let report = lab.sync(api.url(), USER_ASSERTION).await?;
        assert_eq!((report.run.counters.fetched, api.token_requests().len()), (3, 1), "{what}");
    }
    Ok(())
}

async fn a_token_reply_without_a_token_is_not_understood(lab: Arc<Lab>) -> anyhow::Result<()> {
    let replies = [
        r#"{"access_token":"","expires_in":1}"#,
        r#"{"access_token":" "}"#,
        r#"{"access_token":null}"#,
        r#"{"access_token":7}"#,
        "[]",
        "",
    ];
    for (reply, failures) in replies.into_iter().zip(1..) {
        let api = Recorder::start(move |_| Answer::new(200, reply)).await;
        enqueue_for(&lab, &[("a", "user-1")]).await?;
        lab.make_all_due().await?;
        lab.sync(api.url(), USER_ASSERTION).await?;
        Queued::row(&lab, "a").await?.expect_failed("not_understood", failures);
        assert_eq!(api.chat_requests().len(), 0, "{reply}");
    }
    Ok(())
}

/// Returns the tokens of the chat requests, in order.
fn used(api: &Recorder) -> Vec<String> {
    api.chat_requests().iter().map(|asked: &Asked| bearer(asked).to_owned()).collect()
}

async fn kind_of(lab: &Lab) -> anyhow::Result<Option<String>> {
    lab.text("SELECT max(token_kind) FROM sync.order_queue").await
}
