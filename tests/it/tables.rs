//! Schema `chat` after one or several replies: every value, and what a later reply may change.

use std::sync::{Arc, Mutex};

use chatsync::simulator;
use serde_json::{Value, json};

use crate::support::http::{Answer, Recorder};
use crate::support::{GUARD_OFF, Lab, tests};

tests!(
    the_documented_reply_becomes_the_right_rows,
    every_value_of_every_simulated_reply_is_stored,
    the_same_orders_again_change_nothing_at_all,
    a_read_receipt_changes_its_row_and_no_other,
    read_never_goes_back_to_unread,
    a_message_that_vanished_stays_with_removed_at,
    nothing_is_removed_by_a_partly_understood_reply,
    an_empty_expired_or_404_reply_takes_nothing_away,
    what_the_api_no_longer_sends_is_kept,
    a_new_shopper_takes_over_and_the_old_one_is_kept,
    a_name_is_replaced_by_a_newer_one_and_never_erased,
    what_postgresql_cannot_store_is_replaced_and_marked,
    unknown_fields_are_kept,
    values_of_another_type_make_the_same_rows,
    an_unreadable_field_loses_only_that_field,
    an_unreadable_field_erases_nothing_and_is_forgotten_once_it_can_be_read,
    a_conversation_with_unreadable_fields_is_captured,
    messages_that_were_left_out_are_counted_until_a_reply_has_them_all,
    an_unreadable_chat_user_does_not_spoil_a_good_read,
    completeness_is_stated_only_where_it_is_proven,
    an_order_never_found_has_a_row_too,
    a_conversation_of_the_older_api_becomes_quiet,
    an_order_put_back_after_its_closure_is_open_again,
    a_reject_is_kept_once,
    a_reply_that_comes_back_is_written_again,
    the_same_bytes_are_known_without_being_read,
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

async fn the_same_orders_again_change_nothing_at_all(lab: Arc<Lab>) -> anyhow::Result<()> {
    let options = simulator::Options { orders: 300, ..Default::default() };
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options.clone()).await?;
    let orders: Vec<_> = simulator::orders(&options).map(|order| order.order_id).collect();
    lab.enqueue(&orders.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let first = lab.sync(&api.base_url(), &[]).await?.run;
    let before = (lab.dump("chat").await?, tuples(&lab).await?);
    lab.make_all_due().await?;
    let second = lab.sync(&api.base_url(), &[]).await?.run;
    api.stop().await;
    // Not even rewritten: the row versions are the same.
    assert_eq!((lab.dump("chat").await?, tuples(&lab).await?), before);
    assert!(second.fetched > 250 && second.unchanged == second.fetched, "{second:?}");
    assert_eq!((second.messages_inserted, second.messages_updated, second.users_written), (0, 0, 0));
    assert_eq!(first.claimed, 300);
    Ok(())
}

async fn a_read_receipt_changes_its_row_and_no_other(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut reply = three_messages();
    let api = Api::start(reply.clone()).await;
    api.sync(&lab).await?;
    let before = lab.dump("chat").await?;
    reply["chat_messages"][1]["read"] = true.into();
    reply["chat_messages"][1]["read_at"] = "2026-01-01T10:05:00Z".into();
    let run = api.sync_reply(&lab, reply).await?;
    let after = lab.dump("chat").await?;
    let changed: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(changed[0].contains(r#""message_id": 2"#) && changed[0].contains(r#""is_read": true"#), "{changed:?}");
    assert_eq!((run.messages_inserted, run.messages_updated, run.users_written), (0, 1, 0));
    Ok(())
}

async fn read_never_goes_back_to_unread(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut reply = three_messages();
    reply["chat_messages"][0]["read"] = true.into();
    reply["chat_messages"][0]["read_at"] = "2026-01-01T10:05:00Z".into();
    let api = Api::start(reply).await;
    api.sync(&lab).await?;
    let before = lab.dump("chat").await?;
    api.sync_reply(&lab, three_messages()).await?;
    assert_eq!(lab.dump("chat").await?, before);
    Ok(())
}

async fn a_message_that_vanished_stays_with_removed_at(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(three_messages()).await;
    api.sync(&lab).await?;
    let mut shorter = three_messages();
    shorter["chat_messages"].as_array_mut().expect("a list").remove(0);
    let run = api.sync_reply(&lab, shorter).await?;
    // The removed one; the other two moved up.
    assert_eq!(run.messages_updated, 3);
    let removed = "SELECT string_agg(message_id || ' ' || body, ',') FROM chat.messages WHERE removed_at IS NOT NULL";
    assert_eq!(lab.text(removed).await?.as_deref(), Some("1 first"));
    assert_eq!(lab.count("SELECT message_count::bigint FROM chat.orders").await?, 3);
    api.sync_reply(&lab, three_messages()).await?;
    assert_eq!(lab.text(removed).await?, None);
    Ok(())
}

async fn nothing_is_removed_by_a_partly_understood_reply(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(three_messages()).await;
    api.sync(&lab).await?;
    let mut broken = three_messages();
    broken["chat_messages"][2] = json!({"id": "three", "body": "third"});
    api.sync_reply(&lab, broken).await?;
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages WHERE removed_at IS NULL").await?, 3);
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 1);
    Ok(())
}

async fn an_empty_expired_or_404_reply_takes_nothing_away(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(documented_reply()).await;
    api.sync(&lab).await?;
    let content = async || -> anyhow::Result<Vec<String>> {
        Ok(lab.dump("chat").await?.into_iter().filter(|row| !row.starts_with("orders")).collect())
    };
    let before = content().await?;
    assert_eq!(before.len(), 11);
    let status = "SELECT status || ' ' || (closed_at IS NOT NULL) FROM chat.orders";
    let empty_metadata = json!({"customer": {"id": 99, "display_name": "Ghost"}});
    for (answer, expected) in [
        (Answer::json(200, &json!({"chat_messages": []})), "open false"),
        (Answer::json(200, &json!({"chat_messages": [], "metadata": empty_metadata})), "open false"),
        (
            Answer::json(200, &json!({"chat_messages": [], "is_expired": true, "metadata": empty_metadata})),
            "expired false",
        ),
        (Answer::json(200, &json!({"chat_messages": [], "metadata": {"is_expired": true}})), "expired false"),
        (Answer::not_found(), "closed true"),
    ] {
        api.answer(answer);
        put_back(&lab).await?;
        lab.sync(api.url(), &[GUARD_OFF]).await?;
        assert_eq!(content().await?, before, "{expected}");
        assert_eq!(lab.text(status).await?.as_deref(), Some(expected));
    }
    Ok(())
}

async fn what_the_api_no_longer_sends_is_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    let full = json!({
        "id": 1, "order_id": 5, "created_at": "2026-01-01T10:00:00Z", "sender_type": "user", "sender_id": 1,
        "recipient_type": "driver", "recipient_id": 2, "read": true, "read_at": "2026-01-01T10:01:00Z", "body": "hello",
        "image": "https://images.example/1.jpg", "mood": "good"
    });
    let metadata = json!({"customer": {"id": 1, "display_name": "Ann"}, "current_shopper": {"id": 2}});
    let api = Api::start(json!({"chat_messages": [full], "metadata": metadata})).await;
    api.sync(&lab).await?;
    let before = lab.dump("chat").await?;
    api.sync_reply(&lab, json!({"chat_messages": [{"id": 1}]})).await?;
    assert_eq!(lab.dump("chat").await?, before);
    Ok(())
}

async fn a_new_shopper_takes_over_and_the_old_one_is_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut reply = documented_reply();
    let api = Api::start(reply.clone()).await;
    api.sync(&lab).await?;
    // The new shopper is not in the list, the old one no longer is.
    reply["metadata"]["current_shopper"] = json!({"id": 77, "display_name": "Zoe"});
    reply["metadata"]["shoppers"].as_array_mut().expect("a list").retain(|shopper| shopper["id"] != 4);
    api.sync_reply(&lab, reply.clone()).await?;
    let current = "SELECT string_agg(user_id::text, ',') FROM chat.participants WHERE is_current";
    assert_eq!(lab.text(current).await?.as_deref(), Some("77"));
    assert_eq!(lab.count("SELECT count(*) FROM chat.participants WHERE role = 'shopper'").await?, 4);
    assert_eq!(lab.count("SELECT current_shopper_id FROM chat.orders").await?, 77);
    // A reply without a current shopper changes none.
    reply["metadata"]["current_shopper"] = Value::Null;
    api.sync_reply(&lab, reply).await?;
    assert_eq!(lab.text(current).await?.as_deref(), Some("77"));
    Ok(())
}

