//! What the row of an order states about its conversation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, put_back, three_messages};
use crate::support::http::Answer;
use crate::support::{GUARD_OFF, Lab, tests};

tests!(
    completeness_is_stated_only_where_it_is_proven,
    an_order_never_found_has_a_row_too,
    a_conversation_of_the_older_api_becomes_quiet,
    an_order_put_back_after_its_closure_is_open_again,
);

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
    assert_eq!((run.counters.closed, run.counters.fetched, run.status.as_str()), (1, 0, "succeeded"));
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
