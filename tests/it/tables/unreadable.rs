//! What cannot be read is counted and kept, and spoils nothing else.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, three_messages, tuples};
use crate::support::{Lab, tests};

tests!(
    an_unreadable_field_loses_only_that_field,
    an_unreadable_field_erases_nothing_and_is_forgotten_once_it_can_be_read,
    a_conversation_with_unreadable_fields_is_captured,
    messages_that_were_left_out_are_counted_until_a_reply_has_them_all,
    an_unreadable_chat_user_does_not_spoil_a_good_read,
    a_reject_is_kept_once,
);

async fn an_unreadable_field_loses_only_that_field(lab: Arc<Lab>) -> anyhow::Result<()> {
    let reply = json!({"chat_messages": [
        {"id": 1, "body": "a", "image": {"url": "1.jpg", "size": [1, 2.5]}, "read": "maybe"},
        {"id": 2, "body": {"text": "b"}, "created_at": 1_769_882_400, "order_id": 5.5, "sender_id": 1, "sender_type": 7},
        {"id": 3, "body": "c", "created_at": "2026-01-31T18:00:00", "mood": "good", "recipient_id": "99999999999999999999"},
        {"id": 4, "body": true, "created_at": "0000-01-01T00:00:00+23:59", "read_at": "12026-01-01T00:00:00Z"},
    ]});
    let api = Api::start(reply).await;
    let run = api.sync(&lab).await?;
    assert_eq!((run.status.as_str(), run.counters.fetched, run.counters.messages_inserted), ("succeeded", 1, 4));
    let rows = "SELECT string_agg(concat_ws(' ', message_id, body, unreadable, extra), '; ' ORDER BY position)
                FROM chat.messages";
    let expected = [
        r#"1 a {image,read} {"read": "maybe", "image": {"url": "1.jpg", "size": [1, 2.5]}}"#,
        r#"2 {body,created_at,order_id,sender_type} {"body": {"text": "b"}, "order_id": 5.5, "created_at": 1769882400, "sender_type": 7}"#,
        r#"3 c {created_at,recipient_id} {"mood": "good", "created_at": "2026-01-31T18:00:00", "recipient_id": "99999999999999999999"}"#,
        r#"4 {body,read_at} {"body": true, "read_at": "12026-01-01T00:00:00Z"}"#,
    ];
    assert_eq!(lab.text(rows).await?, Some(expected.join("; ")));
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 0);
    let order =
        "SELECT concat_ws(' ', state, failures, last_error_kind, last_fetched_at IS NOT NULL) FROM sync.order_queue";
    assert_eq!(lab.text(order).await?.as_deref(), Some("open 0 t"));
    Ok(())
}