async fn a_name_is_replaced_by_a_newer_one_and_never_erased(lab: Arc<Lab>) -> anyhow::Result<()> {
    let customer = |name: Value, avatar: Value| json!({"chat_messages": [], "metadata": {"customer": {"id": 1, "display_name": name, "avatar_url": avatar}}});
    let user = "SELECT concat(display_name, '|', avatar_url) FROM chat.users";
    let api = Api::start(customer(json!("Ann"), json!("a.jpg"))).await;
    api.sync(&lab).await?;
    api.sync_reply(&lab, customer(json!("Anne"), json!(""))).await?;
    assert_eq!(lab.text(user).await?.as_deref(), Some("Anne|a.jpg"));
    api.sync_reply(&lab, customer(Value::Null, json!("b.jpg"))).await?;
    assert_eq!(lab.text(user).await?.as_deref(), Some("Anne|b.jpg"));
    // Another order has seen the user later than this request was sent.
    sqlx::query("UPDATE chat.users SET observed_at = now() + interval '1 hour'").execute(&lab.pool).await?;
    let run = api.sync_reply(&lab, customer(json!("Old"), json!("old.jpg"))).await?;
    assert_eq!(lab.text(user).await?.as_deref(), Some("Anne|b.jpg"));
    assert_eq!(run.users_written, 0);
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
    assert_eq!((run.status.as_str(), run.messages_inserted, run.messages_left_out), ("succeeded", 1, 0));
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 0);
    let before = tuples(&lab).await?;
    assert_eq!(api.sync_reply(&lab, documented).await?.messages_updated, 0);
    assert_eq!(tuples(&lab).await?, before);
    Ok(())
}

