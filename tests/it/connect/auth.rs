//! The three auth modes: what is sent where, how many tokens are requested, when they are renewed, and that none is
//! kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chatsync::simulator;
use serde_json::json;

use super::{Queued, api_error, conversation, in_turn};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Lab, tests};

tests!(
    a_user_token_is_requested_as_documented,
    a_shared_token_is_requested_as_documented,
    a_static_token_is_sent_unchanged,
    an_assertion_is_standard_padded_base64,
    each_user_gets_one_token_however_many_orders,
    all_orders_share_one_backend_token,
    orders_that_wait_for_a_token_cause_one_request,
    a_token_is_renewed_before_it_expires,
    a_token_with_a_lifetime_of_zero_serves_one_order,
    a_token_without_a_lifetime_is_reused,
    revoked_user_tokens_are_renewed_once_each,
    a_revoked_backend_token_is_renewed_once,
    a_token_request_is_retried_after_a_temporary_failure,
);

async fn a_user_token_is_requested_as_documented(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder(|_| conversation()).await;
    enqueue_for(&lab, &[("a", "user-1")]).await?;
    lab.sync(recorder.url(), USER_ASSERTION).await?;
    let [token, chat] = <[Asked; 2]>::try_from(recorder.asked()).expect("two requests");
    assert_eq!(
        token.json(),
        json!({
            "client_id": "client-7", "client_secret": SECRET, "grant_type": "fulfillment_user_assertion",
            "scope": "connect:post_checkout", "assertion": STANDARD.encode(r#"{"user_id":"user-1"}"#),
        })
    );
    expect_only_a_body(&token);
    expect_only_a_bearer(&chat, "secret-token-of-user-1-1");
    expect_nothing_kept(&lab).await
}

async fn a_shared_token_is_requested_as_documented(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder(|_| conversation()).await;
    enqueue_for(&lab, &[("a", "user-1")]).await?;
    lab.sync(recorder.url(), &[CLIENT_CREDENTIALS, &[("auth.scope", "connect:fulfillment")]].concat()).await?;
    let [token, chat] = <[Asked; 2]>::try_from(recorder.asked()).expect("two requests");
    assert_eq!(
        token.json(),
        json!({
            "client_id": "client-7", "client_secret": SECRET, "grant_type": "client_credentials",
            "scope": "connect:fulfillment",
        })
    );
    expect_only_a_body(&token);
    expect_only_a_bearer(&chat, "secret-token-of-everybody-1");
    expect_nothing_kept(&lab).await
}

async fn a_static_token_is_sent_unchanged(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder(|_| conversation()).await;
    enqueue_for(&lab, &[("a", "user-1"), ("b", "user-2")]).await?;
    lab.sync(recorder.url(), &[("auth.token", "secret-token-by-hand")]).await?;
    assert_eq!(recorder.token_requests().len(), 0);
    assert_eq!(recorder.chat_requests().len(), 2);
    for chat in recorder.chat_requests() {
        expect_only_a_bearer(&chat, "secret-token-by-hand");
    }
    expect_nothing_kept(&lab).await
}

async fn an_assertion_is_standard_padded_base64(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Other base64 alphabets encode `+` and `/` differently; the lengths differ to cover every padding.
    let users = ["u", "us", "use", "a \"quoted\" \\ one", "ñandú~~~???", "ÿþ>>>", "日本語"];
    let orders: Vec<_> = users.iter().map(|user| (*user, *user)).collect();
    let recorder = issuing_recorder(|_| conversation()).await;
    enqueue_for(&lab, &orders).await?;
    let report = lab.sync(recorder.url(), USER_ASSERTION).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.fetched), ("succeeded", 7));
    let assertions: Vec<String> = recorder
        .token_requests()
        .iter()
        .map(|asked| asked.json()["assertion"].as_str().expect("text").into())
        .collect();
    let mut asserted = BTreeSet::new();
    for assertion in &assertions {
        let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(assertion)?)?;
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{json}");
        asserted.insert(json["user_id"].as_str().expect("text").to_owned());
    }
    assert_eq!(asserted, users.iter().map(ToString::to_string).collect());
    for tell_tale in ["=", "==", "/", "+"] {
        assert!(assertions.iter().any(|assertion| assertion.contains(tell_tale)), "{tell_tale}: {assertions:?}");
    }
    Ok(())
}

