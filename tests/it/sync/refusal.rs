//! Rows that PostgreSQL refuses: only their order fails, and its reply is kept.

use std::sync::Arc;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{execute, feed, order_of};
use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    one_refused_order_fails_alone_and_its_reply_is_kept,
    a_lasting_refusal_makes_the_order_dead,
    rows_whose_order_was_deleted_by_hand_are_completed,
    a_reject_that_is_refused_too_is_kept_without_its_body,
    an_order_stops_no_other_if_nothing_of_it_can_be_kept,
    an_order_that_a_trigger_refuses_as_a_passing_failure_stops_no_other,
    an_order_whose_queue_row_accepts_nothing_is_left_to_a_later_run,
    a_conversation_is_stored_even_if_its_rejects_cannot_be,
    the_message_of_a_trigger_is_not_repeated,
    messages_that_a_trigger_drops_are_missed,
);

async fn one_refused_order_fails_alone_and_its_reply_is_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    sqlx::raw_sql("ALTER TABLE chat.messages ADD CONSTRAINT no_seven CHECK (order_id NOT IN ('order-7', 'order-77'))")
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!(
        (report.run.status.as_str(), report.run.counters.fetched, report.run.counters.failed),
        ("partial", 198, 2)
    );
    assert_eq!(report.run.counters.messages_inserted, 198);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 198);

    let queued = "SELECT string_agg(concat_ws(' ', order_id, state, failures, last_error_kind), ', ' ORDER BY order_id)
                  FROM sync.order_queue WHERE last_error IS NOT NULL";
    let expected = "order-7 pending 1 not_storable, order-77 pending 1 not_storable";
    assert_eq!(lab.text(queued).await?.as_deref(), Some(expected));
    let kept = "SELECT count(*) FROM sync.rejects
                WHERE kind = 'not_storable' AND reason LIKE '%no_seven%' AND body LIKE '%words of ' || order_id || '\"%'";
    assert_eq!(lab.count(kept).await?, 2);
    let shown = "SELECT count(*) FROM sync.order_queue WHERE last_error LIKE '%words of%'";
    assert_eq!(lab.count(shown).await?, 0, "chat text stays out of error texts");

    sqlx::raw_sql("ALTER TABLE chat.messages DROP CONSTRAINT no_seven").execute(&lab.pool).await?;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() WHERE failures > 0").await?;
    assert_eq!(lab.sync(api.url(), &[]).await?.run.counters.fetched, 2);
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages").await?, 200);
    Ok(())
}

async fn a_lasting_refusal_makes_the_order_dead(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    sqlx::raw_sql("ALTER TABLE chat.messages ADD CONSTRAINT none CHECK (false)").execute(&lab.pool).await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    for _ in 0..2 {
        lab.make_all_due().await?;
        lab.sync(api.url(), &[("queue.max_failures", "2")]).await?;
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
    // One order that the queue remembers as read, and one that it does not know any more.
    execute(&lab, "DELETE FROM chat.orders WHERE order_id = 'order-3'").await?;
    execute(&lab, "DELETE FROM sync.order_queue WHERE order_id = 'order-2'").await?;
    execute(&lab, "INSERT INTO sync.order_queue (order_id) VALUES ('order-2')").await?;
    execute(&lab, "UPDATE sync.order_queue SET content_hash = NULL, due_at = now()").await?;
    let run = lab.sync(api.url(), &[]).await?.run;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.messages_inserted, run.counters.messages_updated),
        ("succeeded", 3, 0, 1)
    );
    let row = "SELECT concat_ws(' ', o.message_count, m.body)
               FROM chat.orders AS o JOIN chat.messages AS m USING (order_id) WHERE order_id = 'order-2'";
    assert_eq!(lab.text(row).await?.as_deref(), Some("1 words of order-2"));
    Ok(())
}

async fn a_reject_that_is_refused_too_is_kept_without_its_body(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 50).await?;
    sqlx::raw_sql(
        "ALTER TABLE chat.messages ADD CONSTRAINT no_seven CHECK (order_id <> 'order-7');
         ALTER TABLE sync.rejects ADD CONSTRAINT no_words CHECK (body NOT LIKE '%words%')",
    )
    .execute(&lab.pool)
    .await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.counters.fetched, report.run.counters.failed), (49, 1));
    let kept =
        "SELECT concat_ws(' ', order_id, kind, body = '', body_bytes > 50, reason LIKE '%no_seven%') FROM sync.rejects";
    assert_eq!(lab.text(kept).await?.as_deref(), Some("order-7 not_storable t t t"));
    Ok(())
}

async fn an_order_stops_no_other_if_nothing_of_it_can_be_kept(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 50).await?;
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.order_id = 'order-7' THEN RAISE EXCEPTION 'no: %', NEW USING ERRCODE = '0A000'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON chat.messages FOR EACH ROW EXECUTE FUNCTION refuse();
         CREATE TRIGGER refuse BEFORE INSERT ON sync.rejects FOR EACH ROW EXECUTE FUNCTION refuse();
         ALTER TABLE sync.order_queue ADD CONSTRAINT short_errors CHECK (length(last_error) < 80)",
    )
    .execute(&lab.pool)
    .await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.counters.fetched, report.run.counters.failed), (49, 1));
    let row = "SELECT concat_ws(' ', state, failures, last_error_kind, due_at > now(), last_error)
               FROM sync.order_queue WHERE order_id = 'order-7'";
    let expected = "pending 1 not_storable t the database refuses its rows, and the text of the refusal";
    assert_eq!(lab.text(row).await?.as_deref(), Some(expected));
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 0);
    Ok(())
}

