//! `queue.retention`: which rows leave the queue after a run, and that nothing else is lost with them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chatsync::db::runs::Trigger;
use chatsync::sync::{Progress, Request};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{execute, orders_asked, simulated};
use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, GUARD_OFF, Lab, tests};

tests!(
    what_ended_long_ago_leaves_the_queue_after_a_run_and_nothing_else_does,
    without_the_setting_nothing_leaves_the_queue,
    a_run_that_is_to_stop_deletes_nothing_any_more,
    an_order_that_is_fed_again_keeps_what_was_proven_of_it,
    what_was_lost_of_an_order_is_not_forgotten_either,
    enqueue_knows_orders_that_have_left_the_queue,
);

const TWO_DAYS: [(&str, &str); 1] = [("queue.retention", "2d")];

async fn what_ended_long_ago_leaves_the_queue_after_a_run_and_nothing_else_does(lab: Arc<Lab>) -> anyhow::Result<()> {
    ended_orders(&lab).await?;
    // More than one statement deletes.
    execute(
        &lab,
        "INSERT INTO sync.order_queue (order_id, state, due_at)
         SELECT 'many-' || n, 'expired', now() - interval '60 hours' FROM generate_series(1, 12000) AS n",
    )
    .await?;
    execute(
        &lab,
        "INSERT INTO chat.orders (order_id, status, coverage) SELECT order_id, 'open', 'captured' FROM sync.order_queue",
    )
    .await?;
    let chat = lab.dump("chat").await?;
    // Another session has locked one of them.
    let mut elsewhere = lab.pool.begin().await?;
    sqlx::query("SELECT FROM sync.order_queue WHERE order_id = 'many-7' FOR UPDATE").execute(&mut *elsewhere).await?;

    let api = Recorder::start(simulated).await;
    assert_eq!(lab.sync(api.url(), &TWO_DAYS).await?.run.status.as_str(), "succeeded");
    assert_eq!(
        left(&lab).await?,
        "closed-young dead-old dead-young expired-young many-7 open-old pending-old quiet-young"
    );
    assert_eq!(lab.dump("chat").await?, chat);
    assert!(orders_asked(&api).is_empty());

    elsewhere.rollback().await?;
    lab.sync(api.url(), &TWO_DAYS).await?;
    assert!(!left(&lab).await?.contains("many-7"));
    Ok(())
}

async fn without_the_setting_nothing_leaves_the_queue(lab: Arc<Lab>) -> anyhow::Result<()> {
    ended_orders(&lab).await?;
    let before = left(&lab).await?;
    let api = Recorder::start(simulated).await;
    lab.sync(api.url(), &[]).await?;
    assert_eq!(left(&lab).await?, before);
    Ok(())
}

async fn a_run_that_is_to_stop_deletes_nothing_any_more(lab: Arc<Lab>) -> anyhow::Result<()> {
    ended_orders(&lab).await?;
    let before = left(&lab).await?;
    let api = Recorder::start(simulated).await;
    let worker = lab.worker(&lab.settings(api.url(), &TWO_DAYS));
    let stop = CancellationToken::new();
    stop.cancel();
    let request = Request::all(Trigger::Manual);
    worker.run(&request, &stop, &Progress::default()).await?;
    assert_eq!(left(&lab).await?, before);
    Ok(())
}

async fn an_order_that_is_fed_again_keeps_what_was_proven_of_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let message = json!({"id": 1, "body": "hello"});
    let talk = |messages, is_expired| Answer::json(200, &json!({"chat_messages": messages, "is_expired": is_expired}));
    for (order, messages, proof) in [("talked", json!([message]), "captured"), ("silent", json!([]), "no_chat")] {
        let answer = Arc::new(Mutex::new(talk(messages, false)));
        let says = Arc::clone(&answer);
        let api = Recorder::start(move |_| says.lock().expect("not poisoned").clone()).await;
        let say = |said| *answer.lock().expect("not poisoned") = said;
        lab.enqueue(&[order]).await?;
        lab.sync(api.url(), &[GUARD_OFF]).await?;
        for (end, status) in
            [(talk(json!([]), true), "expired"), (talk(json!([]), true), "expired"), (Answer::not_found(), "closed")]
        {
            say(end);
            lab.make_all_due().await?;
            lab.sync(api.url(), &[GUARD_OFF]).await?;
            let shown = "SELECT string_agg(concat_ws(' ', order_id, status, coverage), ',') FROM chat.orders";
            assert_eq!(lab.text(shown).await?, Some(format!("{order} {status} {proof}")));
            lab.let_time_pass(Duration::from_hours(49)).await?;
            lab.sync(api.url(), &TWO_DAYS).await?;
            assert_eq!(left(&lab).await?, "");
            sqlx::query("INSERT INTO sync.order_queue (order_id) VALUES ($1)").bind(order).execute(&lab.pool).await?;
        }
        execute(&lab, "DELETE FROM sync.order_queue").await?;
        execute(&lab, "DELETE FROM chat.orders").await?;
    }
    Ok(())
}