async fn each_user_gets_one_token_however_many_orders(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (options, api) = many_orders_of_twenty_users(&lab).await?;
    let auth = simulated("user_assertion");
    let report = lab.sync(&api.base_url(), &[auth, vec![("pace.max_in_flight", "100")]].concat()).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.fetched), ("succeeded", 200));
    let stats = api.stats();
    assert_eq!((stats.token_requests, stats.chat_requests, stats.unauthorized), (options.users, 200, 0));
    assert_eq!(report.run.sent.requests, 220, "token requests count");
    api.stop().await;
    Ok(())
}

async fn all_orders_share_one_backend_token(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (_, api) = many_orders_of_twenty_users(&lab).await?;
    let auth = simulated("client_credentials");
    let report = lab.sync(&api.base_url(), &[auth, vec![("pace.max_in_flight", "100")]].concat()).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.fetched), ("succeeded", 200));
    let stats = api.stats();
    assert_eq!((stats.token_requests, stats.chat_requests, stats.unauthorized), (1, 200, 0));
    api.stop().await;
    Ok(())
}

async fn orders_that_wait_for_a_token_cause_one_request(lab: Arc<Lab>) -> anyhow::Result<()> {
    // The first request fails: the orders that waited for it neither fail with it nor send one request each.
    let recorder = Recorder::start(failing_once(503)).await;
    enqueue_numbered(&lab, 100, 1).await?;
    let report = lab.sync(recorder.url(), &[USER_ASSERTION, &[("pace.max_in_flight", "100")]].concat()).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.fetched), ("succeeded", 100));
    assert_eq!((recorder.token_requests().len(), recorder.chat_requests().len()), (2, 100));
    Ok(())
}

async fn a_token_is_renewed_before_it_expires(lab: Arc<Lab>) -> anyhow::Result<()> {
    let born = Mutex::new(None::<Instant>);
    let issuer = Issuer::living(json!(1));
    let recorder = Recorder::start(move |asked| {
        if asked.is_token_request() {
            born.lock().expect("not poisoned").get_or_insert_with(Instant::now);
            return issuer.issue(asked);
        }
        // A slow server: the first reply arrives when the first token has nearly expired.
        let born = born.lock().expect("not poisoned").expect("a token came first");
        std::thread::sleep(Duration::from_millis(910).saturating_sub(born.elapsed()));
        conversation()
    })
    .await;
    enqueue_for(&lab, &[("a", "u"), ("b", "u")]).await?;
    lab.sync(recorder.url(), &[USER_ASSERTION, &[("pace.max_in_flight", "1")]].concat()).await?;
    let used: Vec<_> = recorder.chat_requests().iter().map(|chat| bearer(chat).to_owned()).collect();
    assert_eq!(used, ["secret-token-of-u-1", "secret-token-of-u-2"]);
    Ok(())
}

async fn a_token_with_a_lifetime_of_zero_serves_one_order(lab: Arc<Lab>) -> anyhow::Result<()> {
    let issuer = Issuer::living(json!(0));
    let recorder = issuing_recorder_of(issuer, |_| conversation()).await;
    enqueue_numbered(&lab, 5, 1).await?;
    let report = lab.sync(recorder.url(), USER_ASSERTION).await?;
    assert_eq!((report.run.counters.fetched, recorder.token_requests().len()), (5, 5));
    let used: BTreeSet<_> = recorder.chat_requests().iter().map(|chat| bearer(chat).to_owned()).collect();
    assert_eq!(used.len(), 5, "{used:?}");
    Ok(())
}

async fn a_token_without_a_lifetime_is_reused(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder_of(Issuer::living(json!(null)), |_| conversation()).await;
    enqueue_numbered(&lab, 5, 1).await?;
    let report = lab.sync(recorder.url(), USER_ASSERTION).await?;
    assert_eq!((report.run.counters.fetched, recorder.token_requests().len()), (5, 1));
    Ok(())
}