async fn an_unreadable_field_erases_nothing_and_is_forgotten_once_it_can_be_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Value::Null).await;
    let row = "SELECT concat_ws(' ', coalesce(image_url, '-'), created_at, coalesce(unreadable::text, '-'), extra)
               FROM chat.messages";
    let odd = json!({"url": "x"});
    for (image, created_at, mood, expected) in [
        (odd.clone(), json!(5), Value::Null, r#"- {created_at,image} {"image": {"url": "x"}, "created_at": 5}"#),
        // Missing values change nothing.
        (Value::Null, Value::Null, Value::Null, r#"- {created_at,image} {"image": {"url": "x"}, "created_at": 5}"#),
        (json!("1.jpg"), Value::Null, json!(1), r#"1.jpg {created_at} {"mood": 1, "created_at": 5}"#),
        (json!("1.jpg"), json!("2026-01-01T00:00:00Z"), Value::Null, r#"1.jpg 2026-01-01 00:00:00+00 - {"mood": 1}"#),
        (
            odd,
            json!(6),
            json!(2),
            r#"1.jpg 2026-01-01 00:00:00+00 {created_at,image} {"mood": 2, "image": {"url": "x"}, "created_at": 6}"#,
        ),
        (json!("2.jpg"), json!("2026-01-02T00:00:00Z"), json!(2), r#"2.jpg 2026-01-02 00:00:00+00 - {"mood": 2}"#),
    ] {
        let mut message = json!({"id": 1, "image": image, "created_at": created_at});
        if !mood.is_null() {
            message["mood"] = mood;
        }
        let reply = json!({"chat_messages": [message]});
        api.sync_reply(&lab, reply.clone()).await?;
        assert_eq!(lab.text(row).await?.as_deref(), Some(expected));
        let before = tuples(&lab).await?;
        api.sync_reply(&lab, reply).await?;
        assert_eq!(tuples(&lab).await?, before, "{expected}");
    }
    let forgotten = json!({"chat_messages": [{"id": 2, "read": {}}]});
    api.sync_reply(&lab, forgotten).await?;
    api.sync_reply(&lab, json!({"chat_messages": [{"id": 2, "read": false}]})).await?;
    assert_eq!(
        lab.count("SELECT count(*) FROM chat.messages WHERE message_id = 2 AND extra IS NULL AND unreadable IS NULL")
            .await?,
        1
    );
    Ok(())
}

async fn a_conversation_with_unreadable_fields_is_captured(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut reply = three_messages();
    for message in reply["chat_messages"].as_array_mut().expect("a list") {
        message["created_at"] = "31.01.2026 18:00".into();
        message["image"] = json!([]);
    }
    let api = Api::start(reply).await;
    api.sync(&lab).await?;
    api.sync_reply(&lab, json!({"chat_messages": [], "is_expired": "true"})).await?;
    let order = "SELECT concat_ws(' ', o.coverage, o.message_count, o.messages_left_out, o.first_message_at, q.state)
                 FROM chat.orders AS o JOIN sync.order_queue AS q USING (order_id)";
    assert_eq!(lab.text(order).await?.as_deref(), Some("captured 3 0 expired"));
    Ok(())
}

async fn messages_that_were_left_out_are_counted_until_a_reply_has_them_all(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut broken = three_messages();
    broken["chat_messages"][1]["id"] = Value::Null;
    broken["chat_messages"].as_array_mut().expect("a list").push(json!({"id": 1, "body": "another"}));
    let order = "SELECT concat_ws(' ', o.coverage, o.message_count, o.messages_left_out, q.last_fetched_at IS NOT NULL)
                 FROM chat.orders AS o JOIN sync.order_queue AS q USING (order_id)";
    let api = Api::start(broken.clone()).await;
    let empty = json!({"chat_messages": []});
    let full = three_messages();
    for (reply, expected) in [
        (&broken, "captured_open 2 2 f"),
        // It has no messages.
        (&empty, "captured_open 2 2 f"),
        (&full, "captured_open 3 0 t"),
        (&broken, "captured_open 3 2 t"),
    ] {
        api.sync_reply(&lab, reply.clone()).await?;
        assert_eq!(lab.text(order).await?.as_deref(), Some(expected));
    }
    // A day later it has expired; the last good read was too early.
    sqlx::query("UPDATE sync.order_queue SET last_fetched_at = now() - interval '25 hours'").execute(&lab.pool).await?;
    api.sync_reply(&lab, json!({"chat_messages": [], "is_expired": true})).await?;
    assert_eq!(lab.text(order).await?.as_deref(), Some("expired_partial 3 2 t"));
    Ok(())
}

async fn an_unreadable_chat_user_does_not_spoil_a_good_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut reply = three_messages();
    reply["metadata"] = json!({
        "customer": {"id": "1", "display_name": ["Ann"], "avatar_url": "a.jpg"},
        "current_shopper": {"display_name": "no id"}, "shoppers": [{"id": 2.0, "display_name": "Bob"}]
    });
    let api = Api::start(reply.clone()).await;
    api.sync(&lab).await?;
    let users = "SELECT string_agg(concat_ws(' ', user_type, user_id, display_name, avatar_url), '; ' ORDER BY user_id)
                 FROM chat.users";
    assert_eq!(lab.text(users).await?.as_deref(), Some("user 1 a.jpg; driver 2 Bob"));
    let parts = "SELECT string_agg(json_path || ' ' || body, '; ' ORDER BY json_path) FROM sync.rejects";
    let expected =
        r#"$.metadata.current_shopper.id {"display_name":"no id"}; $.metadata.customer.display_name ["Ann"]"#;
    assert_eq!(lab.text(parts).await?.as_deref(), Some(expected));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE last_fetched_at IS NOT NULL").await?, 1);
    // A vanished message is still noticed.
    reply["chat_messages"].as_array_mut().expect("a list").pop();
    api.sync_reply(&lab, reply).await?;
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages WHERE removed_at IS NOT NULL").await?, 1);
    Ok(())
}

async fn a_reject_is_kept_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    let reply = json!({"chat_messages": [{"id": 1, "body": "good"}, {"body": "no id"}]});
    let api = Api::start(reply.clone()).await;
    let run = api.sync(&lab).await?;
    assert_eq!((run.counters.fetched, run.counters.messages_inserted, run.status.as_str()), (1, 1, "succeeded"));
    let reject = "SELECT concat_ws(' | ', kind, http_status, json_path, body, body_bytes) FROM sync.rejects";
    let expected = r#"partly_understood | 200 | $.chat_messages[1].id | {"body":"no id"} | 16"#;
    assert_eq!(lab.text(reject).await?.as_deref(), Some(expected));
    api.sync_reply(&lab, reply).await?;
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 1);
    assert_eq!(lab.text("SELECT last_error_kind FROM sync.order_queue").await?.as_deref(), Some("partly_understood"));
    Ok(())
}