async fn what_was_lost_of_an_order_is_not_forgotten_either(lab: Arc<Lab>) -> anyhow::Result<()> {
    let expired = Answer::json(200, &json!({"chat_messages": [], "is_expired": true}));
    for (before, end, after) in [
        ("expired_unread", Answer::not_found(), "closed expired_unread"),
        ("expired_partial", expired.clone(), "expired expired_partial"),
        ("captured_open", Answer::not_found(), "closed expired_partial"),
        ("not_found", expired, "expired expired_unread"),
    ] {
        sqlx::raw_sql("TRUNCATE sync.order_queue, chat.orders").execute(&lab.pool).await?;
        sqlx::query("INSERT INTO chat.orders (order_id, status, coverage) VALUES ('order', 'quiet', $1)")
            .bind(before)
            .execute(&lab.pool)
            .await?;
        execute(&lab, "INSERT INTO sync.order_queue (order_id) VALUES ('order')").await?;
        let api = Recorder::start(move |_| end.clone()).await;
        lab.sync(api.url(), &[GUARD_OFF]).await?;
        let shown = lab.text("SELECT concat_ws(' ', status, coverage) FROM chat.orders").await?;
        assert_eq!(shown.as_deref(), Some(after), "{before}");
    }
    Ok(())
}

async fn enqueue_knows_orders_that_have_left_the_queue(lab: Arc<Lab>) -> anyhow::Result<()> {
    execute(
        &lab,
        "INSERT INTO chat.orders (order_id, status, coverage)
         VALUES ('expired', 'expired', 'captured'), ('closed', 'closed', 'not_found'), ('quiet', 'quiet', 'captured_open'),
                ('open', 'open', 'captured_open'), ('put back', 'expired', 'captured')",
    )
    .await?;
    execute(&lab, "INSERT INTO sync.order_queue (order_id) VALUES ('put back')").await?;
    let csv = b"order_id,connect_user_id\nexpired,u\nclosed,u\nquiet,u\nopen,u\nnew,u\nput back,u\n";
    let shown = Finished::of_input(lab.with_database(&["enqueue"]), csv).await?.expect_code(0).stdout;
    assert_eq!(shown, "2 added, 1 updated, 3 already known, 0 rejected\n");
    assert_eq!(left(&lab).await?, "new open put back");
    // Missing values are filled in for an order in the queue, even if it is stored.
    let users = "SELECT count(*) FROM sync.order_queue WHERE connect_user_id = 'u'";
    assert_eq!(lab.count(users).await?, 3);

    let reopened = Finished::of_input(lab.with_database(&["enqueue", "--reopen"]), b"expired\n").await?.expect_code(0);
    assert_eq!(reopened.stdout, "1 added, 0 put back, 0 already known, 0 rejected\n");
    Ok(())
}

/// An old and a new order in each state, none of them due.
async fn ended_orders(lab: &Lab) -> anyhow::Result<()> {
    execute(
        lab,
        "INSERT INTO sync.order_queue (order_id, state, due_at, enqueued_at)
         SELECT state || '-' || age, state, now() - ended, now() - interval '1 year'
         FROM unnest(ARRAY['closed', 'expired', 'quiet', 'dead']) AS state,
              (VALUES ('old', interval '49 hours'), ('young', interval '47 hours')) AS t (age, ended)
         UNION ALL
         SELECT state || '-old', state, now() + interval '1 hour', now() - interval '1 year'
         FROM unnest(ARRAY['pending', 'open']) AS state",
    )
    .await
}

/// The orders in the queue.
async fn left(lab: &Lab) -> anyhow::Result<String> {
    let orders = "SELECT string_agg(order_id, ' ' ORDER BY order_id) FROM sync.order_queue";
    Ok(lab.text(orders).await?.unwrap_or_default())
}
