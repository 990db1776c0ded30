//! What is held is fetched again, and accepted with evidence or by hand.

use std::sync::Arc;

use serde_json::json;

use super::{CLOSED, HELD, expired, number, one_run, read, read_before};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Finished, Lab, tests};
use crate::sync::{execute, feed};

tests!(
    what_is_held_is_neither_lost_nor_unproven,
    what_is_held_is_closed_when_good_replies_have_shown_the_place_right,
    what_is_held_is_asked_again_after_growing_waits_and_believed_after_a_week,
    an_expiry_sooner_than_possible_is_held_until_it_is_possible,
    a_404_without_the_code_is_held_until_it_is_confirmed,
    confirming_settles_what_is_held_without_a_request,
);

async fn what_is_held_is_neither_lost_nor_unproven(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 150).await?;
    sqlx::query("INSERT INTO sync.order_queue (order_id, completed_at) SELECT 'order-' || n, now() FROM generate_series(151, 160) AS n")
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|asked| if number(asked) > 150 { expired() } else { Answer::not_found() }).await;
    for _ in 0..2 {
        let run = one_run(&lab, &api).await?;
        assert_eq!(
            (run.status.as_str(), run.counters.held, run.counters.lost, run.counters.unproven),
            ("failed", 160, 0, 0)
        );
        assert!(run.error.is_some_and(|error| error.contains("held back as closed, 150 order(s)")));
        lab.make_all_due().await?;
    }
    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0);
    assert!(!status.stdout.contains("found lost"), "{}", status.stdout);
    assert!(!status.stdout.contains("--failing"), "{}", status.stdout);
    let api = Recorder::start(read).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.lost, run.counters.unproven),
        ("succeeded", 160, 0, 0)
    );
    Ok(())
}

async fn what_is_held_is_closed_when_good_replies_have_shown_the_place_right(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    let api = Recorder::start(|asked| if number(asked) <= 200 { Answer::not_found() } else { read(asked) }).await;
    assert_eq!(one_run(&lab, &api).await?.counters.held, 200);
    assert_eq!(lab.count(HELD).await?, 200);
    // A good reply in the same id space, in another run.
    lab.enqueue(&["order-201"]).await?;
    assert_eq!(one_run(&lab, &api).await?.counters.fetched, 1);
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() WHERE held_kind IS NOT NULL").await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.closed), ("succeeded", 200));
    let dated = "SELECT count(*) FROM sync.order_queue WHERE closed_at < ended_at AND held_kind IS NULL";
    assert_eq!(lab.count(dated).await?, 200, "closed when it was first seen");
    Ok(())
}

async fn what_is_held_is_asked_again_after_growing_waits_and_believed_after_a_week(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    read_before(&lab, 300).await?;
    let api = Recorder::start(|asked| if number(asked) <= 250 { Answer::not_found() } else { read(asked) }).await;
    let wait = "SELECT string_agg(DISTINCT round(extract(epoch FROM due_at - now()) / 3600)::text, ' ')
                FROM sync.order_queue WHERE held_kind = 'closed'";
    for hours in ["1", "6", "24", "24"] {
        let run = one_run(&lab, &api).await?;
        assert_eq!((run.counters.closed, run.counters.held), (0, 250));
        assert_eq!(lab.text(wait).await?.as_deref(), Some(hours));
        lab.make_all_due().await?;
    }
    execute(&lab, "UPDATE sync.order_queue SET held_since = now() - interval '8 days' WHERE held_kind IS NOT NULL")
        .await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.counters.closed, run.counters.held, run.counters.fetched), (250, 0, 50));
    let dated = "SELECT count(*) FROM chat.orders WHERE closed_at BETWEEN now() - interval '9 days' AND now() - interval '7 days'";
    assert_eq!(lab.count(dated).await?, 250);
    Ok(())
}