async fn revoked_user_tokens_are_renewed_once_each(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder(revoking_first_tokens_after(100)).await;
    enqueue_numbered(&lab, 200, 20).await?;
    let report = lab.sync(recorder.url(), USER_ASSERTION).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.fetched), ("succeeded", 200));
    let mut by_user = BTreeMap::<String, usize>::new();
    for asked in recorder.token_requests() {
        *by_user.entry(user_of(&asked)).or_default() += 1;
    }
    assert_eq!(by_user.len(), 20);
    assert!(by_user.values().all(|count| *count == 2), "{by_user:?}");
    expect_nothing_kept(&lab).await
}

async fn a_revoked_backend_token_is_renewed_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    let recorder = issuing_recorder(revoking_first_tokens_after(100)).await;
    enqueue_numbered(&lab, 200, 20).await?;
    let report = lab.sync(recorder.url(), CLIENT_CREDENTIALS).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.fetched), ("succeeded", 200));
    assert_eq!(recorder.token_requests().len(), 2);
    expect_nothing_kept(&lab).await
}

async fn a_token_request_is_retried_after_a_temporary_failure(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (mode, status) in [(USER_ASSERTION, 500), (CLIENT_CREDENTIALS, 503), (CLIENT_CREDENTIALS, 429)] {
        let recorder = Recorder::start(failing_once(status)).await;
        enqueue_for(&lab, &[("a", "user-1")]).await?;
        lab.make_all_due().await?;
        let report = lab.sync(recorder.url(), mode).await?;
        Queued::row(&lab, "a").await?.expect_read();
        let run = &report.run;
        assert_eq!(
            (run.status.as_str(), run.sent.requests, run.sent.throttled),
            ("succeeded", 3, u64::from(status == 429))
        );
    }
    Ok(())
}

pub(super) const SECRET: &str = "secret-of-client-7";

pub(super) const USER_ASSERTION: &[(&str, &str)] =
    &[("auth.mode", "user_assertion"), ("auth.client_id", "client-7"), ("auth.client_secret", SECRET)];

pub(super) const CLIENT_CREDENTIALS: &[(&str, &str)] =
    &[("auth.mode", "client_credentials"), ("auth.client_id", "client-7"), ("auth.client_secret", SECRET)];

/// Issues `secret-token-of-USER-N`, where N counts a user's tokens from 1.
pub(super) struct Issuer {
    issued: Mutex<BTreeMap<String, u32>>,
    expires_in: serde_json::Value,
}

impl Issuer {
    pub(super) fn living(expires_in: serde_json::Value) -> Self {
        Self { issued: Mutex::default(), expires_in }
    }

    pub(super) fn issue(&self, asked: &Asked) -> Answer {
        let user = user_of(asked);
        let mut issued = self.issued.lock().expect("not poisoned");
        let number = issued.entry(user.clone()).and_modify(|number| *number += 1).or_insert(1);
        let token = format!("secret-token-of-{}-{number}", user.escape_default());
        Answer::json(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in}))
    }
}