async fn an_unreadable_field_loses_only_that_field(lab: Arc<Lab>) -> anyhow::Result<()> {
    let reply = json!({"chat_messages": [
        {"id": 1, "body": "a", "image": {"url": "1.jpg", "size": [1, 2.5]}, "read": "maybe"},
        {"id": 2, "body": {"text": "b"}, "created_at": 1_769_882_400, "order_id": 5.5, "sender_id": 1, "sender_type": 7},
        {"id": 3, "body": "c", "created_at": "2026-01-31T18:00:00", "mood": "good", "recipient_id": "99999999999999999999"},
        {"id": 4, "body": true, "created_at": "0000-01-01T00:00:00+23:59", "read_at": "12026-01-01T00:00:00Z"},
    ]});
    let api = Api::start(reply).await;
    let run = api.sync(&lab).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.messages_inserted), ("succeeded", 1, 4));
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

async fn completeness_is_stated_only_where_it_is_proven(lab: Arc<Lab>) -> anyhow::Result<()> {
    let expired = json!({"chat_messages": [], "is_expired": true});
    let silent = json!({"chat_messages": [], "is_expired": false});
    let coverage = "SELECT coverage FROM chat.orders";
    for (first, hours_ago, expected) in [
        (Some(three_messages()), 23, "captured"),
        (Some(three_messages()), 25, "expired_partial"),
        (Some(silent.clone()), 23, "no_chat"),
        (Some(silent), 25, "expired_partial"),
        (None, 0, "expired_unread"),
    ] {
        sqlx::query("TRUNCATE sync.order_queue, chat.orders, chat.messages").execute(&lab.pool).await?;
        let api = Api::start(first.clone().unwrap_or_else(|| expired.clone())).await;
        if first.is_some() {
            api.sync(&lab).await?;
            assert_eq!(lab.text(coverage).await?.as_deref(), Some("captured_open"));
            sqlx::query("UPDATE sync.order_queue SET last_fetched_at = now() - make_interval(hours => $1)")
                .bind(hours_ago)
                .execute(&lab.pool)
                .await?;
        }
        api.sync_reply(&lab, expired.clone()).await?;
        assert_eq!(lab.text(coverage).await?.as_deref(), Some(expected), "{hours_ago} h");
        assert_eq!(
            lab.text("SELECT state FROM sync.order_queue WHERE expired_at IS NOT NULL").await?.as_deref(),
            Some("expired")
        );
    }
    Ok(())
}

