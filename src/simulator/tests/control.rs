//! Tests the control endpoint.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::super::{Lifecycle, Options, STATIC_TOKEN, Stats};
use super::scene::{Scene, refused, send};

fn control(scene: &Scene, method: Method, what: &str, body: &Value) -> RequestBuilder {
    scene.client.request(method, scene.url(&["_simulator", what])).body(body.to_string())
}

#[tokio::test]
async fn faults_are_set_shown_and_cleared() {
    let scene = Scene::new(Options::default()).await;
    let faults = json!(["status=1:503", "chat.latency-spike=0:1h"]);
    let (status, set) = send(control(&scene, Method::PUT, "faults", &faults)).await;
    let fault = |struck| json!([{"fault": "status=1:503", "struck": struck}, {"fault": "chat.latency-spike=0:1h", "struck": 0}]);
    assert_eq!((status, &set["faults"]), (StatusCode::OK, &fault(0)));
    let id = scene.readable().order_id;
    assert_eq!(refused(scene.chat(&id, STATIC_TOKEN)).await.0, 503);
    let (_, shown) = send(control(&scene, Method::GET, "faults", &Value::Null)).await;
    assert_eq!(shown["faults"], fault(1));
    assert_eq!((&shown["stats"]["requests"], &shown["stats"]["chat_requests"]), (&json!(1), &json!(1)));
    let (_, cleared) = send(control(&scene, Method::DELETE, "faults", &Value::Null)).await;
    assert_eq!(cleared["faults"], json!([]));
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.0, StatusCode::OK);
    scene.running.stop().await;
}

#[tokio::test]
async fn it_is_not_counted_throttled_or_hit_by_faults() {
    let faults = vec!["cut".parse().unwrap()];
    let scene = Scene::new(Options { max_requests_per_second: Some(0), faults, ..Options::default() }).await;
    assert_eq!(send(control(&scene, Method::GET, "faults", &Value::Null)).await.0, StatusCode::OK);
    assert_eq!(scene.running.stats(), Stats::default());
    let id = scene.readable().order_id;
    assert_eq!(refused(scene.chat(&id, STATIC_TOKEN)).await.0, 429);
    send(control(&scene, Method::DELETE, "faults", &Value::Null)).await;
    send(control(&scene, Method::PUT, "limit", &json!({"max_requests_per_second": null}))).await;
    assert_eq!(send(scene.chat(&id, STATIC_TOKEN)).await.0, StatusCode::OK);
    scene.running.stop().await;
}

#[tokio::test]
async fn it_revokes_all_tokens() {
    let scene = Scene::new(Options::default()).await;
    let token = scene.token(None).await;
    assert_eq!(send(control(&scene, Method::DELETE, "tokens", &Value::Null)).await.0, StatusCode::OK);
    assert_eq!(refused(scene.chat(&scene.readable().order_id, &token)).await.0, 401);
    scene.running.stop().await;
}

#[tokio::test]
async fn it_shows_and_moves_the_time_and_lists_the_orders_placed_by_then() {
    let lifecycle = Some(Lifecycle { epoch: Utc::now(), span: Duration::from_hours(100) });
    let scene = Scene::new(Options { lifecycle, orders: 50, ..Options::default() }).await;
    let time = async |request| {
        let reply = send(request).await.1;
        reply["now"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap()
    };
    let placed = async || {
        let list = control(&scene, Method::GET, "orders", &Value::Null).send().await.unwrap().text().await.unwrap();
        list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let before = time(control(&scene, Method::GET, "clock", &Value::Null)).await;
    let after = time(control(&scene, Method::POST, "clock", &json!({"advance": "50h"}))).await;
    assert!(after - before >= TimeDelta::hours(50));
    let half = placed().await;
    assert!((10..40).contains(&half.len()), "{} placed", half.len());
    assert!(half.iter().any(|order| order["completed_at"].is_string()));
    time(control(&scene, Method::POST, "clock", &json!({"advance": "60h"}))).await;
    assert_eq!(placed().await.len(), 50);
    scene.running.stop().await;
}

#[tokio::test]
async fn invalid_requests_change_nothing_and_are_reported() {
    let scene = Scene::new(Options { faults: vec!["cut=0".parse().unwrap()], ..Options::default() }).await;
    for (what, body, reason) in [
        ("faults", json!(["errors=0.5", "typo"]), "no such fault"),
        ("faults", json!({"errors": 0.5}), "sequence"),
        ("limit", json!({"per_second": 5}), "max_requests_per_second"),
    ] {
        let (status, reply) = send(control(&scene, Method::PUT, what, &body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(reply["error"].as_str().unwrap().contains(reason), "{reply}");
    }
    assert_eq!(scene.running.struck(), [("cut=0".to_owned(), 0)]);
    scene.running.stop().await;
}
