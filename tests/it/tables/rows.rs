//! Every value of a reply is in its row.

use std::sync::Arc;

use chatsync::simulator;
use serde_json::{Value, json};

use super::{Api, documented_reply, tuples};
use crate::support::http::Answer;
use crate::support::{Lab, tests};

tests!(
    the_documented_reply_becomes_the_right_rows,
    every_value_of_every_simulated_reply_is_stored,
    what_postgresql_cannot_store_is_replaced_and_marked,
    unknown_fields_are_kept,
    values_of_another_type_make_the_same_rows,
);

async fn the_documented_reply_becomes_the_right_rows(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(documented_reply()).await;
    api.sync(&lab).await?;
    let now = ["first_synced_at", "updated_at", "first_seen_at", "observed_at"];
    let expected = [
        r#"messages {"body": "MessageBody", "extra": null, "is_read": false, "read_at": null, "order_id": "order", "position": 0, "image_url": null, "sender_id": 55655345, "created_at": "2021-01-01T00:00:00+00:00", "is_altered": false, "message_id": 123456789, "removed_at": null, "unreadable": null, "body_length": 11, "sender_type": "driver", "recipient_id": 334354343, "recipient_type": "user", "instacart_order_id": 122233}"#,
        r#"orders {"status": "open", "coverage": "captured_open", "order_id": "order", "closed_at": null, "customer_id": 2, "message_count": 1, "last_message_at": "2021-01-01T00:00:00+00:00", "first_message_at": "2021-01-01T00:00:00+00:00", "messages_left_out": 0, "current_shopper_id": 4, "instacart_order_id": 122233}"#,
        r#"participants {"role": "correspondent", "user_id": 334354343, "order_id": "order", "user_type": "user", "is_current": false}"#,
        r#"participants {"role": "customer", "user_id": 2, "order_id": "order", "user_type": "user", "is_current": false}"#,
        r#"participants {"role": "shopper", "user_id": 123456789, "order_id": "order", "user_type": "driver", "is_current": false}"#,
        r#"participants {"role": "shopper", "user_id": 4, "order_id": "order", "user_type": "driver", "is_current": true}"#,
        r#"participants {"role": "shopper", "user_id": 55655345, "order_id": "order", "user_type": "driver", "is_current": false}"#,
        // Five: the customer, three shoppers (one is the sender), and the recipient, whom metadata does not name.
        r#"users {"user_id": 123456789, "user_type": "driver", "avatar_url": "SomeURL2", "display_name": "SomeFirstName2"}"#,
        r#"users {"user_id": 2, "user_type": "user", "avatar_url": null, "display_name": "John"}"#,
        r#"users {"user_id": 334354343, "user_type": "user", "avatar_url": null, "display_name": null}"#,
        r#"users {"user_id": 4, "user_type": "driver", "avatar_url": "https://speedwagon.foundation/avatar/reospeedwagon.jpg", "display_name": "Robert"}"#,
        r#"users {"user_id": 55655345, "user_type": "driver", "avatar_url": "SomeURL", "display_name": "SomeFirstName"}"#,
    ];
    let mut rows = lab.dump_without("chat", &now).await?;
    rows.sort();
    assert_eq!(rows, expected);
    Ok(())
}

async fn every_value_of_every_simulated_reply_is_stored(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = simulator::Options { orders: 150, not_found_share: 0.0, expired_share: 0.0, ..Default::default() };
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options.clone()).await?;
    let orders: Vec<_> = simulator::orders(&options).collect();
    lab.enqueue(&orders.iter().map(|order| order.order_id.as_str()).collect::<Vec<_>>()).await?;
    lab.sync(&api.base_url(), &[]).await?;
    api.stop().await;
    let mut compared = 0;
    for order in &orders {
        let reply = simulator::reply(&options, &order.order_id, false).expect("an order that exists");
        let reply: Value = serde_json::from_slice(&reply)?;
        let messages = reply["chat_messages"].as_array().expect("a list");
        let stored: Vec<Value> = sqlx::query_scalar(
            "SELECT jsonb_build_object(
                 'id', message_id, 'order_id', instacart_order_id, 'created_at', created_at,
                 'sender_type', sender_type, 'sender_id', sender_id, 'recipient_type', recipient_type,
                 'recipient_id', recipient_id, 'read', is_read, 'read_at', read_at, 'body', body, 'image', image_url)
             FROM chat.messages WHERE order_id = $1 ORDER BY position",
        )
        .bind(&order.order_id)
        .fetch_all(&lab.pool)
        .await?;
        assert_eq!(stored.len(), messages.len(), "{}", order.order_id);
        for (stored, sent) in stored.iter().zip(messages) {
            for (field, value) in stored.as_object().expect("an object") {
                let is_time = field.ends_with("_at");
                let sent = &sent[field];
                let same = if is_time { moment(value) == moment(sent) } else { value == sent };
                assert!(same, "{} {field}: {value} instead of {sent}", order.order_id);
                compared += 1;
            }
        }
    }
    assert!(compared > 5_000, "{compared} values");
    Ok(())
}

