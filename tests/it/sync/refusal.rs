//! Rows that PostgreSQL refuses: the order fails alone, and nothing that the API said is lost.

use std::sync::Arc;

use serde_json::json;

use super::{execute, feed, order_of};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};

tests!(
    one_refused_order_fails_alone_and_what_was_said_is_kept,
    a_refusal_that_lasts_ends_in_death,
    rows_whose_order_was_deleted_by_hand_are_completed,
);

async fn one_refused_order_fails_alone_and_what_was_said_is_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    sqlx::raw_sql("ALTER TABLE chat.messages ADD CONSTRAINT no_seven CHECK (order_id NOT IN ('order-7', 'order-77'))")
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.status.as_str(), report.run.fetched, report.run.failed), ("partial", 198, 2));
    assert_eq!(report.run.messages_inserted, 198);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 198);

    let queued = "SELECT string_agg(concat_ws(' ', order_id, state, attempts, last_error_kind), ', ' ORDER BY order_id)
                  FROM sync.order_queue WHERE last_error IS NOT NULL";
    let expected = "order-7 pending 1 not_storable, order-77 pending 1 not_storable";
    assert_eq!(lab.text(queued).await?.as_deref(), Some(expected));
    let kept = "SELECT count(*) FROM sync.rejects
                WHERE kind = 'not_storable' AND reason LIKE '%no_seven%' AND body LIKE '%words of ' || order_id || '\"%'";
    assert_eq!(lab.count(kept).await?, 2);
    let told = "SELECT count(*) FROM sync.order_queue WHERE last_error LIKE '%words of%'";
    assert_eq!(lab.count(told).await?, 0, "chat text stays out of error texts");

    sqlx::raw_sql("ALTER TABLE chat.messages DROP CONSTRAINT no_seven").execute(&lab.pool).await?;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() WHERE attempts > 0").await?;
    assert_eq!(lab.sync(api.url(), &[]).await?.run.fetched, 2);
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages").await?, 200);
    Ok(())
}

async fn a_refusal_that_lasts_ends_in_death(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    sqlx::raw_sql("ALTER TABLE chat.messages ADD CONSTRAINT none CHECK (false)").execute(&lab.pool).await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    for _ in 0..2 {
        lab.make_all_due().await?;
        lab.sync(api.url(), &[("queue.max_attempts", "2")]).await?;
    }
    let row =
        "SELECT concat_ws(' ', q.state, o.coverage) FROM sync.order_queue AS q JOIN chat.orders AS o USING (order_id)";
    assert_eq!(lab.text(row).await?.as_deref(), Some("dead failed"));
    Ok(())
}

async fn rows_whose_order_was_deleted_by_hand_are_completed(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 3).await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    lab.sync(api.url(), &[]).await?;
    execute(&lab, "DELETE FROM chat.orders WHERE order_id = 'order-2'").await?;
    execute(&lab, "UPDATE chat.messages SET body = 'something else' WHERE order_id = 'order-2'").await?;
    // One that the queue remembers to have read, and one that it knows nothing of any more.
    execute(&lab, "DELETE FROM chat.orders WHERE order_id = 'order-3'").await?;
    execute(&lab, "DELETE FROM sync.order_queue WHERE order_id = 'order-2'").await?;
    execute(&lab, "INSERT INTO sync.order_queue (order_id) VALUES ('order-2')").await?;
    execute(&lab, "UPDATE sync.order_queue SET content_hash = NULL, due_at = now()").await?;
    let run = lab.sync(api.url(), &[]).await?.run;
    assert_eq!((run.status.as_str(), run.fetched, run.messages_inserted, run.messages_updated), ("succeeded", 3, 0, 1));
    let row = "SELECT concat_ws(' ', o.message_count, m.body)
               FROM chat.orders AS o JOIN chat.messages AS m USING (order_id) WHERE order_id = 'order-2'";
    assert_eq!(lab.text(row).await?.as_deref(), Some("1 words of order-2"));
    Ok(())
}

fn conversation(order_id: &str) -> Answer {
    let message = json!({"id": 1, "body": format!("words of {order_id}"), "sender_id": 5, "sender_type": "driver"});
    Answer::json(200, &json!({"chat_messages": [message]}))
}