/// Starts a recorder that issues tokens and passes chat requests to `chat`.
pub(super) async fn issuing_recorder(chat: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Recorder {
    issuing_recorder_of(Issuer::living(json!(86_400)), chat).await
}

async fn issuing_recorder_of(issuer: Issuer, chat: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Recorder {
    Recorder::start(move |asked| if asked.is_token_request() { issuer.issue(asked) } else { chat(asked) }).await
}

/// Refuses every user's first token from the given chat request on.
fn revoking_first_tokens_after(requests: usize) -> impl Fn(&Asked) -> Answer + Send + Sync {
    let seen = AtomicUsize::new(0);
    move |asked| {
        let is_revoked = seen.fetch_add(1, Ordering::Relaxed) >= requests && bearer(asked).ends_with("-1");
        if is_revoked { api_error(401, 4010, "The access token is revoked") } else { conversation() }
    }
}

/// Fails the first token request only.
fn failing_once(status: u16) -> impl Fn(&Asked) -> Answer + Send + Sync {
    let tokens = in_turn(vec![Answer::new(status, ""), Answer::token("secret-token")]);
    move |asked| if asked.is_token_request() { tokens(asked) } else { conversation() }
}

/// Returns the user whose token is requested.
pub(super) fn user_of(asked: &Asked) -> String {
    let Some(assertion) = asked.json()["assertion"].as_str().map(str::to_owned) else {
        return "everybody".to_owned();
    };
    let assertion = STANDARD.decode(assertion).expect("base64");
    let assertion: serde_json::Value = serde_json::from_slice(&assertion).expect("JSON");
    assertion["user_id"].as_str().expect("a text").to_owned()
}

pub(super) fn bearer(asked: &Asked) -> &str {
    asked.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).expect("a bearer token")
}

/// Adds (order, user) pairs.
pub(super) async fn enqueue_for(lab: &Lab, orders: &[(&str, &str)]) -> anyhow::Result<()> {
    for (order_id, user) in orders {
        sqlx::query("INSERT INTO sync.order_queue (order_id, connect_user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(order_id)
            .bind(user)
            .execute(&lab.pool)
            .await?;
    }
    Ok(())
}

/// Adds orders that belong to `users` in turn, claimed in the order of their numbers.
pub(super) async fn enqueue_numbered(lab: &Lab, orders: i32, users: i32) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO sync.order_queue (order_id, connect_user_id)
         SELECT 'order-' || lpad(number::text, 4, '0'), 'user-' || number % $2 FROM generate_series(1, $1) AS number",
    )
    .bind(orders)
    .bind(users)
    .execute(&lab.pool)
    .await?;
    Ok(())
}

async fn many_orders_of_twenty_users(lab: &Lab) -> anyhow::Result<(simulator::Options, simulator::Running)> {
    let options = simulator::Options {
        orders: 200,
        users: 20,
        not_found_share: 0.0,
        expired_share: 0.0,
        ..simulator::Options::default()
    };
    for order in simulator::orders(&options) {
        enqueue_for(lab, &[(&order.order_id, &order.connect_user_id)]).await?;
    }
    let users = lab.count("SELECT count(DISTINCT connect_user_id) FROM sync.order_queue").await?;
    assert_eq!(users, 20, "every user owns an order");
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options.clone()).await?;
    Ok((options, api))
}

fn simulated(mode: &'static str) -> Vec<(&'static str, &'static str)> {
    let (client, secret) = (simulator::CLIENT_ID, simulator::CLIENT_SECRET);
    vec![("auth.mode", mode), ("auth.client_id", client), ("auth.client_secret", secret)]
}

/// Asserts that a token request carries its credentials in the JSON body only.
fn expect_only_a_body(token: &Asked) {
    assert_eq!((token.method.as_str(), token.target.as_str()), ("POST", "/v2/oauth/token"));
    assert_eq!(token.header("content-type"), Some("application/json"));
    assert_eq!(token.header("accept"), Some("application/json"));
    assert_eq!(token.header("authorization"), None);
    expect_no_credentials(token);
}

/// Asserts that a chat request carries this token and no other credential.
fn expect_only_a_bearer(chat: &Asked, token: &str) {
    assert_eq!(bearer(chat), token);
    assert!(!chat.target.contains('?') && chat.body.is_empty(), "{}", chat.target);
    expect_no_credentials(chat);
}

fn expect_no_credentials(asked: &Asked) {
    assert!(!asked.target.contains("secret"), "{}", asked.target);
    for (name, value) in asked.headers.iter().filter(|(name, _)| *name != "authorization") {
        let value = String::from_utf8_lossy(value.as_bytes());
        assert!(!value.contains("secret") && !value.contains("client-7"), "{name}: {value}");
    }
}

/// Asserts that no table holds a token or a secret. All of them contain `secret`.
pub(super) async fn expect_nothing_kept(lab: &Lab) -> anyhow::Result<()> {
    let rows = [lab.dump("sync").await?, lab.dump("chat").await?].concat();
    assert!(rows.iter().any(|row| row.starts_with("runs ")), "there is a run to look at");
    let leak = rows.iter().find(|row| row.contains("secret-") || row.contains("Bearer"));
    assert_eq!(leak, None);
    Ok(())
}
