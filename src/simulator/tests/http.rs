//! Tests the simulator over real HTTP: who gets a token, what it gives access to, and what is refused.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::super::{CLIENT_ID, CLIENT_SECRET, Options, STATIC_TOKEN, Stats, orders, reply, start};
use super::scene::{Scene, grant, refused, send, with};

#[tokio::test]
async fn every_listed_order_returns_its_content() {
    let scene = Scene::new(Options { orders: 300, not_found_share: 0.2, ..Options::default() }).await;
    for order in orders(&scene.options) {
        let (status, body) = send(scene.chat(&order.order_id, STATIC_TOKEN)).await;
        if let Some(expected) = reply(&scene.options, &order.order_id, false) {
            assert_eq!(status, StatusCode::OK);
            assert_eq!(body, serde_json::from_slice::<Value>(&expected).unwrap());
        } else {
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert_eq!(body, json!({"error": {"message": "Resource not found", "code": 4000}}));
        }
    }
    assert_eq!(scene.running.stats().chat_requests, 300);
    scene.running.stop().await;
}

#[tokio::test]
async fn a_user_token_sees_the_orders_of_its_user_only() {
    let scene = Scene::new(Options::default()).await;
    let order = scene.readable();
    let (status, reply) = send(scene.oauth("token", &grant(Some(&order.connect_user_id)))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(reply["token_type"], "Bearer");
    assert_eq!(reply["expires_in"], 86_400);
    assert_eq!(reply["scope"], "connect:post_checkout");
    assert!(reply["created_at"].is_i64());
    let own = reply["access_token"].as_str().unwrap();
    assert_eq!(send(scene.chat(&order.order_id, own)).await.0, StatusCode::OK);
    let other = scene.token(Some("somebody-else")).await;
    assert_eq!(refused(scene.chat(&order.order_id, &other)).await, (404, 4000));
    let backend = scene.token(None).await;
    assert_eq!(send(scene.chat(&order.order_id, &backend)).await.0, StatusCode::OK);
    scene.running.stop().await;
}

#[tokio::test]
async fn only_the_right_credentials_in_a_json_body_get_a_token() {
    let scene = Scene::new(Options::default()).await;
    let good = grant(Some("ann"));
    let unpadded = STANDARD_NO_PAD.encode(r#"{"user_id": "ann!"}"#);
    let status = async |changes: Value| refused(scene.oauth("token", &with(&good, &changes))).await.0;
    assert_eq!(status(json!({"client_secret": "wrong"})).await, 401);
    assert_eq!(status(json!({"client_id": "wrong"})).await, 401);
    assert_eq!(status(json!({"grant_type": "password"})).await, 400);
    assert_eq!(status(json!({"scope": "connect:fulfillment"})).await, 400);
    assert_eq!(status(json!({"assertion": unpadded})).await, 400);
    assert_eq!(status(json!({"assertion": STANDARD.encode("{}")})).await, 400);

    let (status, body) = send(scene.oauth("token", &json!({"client_id": CLIENT_ID}))).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (400, &json!(9999)));
    assert_eq!(body["error"]["errors"][0]["meta"]["key"], "client_secret");

    let form = scene.client.post(scene.url(&["v2", "oauth", "token"])).body("client_id=x");
    assert_eq!(refused(form).await.0, 400);
    let query = [("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
    let mut url = scene.url(&["v2", "oauth", "token"]);
    url.query_pairs_mut().extend_pairs(query);
    let request = scene.client.post(url).header("Content-Type", "application/json");
    assert_eq!(refused(request.body(good.to_string())).await.0, 403);

    let counted = scene.running.stats();
    assert_eq!((counted.token_requests, counted.unauthorized), (9, 2));
    scene.running.stop().await;
}

#[tokio::test]
async fn a_missing_revoked_or_invented_token_is_unauthorized() {
    let scene = Scene::new(Options::default()).await;
    let id = scene.readable().order_id;
    let [first, second] = [scene.token(None).await, scene.token(None).await];
    let client = json!({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "token": first});
    let wrong = with(&client, &json!({"client_secret": "wrong"}));
    assert_eq!(refused(scene.oauth("revoke_access_token", &wrong)).await.0, 401);
    assert_eq!(send(scene.chat(&id, &first)).await.0, StatusCode::OK);
    assert_eq!(send(scene.oauth("revoke_access_token", &client)).await.0, StatusCode::OK);
    assert_eq!(refused(scene.chat(&id, &first)).await.0, 401);
    assert_eq!(send(scene.chat(&id, &second)).await.0, StatusCode::OK);
    scene.running.revoke_all_tokens();
    assert_eq!(refused(scene.chat(&id, &second)).await.0, 401);
    assert_eq!(refused(scene.chat(&id, "made-up")).await.0, 401);
    let bare = scene.client.get(scene.chat(&id, "").build().unwrap().url().clone());
    assert_eq!(refused(bare.header("Accept", "application/json")).await.0, 401);
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.0, StatusCode::OK);
    scene.running.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_unauthorized() {
    let scene = Scene::new(Options { token_lifetime: Duration::ZERO, ..Options::default() }).await;
    let token = scene.token(None).await;
    assert_eq!(refused(scene.chat("any", &token)).await.0, 401);
    scene.running.stop().await;
}

#[tokio::test]
async fn another_accept_header_is_a_bad_request() {
    let scene = Scene::new(Options::default()).await;
    let url = scene.chat("any", "").build().unwrap().url().clone();
    let request = scene.client.get(url).bearer_auth(STATIC_TOKEN);
    assert_eq!(refused(request).await.0, 400);
    scene.running.stop().await;
}

#[tokio::test]
async fn above_the_ceiling_all_requests_are_throttled_without_a_hint() {
    let scene = Scene::new(Options { max_requests_per_second: Some(0), ..Options::default() }).await;
    let id = scene.readable().order_id;
    assert_eq!(refused(scene.oauth("token", &grant(None))).await.0, 429);
    let response = scene.chat(&id, STATIC_TOKEN).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!response.headers().contains_key("retry-after"));
    scene.running.set_max_requests_per_second(None);
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.0, StatusCode::OK);
    let expected = Stats { requests: 3, chat_requests: 1, throttled: 2, ..Stats::default() };
    assert_eq!(scene.running.stats(), expected);
    scene.running.stop().await;
}

#[tokio::test]
async fn an_unknown_path_answers_like_a_proxy() {
    let scene = Scene::new(Options::default()).await;
    let response = scene.client.get(scene.url(&["v3", "chat"])).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.text().await.unwrap().starts_with("<html>"));
    scene.running.stop().await;
}

#[tokio::test]
async fn read_receipts_appear_on_demand_or_in_time() {
    let mut scene = Scene::new(Options::default()).await;
    let differs = |id: &String| reply(&scene.options, id, false) != reply(&scene.options, id, true);
    let id = orders(&scene.options).map(|order| order.order_id).find(differs).unwrap();
    let [unread, read] = [false, true]
        .map(|receipts| serde_json::from_slice::<Value>(&reply(&scene.options, &id, receipts).unwrap()).unwrap());
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.1, unread);
    scene.running.show_read_receipts();
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.1, read);
    scene.running.stop().await;

    scene = Scene::new(Options { read_after: Some(Duration::ZERO), ..Options::default() }).await;
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.1, read);
    scene.running.stop().await;
}

#[tokio::test]
async fn stopping_frees_the_address_even_with_idle_connections() {
    let scene = Scene::new(Options::default()).await;
    send(scene.chat("any", STATIC_TOKEN)).await;
    let address = scene.running.address();
    let idle = tokio::net::TcpStream::connect(address).await.unwrap();
    scene.running.stop().await;
    start(address, scene.options).await.unwrap().stop().await;
    drop(idle);
}
