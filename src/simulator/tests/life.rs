//! Tests orders that are placed, discussed, completed and deleted.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::super::{Lifecycle, Options, ReplyAge, STATIC_TOKEN, orders, reply_at};
use super::scene::{Scene, refused, send};

fn options() -> (Options, Lifecycle) {
    let lifecycle = Lifecycle { epoch: DateTime::UNIX_EPOCH, span: Duration::from_hours(48) };
    (Options { lifecycle: Some(lifecycle), orders: 100, not_found_share: 0.0, ..Options::default() }, lifecycle)
}

fn is_expired(reply: &Value) -> Option<bool> {
    reply["is_expired"].as_bool().or(reply["metadata"]["is_expired"].as_bool())
}

/// Removes the fields that later reading changes.
fn written(messages: &[Value]) -> Vec<Value> {
    let mut messages = messages.to_vec();
    for message in &mut messages {
        message.as_object_mut().unwrap().retain(|field, _| !field.starts_with("read"));
    }
    messages
}

#[test]
fn conversations_only_grow_until_they_are_deleted() {
    let (options, lifecycle) = options();
    let (mut no_chat, mut grown, mut read_later, mut relieved) = (0, 0, 0, 0);
    for order in orders(&options) {
        let life = order.life.unwrap();
        let at = |now: DateTime<Utc>| {
            let reply = reply_at(&options, lifecycle, &order.order_id, now)?;
            Some(serde_json::from_slice::<Value>(&reply).unwrap())
        };
        assert!(at(life.placed_at - TimeDelta::seconds(1)).is_none());
        let mut before: Vec<Value> = Vec::new();
        let mut shopper = Value::Null;
        for hours in 0.. {
            let now = life.placed_at + TimeDelta::hours(hours);
            let reply = at(now).unwrap();
            if now - life.completed_at >= TimeDelta::hours(24) {
                assert_eq!((is_expired(&reply), &reply["chat_messages"]), (Some(true), &json!([])));
                break;
            }
            assert_eq!(is_expired(&reply), Some(false));
            let messages = reply["chat_messages"].as_array().unwrap();
            assert_eq!(written(&messages[..before.len()]), written(&before));
            for message in messages {
                let created_at: DateTime<Utc> = message["created_at"].as_str().unwrap().parse().unwrap();
                assert!((life.placed_at..=now.min(life.completed_at)).contains(&created_at));
            }
            for (old, new) in before.iter().zip(messages) {
                assert!(old["read"] != true || old == new, "a receipt went back or changed");
                read_later += usize::from(old["read"] != true && new["read"] == true);
            }
            grown += usize::from(!before.is_empty() && messages.len() > before.len());
            let current = &reply["metadata"]["current_shopper"]["id"];
            relieved += usize::from(shopper.is_u64() && current.is_u64() && *current != shopper);
            if current.is_u64() {
                shopper.clone_from(current);
            }
            before.clone_from(messages);
        }
        no_chat += usize::from(before.is_empty());
    }
    assert!(
        no_chat > 5 && grown > 100 && read_later > 100 && relieved > 2,
        "{no_chat} {grown} {read_later} {relieved}"
    );
}

#[test]
fn old_replies_become_empty_without_reporting_expiry() {
    let (options, lifecycle) = options();
    let old = Options { reply_age: ReplyAge::Old, ..options };
    for order in orders(&old) {
        let end = order.life.unwrap().completed_at + TimeDelta::hours(24);
        let reply: Value = serde_json::from_slice(&reply_at(&old, lifecycle, &order.order_id, end).unwrap()).unwrap();
        assert_eq!((is_expired(&reply), &reply["chat_messages"]), (None, &json!([])));
    }
}

#[tokio::test]
async fn moving_the_clock_moves_orders_and_tokens() {
    let lifecycle = Some(Lifecycle { epoch: Utc::now() + TimeDelta::hours(1), span: Duration::from_secs(1) });
    let scene = Scene::new(Options { lifecycle, ..Options::default() }).await;
    let id = scene.readable().order_id;
    assert_eq!(refused(scene.chat(&id, STATIC_TOKEN)).await, (404, 4000));
    let token = scene.token(None).await;
    scene.running.advance(Duration::from_hours(7));
    let (status, body) = send(scene.chat(&id, &token)).await;
    assert_eq!((status, is_expired(&body)), (StatusCode::OK, Some(false)));
    scene.running.advance(Duration::from_hours(24));
    assert_eq!(refused(scene.chat(&id, &token)).await.0, 401);
    assert_eq!(is_expired(&send(scene.chat(&id, STATIC_TOKEN)).await.1), Some(true));
    scene.running.stop().await;
}