async fn what_postgresql_cannot_store_is_replaced_and_marked(lab: Arc<Lab>) -> anyhow::Result<()> {
    let reply = r#"{"chat_messages": [{"id": 1, "body": "a\u0000b \ud83d"}, {"id": 2, "body": "fine \ud83d\ude00"}]}"#;
    let api = Api::start(Value::Null).await;
    api.answer(Answer::new(200, reply));
    api.sync(&lab).await?;
    let bodies =
        "SELECT string_agg(body || ' ' || is_altered || ' ' || body_length, '; ' ORDER BY position) FROM chat.messages";
    assert_eq!(lab.text(bodies).await?.as_deref(), Some("a\u{fffd}b \u{fffd} true 5; fine 😀 false 6"));
    Ok(())
}

async fn unknown_fields_are_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    let unknown = r#""reactions": [{"emoji": "👍", "count": 2}], "cents": 123456789012345678901234567890.10"#;
    let message = format!(r#"{{"id": 1, "sender_type": "bot", "sender_id": 9, {unknown}}}"#);
    let api = Api::start(Value::Null).await;
    api.answer(Answer::new(200, format!(r#"{{"chat_messages": [{message}], "surprise": 1}}"#)));
    api.sync(&lab).await?;
    let stored = lab.text("SELECT extra::text || ' ' || sender_type FROM chat.messages").await?;
    let expected = r#"{"cents": 123456789012345678901234567890.10, "reactions": [{"count": 2, "emoji": "👍"}]} bot"#;
    assert_eq!(stored.as_deref(), Some(expected));
    assert_eq!(lab.text("SELECT user_type || user_id FROM chat.users").await?.as_deref(), Some("bot9"));
    Ok(())
}

async fn values_of_another_type_make_the_same_rows(lab: Arc<Lab>) -> anyhow::Result<()> {
    let documented = json!({
        "chat_messages": [{
            "id": 9_007_199_254_740_993_i64, "order_id": 5, "created_at": "2026-01-31T18:00:00Z", "sender_id": 1,
            "sender_type": "user", "recipient_id": 2, "recipient_type": "driver", "read": true, "body": "4"
        }],
        "metadata": {"customer": {"id": 1, "display_name": "7"}, "current_shopper": null, "shoppers": []},
        "is_expired": false
    });
    let gateway = json!({
        "chat_messages": [{
            "id": "9007199254740993", "order_id": 5.0, "created_at": "2026-01-31 18:00:00+0000", "sender_id": "1",
            "sender_type": "user", "recipient_id": "2", "recipient_type": "driver", "read": "true", "read_at": "",
            "body": 4, "image": ""
        }],
        "metadata": {"customer": {"id": "1", "display_name": 7}, "current_shopper": [], "shoppers": ""},
        "is_expired": "false"
    });
    let api = Api::start(gateway).await;
    let run = api.sync(&lab).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.messages_inserted, run.counters.messages_left_out),
        ("succeeded", 1, 0)
    );
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 0);
    let before = tuples(&lab).await?;
    assert_eq!(api.sync_reply(&lab, documented).await?.counters.messages_updated, 0);
    assert_eq!(tuples(&lab).await?, before);
    Ok(())
}

/// A time in microseconds, the precision of PostgreSQL.
fn moment(value: &Value) -> Option<i64> {
    let time = value.as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(time).expect("RFC 3339").timestamp_micros())
}