async fn an_order_never_found_has_a_row_too(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(Value::Null).await;
    api.answer(Answer::not_found());
    let run = api.sync(&lab).await?;
    assert_eq!((run.closed, run.fetched, run.status.as_str()), (1, 0, "succeeded"));
    let row = "SELECT concat_ws(' ', o.status, o.coverage, q.state, o.closed_at = q.closed_at, o.message_count)
               FROM chat.orders AS o JOIN sync.order_queue AS q USING (order_id)";
    assert_eq!(lab.text(row).await?.as_deref(), Some("closed not_found closed t 0"));
    Ok(())
}

async fn a_conversation_of_the_older_api_becomes_quiet(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(three_messages()).await;
    api.sync(&lab).await?;
    let state = "SELECT q.state || ' ' || o.status || ' ' || o.coverage
                 FROM sync.order_queue AS q JOIN chat.orders AS o USING (order_id)";
    sqlx::query("UPDATE sync.order_queue SET last_changed_at = now() - interval '6 days'").execute(&lab.pool).await?;
    api.sync_reply(&lab, three_messages()).await?;
    assert_eq!(lab.text(state).await?.as_deref(), Some("open open captured_open"));
    sqlx::query("UPDATE sync.order_queue SET last_changed_at = now() - interval '8 days'").execute(&lab.pool).await?;
    api.sync_reply(&lab, three_messages()).await?;
    assert_eq!(lab.text(state).await?.as_deref(), Some("quiet quiet captured_open"));
    Ok(())
}

async fn an_order_put_back_after_its_closure_is_open_again(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Api::start(three_messages()).await;
    api.sync(&lab).await?;
    api.answer(Answer::not_found());
    lab.make_all_due().await?;
    lab.sync(api.url(), &[GUARD_OFF]).await?;
    let order = "SELECT concat_ws(' ', status, coverage, closed_at) FROM chat.orders";
    assert!(lab.text(order).await?.is_some_and(|order| order.starts_with("closed expired_partial 2")));
    let before: Vec<_> = lab.dump("chat").await?.into_iter().filter(|row| row.starts_with("messages")).collect();
    put_back(&lab).await?;
    api.sync_reply(&lab, three_messages()).await?;
    assert_eq!(lab.text(order).await?.as_deref(), Some("open captured_open"));
    let after: Vec<_> = lab.dump("chat").await?.into_iter().filter(|row| row.starts_with("messages")).collect();
    assert_eq!(before, after);
    Ok(())
}

async fn a_reject_is_kept_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    let reply = json!({"chat_messages": [{"id": 1, "body": "good"}, {"body": "no id"}]});
    let api = Api::start(reply.clone()).await;
    let run = api.sync(&lab).await?;
    assert_eq!((run.fetched, run.messages_inserted, run.status.as_str()), (1, 1, "succeeded"));
    let reject = "SELECT concat_ws(' | ', kind, http_status, json_path, body, body_bytes) FROM sync.rejects";
    let expected = r#"partly_understood | 200 | $.chat_messages[1].id | {"body":"no id"} | 16"#;
    assert_eq!(lab.text(reject).await?.as_deref(), Some(expected));
    api.sync_reply(&lab, reply).await?;
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 1);
    assert_eq!(lab.text("SELECT last_error_kind FROM sync.order_queue").await?.as_deref(), Some("partly_understood"));
    Ok(())
}

async fn a_reply_that_comes_back_is_written_again(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut one = three_messages();
    one["is_expired"] = false.into();
    let mut other = one.clone();
    other["chat_messages"][0]["body"] = "edited".into();
    let api = Api::start(one.clone()).await;
    api.sync(&lab).await?;
    let body = "SELECT body FROM chat.messages WHERE message_id = 1";
    for (reply, expected) in [(&other, "edited"), (&one, "first"), (&other, "edited")] {
        let run = api.sync_reply(&lab, reply.clone()).await?;
        assert_eq!((run.unchanged, run.messages_updated), (0, 1));
        assert_eq!(lab.text(body).await?.as_deref(), Some(expected));
        let run = api.sync(&lab).await?;
        assert_eq!((run.fetched, run.unchanged, run.messages_updated), (1, 1, 0));
    }
    // A retried order is written again, even if its rows were changed.
    sqlx::query("UPDATE chat.messages SET body = 'spoilt by hand'").execute(&lab.pool).await?;
    put_back(&lab).await?;
    assert_eq!(api.sync(&lab).await?.unchanged, 0);
    assert_eq!(lab.text(body).await?.as_deref(), Some("edited"));
    Ok(())
}