async fn an_expiry_sooner_than_possible_is_held_until_it_is_possible(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 30).await?;
    // Some were completed two hours ago by the feeder; the last message of others is three hours old; nothing is known
    // of the rest, so they can have expired at any time.
    execute(
        &lab,
        "UPDATE chat.orders SET last_message_at = CASE WHEN substr(order_id, 7)::int <= 10 THEN NULL
                   WHEN substr(order_id, 7)::int <= 20 THEN now() - interval '3 hours' END",
    )
    .await?;
    execute(
        &lab,
        "UPDATE sync.order_queue SET completed_at = now() - interval '2 hours' WHERE substr(order_id, 7)::int <= 10",
    )
    .await?;
    let api = Recorder::start(|_| expired()).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.fetched, run.counters.held), ("partial", 10, 20));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE held_kind = 'expired'").await?, 20);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'captured'").await?, 10);

    // A day later it is possible, and proven when it was first seen.
    let day = std::time::Duration::from_hours(23);
    lab.let_time_pass(day).await?;
    execute(&lab, "UPDATE chat.orders SET last_message_at = last_message_at - interval '23 hours' WHERE last_message_at IS NOT NULL").await?;
    lab.make_all_due().await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.fetched, run.counters.held), ("succeeded", 20, 0));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'captured'").await?, 30);
    let first_seen = "SELECT count(*) FROM sync.order_queue WHERE expired_at < now() - interval '22 hours'";
    assert_eq!(lab.count(first_seen).await?, 30);
    Ok(())
}

async fn a_404_without_the_code_is_held_until_it_is_confirmed(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 20).await?;
    let uncoded = |asked: &Asked| {
        if number(asked) == 1 {
            Answer::json(404, &json!({"error": {"message": "gone", "code": null}}))
        } else {
            read(asked)
        }
    };
    let api = Recorder::start(uncoded).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.fetched, run.counters.held), ("partial", 19, 1));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE held_kind = 'not_found_uncoded'").await?, 1);
    let confirm = Finished::of(lab.with_database(&["confirm", "--kind", "closed"])).await?.expect_code(0);
    assert_eq!(confirm.stdout, "1 confirmed (1 not_found_uncoded)\n");
    assert_eq!(
        lab.text("SELECT coverage FROM chat.orders WHERE order_id = 'order-1'").await?.as_deref(),
        Some("not_found")
    );
    Ok(())
}

async fn confirming_settles_what_is_held_without_a_request(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 120).await?;
    execute(&lab, "UPDATE chat.orders SET last_message_at = now() - interval '1 hour' WHERE order_id = 'order-3'")
        .await?;
    let api = Recorder::start(|asked| if number(asked) == 3 { expired() } else { Answer::not_found() }).await;
    assert_eq!(one_run(&lab, &api).await?.counters.held, 120);
    let asked = api.asked().len();

    let why = Finished::of(lab.with_database(&["why", "order-1"])).await?.expect_code(0);
    assert!(
        why.stdout.contains("held back") && why.stdout.contains("chatsync confirm --order order-1"),
        "{}",
        why.stdout
    );
    let before = lab.dump("sync").await?;
    let dry = Finished::of(lab.with_database(&["confirm", "--dry-run"])).await?.expect_code(0);
    assert_eq!(dry.stdout, "120 would be confirmed (119 closed, 1 expired)\n");
    assert_eq!(lab.dump("sync").await?, before);

    let one = Finished::of(lab.with_database(&["confirm", "--order", "order-1", "--order", "order-2"])).await?;
    assert_eq!(one.expect_code(0).stdout, "2 confirmed (2 closed)\n");
    let expired = Finished::of(lab.with_database(&["confirm", "--kind", "expired"])).await?;
    assert_eq!(expired.expect_code(0).stdout, "1 confirmed (1 expired)\n");
    let rest = Finished::of(lab.with_database(&["confirm"])).await?;
    assert_eq!(rest.expect_code(0).stdout, "117 confirmed (117 closed)\n");
    assert_eq!(lab.count(CLOSED).await?, 119);
    assert_eq!(
        lab.text("SELECT coverage FROM chat.orders WHERE order_id = 'order-3'").await?.as_deref(),
        Some("captured")
    );
    assert_eq!(
        lab.count("SELECT count(*) FROM sync.order_queue WHERE held_kind IS NOT NULL OR lease_id IS NOT NULL").await?,
        0
    );
    assert_eq!(api.asked().len(), asked);
    Ok(())
}