async fn an_order_that_a_trigger_refuses_as_a_passing_failure_stops_no_other(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 50).await?;
    let codes = ["40001", "40P01", "53200", "55P03", "57014", "25006"];
    for (n, code) in codes.iter().enumerate() {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "CREATE FUNCTION refuse_{n}() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.order_id = 'order-1{n}' THEN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER refuse_{n} BEFORE INSERT ON chat.messages FOR EACH ROW EXECUTE FUNCTION refuse_{n}()"
        )))
        .execute(&lab.pool)
        .await?;
    }
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    let failed = i64::try_from(codes.len())?;
    let failed = failed.unsigned_abs();
    assert_eq!((report.run.counters.fetched, report.run.counters.failed), (50 - failed, failed));
    Ok(())
}

async fn an_order_whose_queue_row_accepts_nothing_is_left_to_a_later_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 100).await?;
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.order_id = 'order-7' AND NEW.lease_id IS NULL THEN RAISE EXCEPTION 'no'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON sync.order_queue FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .execute(&lab.pool)
    .await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    let run = lab.sync(api.url(), &[]).await?.run;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.failed, run.counters.claimed),
        ("partial", 99, 1, 100)
    );
    assert_eq!(api.chat_requests().len(), 100);

    sqlx::raw_sql("DROP TRIGGER refuse ON sync.order_queue").execute(&lab.pool).await?;
    execute(&lab, "UPDATE sync.order_queue SET leased_until = now() WHERE order_id = 'order-7'").await?;
    assert_eq!(lab.sync(api.url(), &[]).await?.run.counters.fetched, 1);
    Ok(())
}

async fn a_conversation_is_stored_even_if_its_rejects_cannot_be(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 50).await?;
    // As after a migration to another server that copied rows but not the sequences.
    sqlx::raw_sql(
        "INSERT INTO sync.rejects (reject_id, order_id, run_id, received_at, kind, json_path, reason, body, body_bytes)
             OVERRIDING SYSTEM VALUE
             SELECT n, 'old', gen_random_uuid(), now(), 'not_understood', '$', '', '', 0 FROM generate_series(1, 500) AS n",
    )
    .execute(&lab.pool)
    .await?;
    let api = Recorder::start(|asked| {
        let message = json!({"id": 1, "body": "hello", "sender_id": 5, "sender_type": "driver"});
        Answer::json(200, &json!({"chat_messages": [message, {"id": "none", "body": order_of(asked)}]}))
    })
    .await;
    let report = lab.sync(api.url(), &[]).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.run.counters.fetched, report.run.counters.failed), (50, 0));
    assert_eq!(lab.count("SELECT count(*) FROM chat.messages").await?, 50);
    Ok(())
}

async fn the_message_of_a_trigger_is_not_repeated(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1).await?;
    sqlx::raw_sql(
        "CREATE FUNCTION quote() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'it says %', NEW.body; END $$;
         CREATE TRIGGER quote BEFORE INSERT ON chat.messages FOR EACH ROW EXECUTE FUNCTION quote()",
    )
    .execute(&lab.pool)
    .await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    let sync = Finished::of(lab.configured(&["sync"], api.url(), &[("log.level", "debug")])).await?.expect_code(3);
    assert!(sync.stderr.contains("a trigger or function raised an error (SQLSTATE P0001)"), "{}", sync.stderr);
    assert!(!sync.stderr.contains("words of"), "{}", sync.stderr);
    let shown = "SELECT count(*) FROM sync.order_queue, sync.rejects
                WHERE last_error LIKE '%words of%' OR reason LIKE '%words of%'";
    assert_eq!(lab.count(shown).await?, 0);
    Ok(())
}

fn conversation(order_id: &str) -> Answer {
    let message = json!({"id": 1, "body": format!("words of {order_id}"), "sender_id": 5, "sender_type": "driver"});
    Answer::json(200, &json!({"chat_messages": [message]}))
}

async fn messages_that_a_trigger_drops_are_missed(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 20).await?;
    let api = Recorder::start(|asked| conversation(order_of(asked))).await;
    // Once when rows are added, once when known orders change.
    for known in [false, true] {
        if known {
            sqlx::raw_sql("DROP TRIGGER filter ON chat.messages").execute(&lab.pool).await?;
            execute(&lab, "UPDATE sync.order_queue SET due_at = now()").await?;
            lab.sync(api.url(), &[]).await?;
            execute(&lab, "DELETE FROM chat.messages").await?;
            execute(&lab, "UPDATE sync.order_queue SET due_at = now(), content_hash = NULL, reply_hash = NULL").await?;
        }
        sqlx::raw_sql(
            "CREATE OR REPLACE FUNCTION public.filter() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF new.order_id = 'order-7' THEN RETURN NULL; END IF; RETURN new; END $$;
             CREATE TRIGGER filter BEFORE INSERT ON chat.messages FOR EACH ROW EXECUTE FUNCTION public.filter()",
        )
        .execute(&lab.pool)
        .await?;
        let run = lab.sync(api.url(), &[]).await?.run;
        assert_eq!((run.counters.fetched, run.counters.failed), (19, 1), "{known}");
        let error = lab.text("SELECT last_error FROM sync.order_queue WHERE last_error_kind = 'not_storable'").await?;
        assert!(error.as_deref().is_some_and(|error| error.contains("drops rows of chat.messages")), "{error:?}");
    }
    Ok(())
}
