//! What a later reply changes, and what it must not.

use std::sync::Arc;

use chatsync::simulator;
use serde_json::{Value, json};

use super::{Api, documented_reply, put_back, three_messages, tuples};
use crate::support::http::Answer;
use crate::support::{GUARD_OFF, Lab, tests};

tests!(
    the_same_orders_again_change_nothing_at_all,
    a_read_receipt_changes_its_row_and_no_other,
    read_never_goes_back_to_unread,
    a_message_that_vanished_stays_with_removed_at,
    nothing_is_removed_by_a_partly_understood_reply,
    an_empty_expired_or_404_reply_takes_nothing_away,
    what_the_api_no_longer_sends_is_kept,
    a_new_shopper_takes_over_and_the_old_one_is_kept,
    a_name_is_replaced_by_a_newer_one_and_never_erased,
    a_reply_that_comes_back_is_written_again,
    the_same_bytes_are_known_without_being_read,
);

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
    assert!(second.counters.fetched > 250 && second.counters.unchanged == second.counters.fetched, "{second:?}");
    assert_eq!(
        (second.counters.messages_inserted, second.counters.messages_updated, second.counters.users_written),
        (0, 0, 0)
    );
    assert_eq!(first.counters.claimed, 300);
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
    assert_eq!((run.counters.messages_inserted, run.counters.messages_updated, run.counters.users_written), (0, 1, 0));
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
    assert_eq!(run.counters.messages_updated, 3);
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
    assert_eq!(run.counters.users_written, 0);
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
        assert_eq!((run.counters.unchanged, run.counters.messages_updated), (0, 1));
        assert_eq!(lab.text(body).await?.as_deref(), Some(expected));
        let run = api.sync(&lab).await?;
        assert_eq!((run.counters.fetched, run.counters.unchanged, run.counters.messages_updated), (1, 1, 0));
    }
    // A retried order is written again, even if its rows were changed.
    sqlx::query("UPDATE chat.messages SET body = 'spoilt by hand'").execute(&lab.pool).await?;
    put_back(&lab).await?;
    assert_eq!(api.sync(&lab).await?.counters.unchanged, 0);
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
        assert_eq!((run.counters.fetched, run.counters.unchanged == 1), (1, is_known));
    }
    Ok(())
}