async fn the_same_bytes_are_known_without_being_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut speaking = three_messages();
    speaking["is_expired"] = false.into();
    for (reply, is_known) in [(speaking, true), (three_messages(), false)] {
        let api = Api::start(reply).await;
        api.sync(&lab).await?;
        // If they were decoded, they would differ.
        sqlx::query("UPDATE sync.order_queue SET content_hash = 'another'").execute(&lab.pool).await?;
        let run = api.sync(&lab).await?;
        assert_eq!((run.fetched, run.unchanged == 1), (1, is_known));
    }
    Ok(())
}

/// An API that gives one answer for every order, until it changes.
struct Api {
    server: Recorder,
    answer: Arc<Mutex<Answer>>,
}

impl Api {
    async fn start(reply: Value) -> Self {
        let answer = Arc::new(Mutex::new(Answer::json(200, &reply)));
        let given = Arc::clone(&answer);
        let server = Recorder::start(move |_| given.lock().expect("not poisoned").clone()).await;
        Self { server, answer }
    }

    fn url(&self) -> &str {
        self.server.url()
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    /// Syncs the order `order`, and enqueues it if necessary.
    async fn sync(&self, lab: &Lab) -> anyhow::Result<chatsync::db::runs::Run> {
        lab.enqueue(&["order"]).await?;
        lab.make_all_due().await?;
        Ok(lab.sync(self.url(), &[]).await?.run)
    }

    async fn sync_reply(&self, lab: &Lab, reply: Value) -> anyhow::Result<chatsync::db::runs::Run> {
        self.answer(Answer::json(200, &reply));
        self.sync(lab).await
    }
}

/// As `chatsync retry --order`.
async fn put_back(lab: &Lab) -> anyhow::Result<()> {
    let retry = chatsync::db::queue::Retry { order_ids: vec!["order".to_owned()], ..Default::default() };
    chatsync::db::queue::retry(&lab.store, &retry).await?;
    Ok(())
}

/// Position and transaction of each row of schema chat: changes when a row is rewritten or locked.
async fn tuples(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "SELECT concat_ws(' ', 'm', ctid, xmin, xmax) FROM chat.messages
         UNION ALL SELECT concat_ws(' ', 'u', ctid, xmin, xmax) FROM chat.users
         UNION ALL SELECT concat_ws(' ', 'p', ctid, xmin, xmax) FROM chat.participants
         UNION ALL SELECT concat_ws(' ', 'o', ctid, xmin, xmax) FROM chat.orders
         ORDER BY 1",
    )
    .fetch_all(&lab.pool)
    .await?;
    Ok(rows)
}

/// A time in microseconds, the precision of PostgreSQL.
fn moment(value: &Value) -> Option<i64> {
    let time = value.as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(time).expect("RFC 3339").timestamp_micros())
}

/// The example of the API documentation.
fn documented_reply() -> Value {
    json!({
        "chat_messages": [{
            "id": 123_456_789, "order_id": 122_233, "created_at": "2021-01-01T00:00:00Z",
            "recipient_id": 334_354_343, "recipient_type": "user", "sender_id": 55_655_345, "sender_type": "driver",
            "read": false, "body": "MessageBody"
        }],
        "metadata": {
            "customer": {"id": 2, "display_name": "John", "avatar_url": ""},
            "current_shopper": {
                "id": 4, "display_name": "Robert",
                "avatar_url": "https://speedwagon.foundation/avatar/reospeedwagon.jpg"
            },
            "shoppers": [
                {"id": 55_655_345, "display_name": "SomeFirstName", "avatar_url": "SomeURL"},
                {"id": 123_456_789, "display_name": "SomeFirstName2", "avatar_url": "SomeURL2"},
                {
                    "id": 4, "display_name": "Robert",
                    "avatar_url": "https://speedwagon.foundation/avatar/reospeedwagon.jpg"
                }
            ]
        }
    })
}

fn three_messages() -> Value {
    let message = |id: i64, body: &str| {
        json!({
            "id": id, "order_id": 5, "created_at": format!("2026-01-01T10:0{id}:00Z"), "sender_type": "user",
            "sender_id": 1, "recipient_type": "driver", "recipient_id": 2, "read": false, "body": body
        })
    };
    json!({"chat_messages": [message(1, "first"), message(2, "second"), message(3, "third")]})
}
