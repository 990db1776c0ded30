//! What is plausible is accepted at once.

use std::sync::Arc;

use super::{changed, expired, number, one_run, read, read_before};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Finished, Lab, tests};
use crate::sync::{execute, feed, times_asked};

tests!(
    forgotten_orders_do_not_keep_live_ones_from_being_read,
    orders_that_were_closed_before_are_closed_again,
    orders_that_expired_in_time_are_captured_and_hold_nothing_up,
    any_share_of_new_orders_may_be_unknown_beside_good_replies,
    a_first_small_run_is_believed_and_a_flood_is_not,
    a_few_new_orders_need_no_probe_to_be_closed,
    a_single_order_that_vanished_is_closed_after_a_probe,
    old_orders_fed_late_may_all_be_expired,
);

async fn forgotten_orders_do_not_keep_live_ones_from_being_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    execute(
        &lab,
        "UPDATE sync.order_queue SET enqueued_at = now() - interval '5 days' WHERE substr(order_id, 7)::int <= 300",
    )
    .await?;
    let api = Recorder::start(|asked| if number(asked) <= 300 { Answer::not_found() } else { read(asked) }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.closed, run.counters.held),
        ("succeeded", 700, 300, 0)
    );
    Ok(())
}

async fn orders_that_were_closed_before_are_closed_again(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    let answer = |asked: &Asked| if number(asked).is_multiple_of(5) { Answer::not_found() } else { read(asked) };
    let api = Recorder::start(answer).await;
    assert_eq!(one_run(&lab, &api).await?.counters.closed, 200);
    let ids: Vec<String> = (1..=1_000).map(|number| format!("order-{number}")).collect();
    let ids = ids.join("\n");
    let reopen = Finished::of_input(lab.with_database(&["enqueue", "--reopen", "-"]), ids.as_bytes()).await?;
    reopen.expect_code(0);
    // The closed ones first.
    execute(&lab, "UPDATE sync.order_queue SET priority = 1 WHERE substr(order_id, 7)::int % 5 = 0").await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.closed, run.counters.held),
        ("succeeded", 800, 200, 0)
    );
    Ok(())
}

async fn orders_that_expired_in_time_are_captured_and_hold_nothing_up(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 400).await?;
    execute(
        &lab,
        "UPDATE sync.order_queue SET last_fetched_at = now() - interval '6 hours',
                last_changed_at = now() - interval '6 hours', enqueued_at = now() - interval '7 hours'",
    )
    .await?;
    execute(&lab, "UPDATE chat.orders SET last_message_at = now() - interval '25 hours'").await?;
    sqlx::query("INSERT INTO sync.order_queue (order_id) SELECT 'order-' || n FROM generate_series(401, 700) AS n")
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|asked| if number(asked) <= 320 { expired() } else { read(asked) }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.fetched, run.counters.held), ("succeeded", 700, 0));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'captured'").await?, 320);
    Ok(())
}

async fn any_share_of_new_orders_may_be_unknown_beside_good_replies(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    let api =
        Recorder::start(|asked| if number(asked).is_multiple_of(4) { read(asked) } else { Answer::not_found() }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.closed, run.counters.fetched), ("succeeded", 750, 250));
    Ok(())
}

async fn a_first_small_run_is_believed_and_a_flood_is_not(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 99).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.closed), ("succeeded", 99));

    // The hundredth order of a day is too many, until the next day.
    lab.enqueue(&["order-100"]).await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.counters.closed, run.counters.held), ("failed", 0, 1));
    lab.let_time_pass(std::time::Duration::from_hours(26)).await?;
    assert_eq!(one_run(&lab, &api).await?.counters.closed, 1);
    Ok(())
}

async fn a_few_new_orders_need_no_probe_to_be_closed(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Read at another address, an hour ago.
    read_before(&lab, 3).await?;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() + interval '1 hour'").await?;
    lab.enqueue(&["unknown"]).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.closed, run.counters.held, api.asked().len()),
        ("succeeded", 1, 0, 1)
    );
    Ok(())
}

async fn a_single_order_that_vanished_is_closed_after_a_probe(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 3).await?;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() + interval '5 hours' WHERE order_id <> 'order-1'")
        .await?;
    let before = lab.dump("chat").await?;
    let api = Recorder::start(|asked| if number(asked) == 1 { Answer::not_found() } else { changed(asked) }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.claimed, run.counters.closed, run.sent.requests),
        ("succeeded", 1, 1, 2)
    );
    assert_eq!(times_asked(&api).len(), 2, "the order, and one that is known to be readable");
    let after = lab.dump("chat").await?;
    let changed = after.iter().filter(|row| !before.contains(row)).count();
    assert_eq!(changed, 1, "a probe is not written");
    Ok(())
}

async fn old_orders_fed_late_may_all_be_expired(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 300).await?;
    let api = Recorder::start(|_| expired()).await;
    assert_eq!(one_run(&lab, &api).await?.counters.held, 0);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'expired_unread'").await?, 300);
    Ok(())
}
