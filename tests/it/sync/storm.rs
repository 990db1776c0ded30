//! The storm guard: results that hit every order are held, and the run continues.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chatsync::db::runs::{Run, Trigger};
use chatsync::sync::{Progress, Request};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{execute, feed, order_of, times_asked};
use crate::support::http::{Answer, Asked, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    a_server_that_knows_no_order_closes_none_that_was_read,
    forgotten_orders_do_not_keep_live_ones_from_being_read,
    orders_that_were_closed_before_are_closed_again,
    orders_that_expired_in_time_are_captured_and_hold_nothing_up,
    a_storm_in_the_middle_of_a_run_takes_nothing_along,
    a_storm_in_the_last_orders_of_a_run_takes_nothing_along,
    many_small_runs_on_a_wrong_server_close_none_that_was_read,
    several_workers_on_a_wrong_server_close_fewer_new_orders_than_one_may,
    any_share_of_new_orders_may_be_unknown_beside_good_replies,
    a_server_that_goes_wrong_closes_no_new_orders_if_a_readable_one_is_unknown_too,
    a_run_that_is_stopped_holds_what_it_cannot_decide,
    what_is_held_is_neither_lost_nor_unproven,
    any_number_of_malformed_orders_at_the_head_stops_nothing,
    a_first_small_run_is_believed_and_a_flood_is_not,
    a_few_new_orders_need_no_probe_to_be_closed,
    what_is_held_is_closed_when_good_replies_have_shown_the_place_right,
    one_users_unknown_orders_are_held_beside_healthy_users,
    what_another_server_said_is_no_evidence_here,
    small_runs_close_none_of_a_users_orders_beside_those_of_others,
    a_single_order_that_vanished_is_closed_after_a_probe,
    what_is_held_is_asked_again_after_growing_waits_and_believed_after_a_week,
    an_expiry_sooner_than_possible_is_held_until_it_is_possible,
    a_404_without_the_code_is_held_until_it_is_confirmed,
    confirming_settles_what_is_held_without_a_request,
    old_orders_fed_late_may_all_be_expired,
    if_all_orders_are_refused_the_run_stops_and_counts_no_failure,
    ten_malformed_orders_at_the_head_stop_nothing,
    a_few_refused_orders_a_day_are_given_up_and_a_flood_is_held,
    closures_are_undone_by_retry,
);

const HELD: &str = "SELECT count(*) FROM sync.order_queue
                    WHERE held_kind = 'closed' AND state IN ('pending', 'open') AND failures = 0
                      AND lease_id IS NULL AND held_times = 1 AND due_at > now() + interval '50 minutes'";
const CLOSED: &str = "SELECT count(*) FROM sync.order_queue WHERE state = 'closed'";

async fn a_server_that_knows_no_order_closes_none_that_was_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 500).await?;
    let before = lab.dump("chat").await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let run = Finished::of(lab.configured(&["sync"], api.url(), &[])).await?.expect_code(3);
    for help in ["orders=500", "404, code 4000", "api.base_url", "api.retailer_id", "api.treat_ids_as_internal"] {
        assert!(run.stderr.contains(help), "{help}: {}", run.stderr);
    }
    assert_eq!(lab.dump("chat").await?, before);
    assert_eq!(lab.count(HELD).await?, 500);
    let row = "SELECT concat_ws(' ', status, claimed, closed, held, failed, dead) FROM sync.runs ORDER BY started_at DESC LIMIT 1";
    assert_eq!(lab.text(row).await?.as_deref(), Some("failed 500 0 500 0 0"));
    assert!(api.asked().len() <= 503, "each order once, and three probes: {} requests", api.asked().len());
    Ok(())
}

async fn forgotten_orders_do_not_keep_live_ones_from_being_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    execute(
        &lab,
        "UPDATE sync.order_queue SET enqueued_at = now() - interval '5 days' WHERE substr(order_id, 7)::int <= 300",
    )
    .await?;
    let api = Recorder::start(|asked| if number(asked) <= 300 { Answer::not_found() } else { read(asked) }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.closed, run.held), ("succeeded", 700, 300, 0));
    Ok(())
}

async fn orders_that_were_closed_before_are_closed_again(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    let answer = |asked: &Asked| if number(asked).is_multiple_of(5) { Answer::not_found() } else { read(asked) };
    let api = Recorder::start(answer).await;
    assert_eq!(one_run(&lab, &api).await?.closed, 200);
    let ids: Vec<String> = (1..=1_000).map(|number| format!("order-{number}")).collect();
    let ids = ids.join("\n");
    let reopen = Finished::of_input(lab.with_database(&["enqueue", "--reopen", "-"]), ids.as_bytes()).await?;
    reopen.expect_code(0);
    // The closed ones first.
    execute(&lab, "UPDATE sync.order_queue SET priority = 1 WHERE substr(order_id, 7)::int % 5 = 0").await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.closed, run.held), ("succeeded", 800, 200, 0));
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
    assert_eq!((run.status.as_str(), run.fetched, run.held), ("succeeded", 700, 0));
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'captured'").await?, 320);
    Ok(())
}

async fn a_storm_in_the_middle_of_a_run_takes_nothing_along(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 2_000).await?;
    let seen = AtomicUsize::new(0);
    // The wrong server answers for a while, in the middle of the run.
    let api = Recorder::start(move |asked| {
        if (850..1_150).contains(&seen.fetch_add(1, Ordering::Relaxed)) { Answer::not_found() } else { read(asked) }
    })
    .await;
    let run = one_by_one(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.closed, run.held), ("partial", 1_700, 0, 300));
    assert_eq!(lab.count(CLOSED).await?, 0);
    Ok(())
}

async fn a_storm_in_the_last_orders_of_a_run_takes_nothing_along(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 190).await?;
    let seen = AtomicUsize::new(0);
    let api =
        Recorder::start(
            move |asked| {
                if seen.fetch_add(1, Ordering::Relaxed) < 170 { read(asked) } else { Answer::not_found() }
            },
        )
        .await;
    let run = one_by_one(&lab, &api).await?;
    assert_eq!((run.fetched, run.closed, run.held), (170, 0, 20));
    assert_eq!(run.requests, 193, "three that were read a moment before were asked again");
    Ok(())
}

async fn many_small_runs_on_a_wrong_server_close_none_that_was_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 60).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    for _ in 0..20 {
        small_run(&lab, &api, 3).await?;
    }
    assert_eq!(lab.count(CLOSED).await?, 0);
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE held_kind = 'closed'").await?, 60);
    Ok(())
}

async fn several_workers_on_a_wrong_server_close_fewer_new_orders_than_one_may(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 300).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let (one, two) = (lab.worker(&lab.settings(api.url(), &[])), lab.worker(&lab.settings(api.url(), &[])));
    let limited = Request { trigger: Trigger::Manual, only: None, limit: Some(70) };
    for _ in 0..3 {
        let (stop, progress) = (CancellationToken::new(), Progress::default());
        let (one, two) = tokio::join!(one.run(&limited, &stop, &progress), two.run(&limited, &stop, &progress));
        assert!(one?.failure.is_none() && two?.failure.is_none());
    }
    let closed = lab.count(CLOSED).await?;
    assert!((1..100).contains(&closed), "{closed}");
    Ok(())
}

async fn any_share_of_new_orders_may_be_unknown_beside_good_replies(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    let api =
        Recorder::start(|asked| if number(asked).is_multiple_of(4) { read(asked) } else { Answer::not_found() }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.closed, run.fetched), ("succeeded", 750, 250));
    Ok(())
}

async fn a_server_that_goes_wrong_closes_no_new_orders_if_a_readable_one_is_unknown_too(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    feed(&lab, 20).await?;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let api =
        Recorder::start(
            move |asked| {
                if count.fetch_add(1, Ordering::Relaxed) < 320 { read(asked) } else { Answer::not_found() }
            },
        )
        .await;
    assert_eq!(one_run(&lab, &api).await?.fetched, 20);
    sqlx::query("INSERT INTO sync.order_queue (order_id) SELECT 'order-' || n FROM generate_series(21, 720) AS n")
        .execute(&lab.pool)
        .await?;
    // 300 good replies, then none.
    let run = one_by_one(&lab, &api).await?;
    assert_eq!((run.fetched, run.closed, run.held), (300, 0, 400));
    assert_eq!(run.requests, 703, "three readable ones were asked");
    Ok(())
}

async fn a_run_that_is_stopped_holds_what_it_cannot_decide(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 60).await?;
    let stop = CancellationToken::new();
    let (seen, signal) = (AtomicUsize::new(0), stop.clone());
    let api = Recorder::start(move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == 39 {
            signal.cancel();
        }
        Answer::not_found()
    })
    .await;
    let worker = lab.worker(&lab.settings(api.url(), &[("pace.max_in_flight", "1")]));
    let request = Request { trigger: Trigger::Manual, only: None, limit: None };
    let report = worker.run(&request, &stop, &Progress::default()).await?;
    assert_eq!((report.run.status.as_str(), report.run.closed), ("interrupted", 0));
    let held = lab.count(HELD).await?;
    assert!((40..=41).contains(&held) && report.run.held == held, "{held}");
    Ok(())
}

async fn what_is_held_is_neither_lost_nor_unproven(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 150).await?;
    sqlx::query("INSERT INTO sync.order_queue (order_id, completed_at) SELECT 'order-' || n, now() FROM generate_series(151, 160) AS n")
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|asked| if number(asked) > 150 { expired() } else { Answer::not_found() }).await;
    for _ in 0..2 {
        let run = one_run(&lab, &api).await?;
        assert_eq!((run.status.as_str(), run.held, run.lost, run.unproven), ("failed", 160, 0, 0));
        assert!(run.error.is_some_and(|error| error.contains("held back as closed, 150 order(s)")));
        lab.make_all_due().await?;
    }
    let status = Finished::of(lab.with_database(&["status"])).await?.expect_code(0);
    assert!(!status.stdout.contains("found lost"), "{}", status.stdout);
    assert!(!status.stdout.contains("--failing"), "{}", status.stdout);
    let api = Recorder::start(read).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.lost, run.unproven), ("succeeded", 160, 0, 0));
    Ok(())
}

async fn any_number_of_malformed_orders_at_the_head_stops_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 620).await?;
    execute(&lab, "UPDATE sync.order_queue SET priority = 1 WHERE substr(order_id, 7)::int <= 120").await?;
    let api = Recorder::start(|asked| {
        if number(asked) <= 120 {
            Answer::json(400, &json!({"error": {"message": "no", "code": 1001}}))
        } else {
            read(asked)
        }
    })
    .await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.dead + run.held), ("partial", 500, 120));
    Ok(())
}

async fn a_first_small_run_is_believed_and_a_flood_is_not(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 99).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.closed), ("succeeded", 99));

    // The hundredth order of a day is too many, until the next day.
    lab.enqueue(&["order-100"]).await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.closed, run.held), ("failed", 0, 1));
    lab.let_time_pass(std::time::Duration::from_hours(26)).await?;
    assert_eq!(one_run(&lab, &api).await?.closed, 1);
    Ok(())
}

async fn a_few_new_orders_need_no_probe_to_be_closed(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Read at another address, an hour ago.
    read_before(&lab, 3).await?;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() + interval '1 hour'").await?;
    lab.enqueue(&["unknown"]).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.closed, run.held, api.asked().len()), ("succeeded", 1, 0, 1));
    Ok(())
}

async fn what_is_held_is_closed_when_good_replies_have_shown_the_place_right(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    let api = Recorder::start(|asked| if number(asked) <= 200 { Answer::not_found() } else { read(asked) }).await;
    assert_eq!(one_run(&lab, &api).await?.held, 200);
    assert_eq!(lab.count(HELD).await?, 200);
    // A good reply in the same id space, in another run.
    lab.enqueue(&["order-201"]).await?;
    assert_eq!(one_run(&lab, &api).await?.fetched, 1);
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() WHERE held_kind IS NOT NULL").await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.closed), ("succeeded", 200));
    let dated = "SELECT count(*) FROM sync.order_queue WHERE closed_at < ended_at AND held_kind IS NULL";
    assert_eq!(lab.count(dated).await?, 200, "closed when it was first seen");
    Ok(())
}

async fn one_users_unknown_orders_are_held_beside_healthy_users(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 440).await?;
    execute(&lab, "UPDATE sync.order_queue SET connect_user_id = 'user-' || (substr(order_id, 7)::int - 1) / 40")
        .await?;
    let all_good = Recorder::start(read).await;
    assert_eq!(one_run(&lab, &all_good).await?.fetched, 440);
    lab.make_all_due().await?;
    // The user of the last forty; and a new user with five new orders, all unknown.
    sqlx::query("INSERT INTO sync.order_queue (order_id, connect_user_id) SELECT 'order-' || n, 'new' FROM generate_series(441, 445) AS n")
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|asked| if number(asked) > 400 { Answer::not_found() } else { read(asked) }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.closed, run.held), ("partial", 400, 0, 45));
    let users = "SELECT string_agg(DISTINCT connect_user_id, ' ' ORDER BY connect_user_id) FROM sync.order_queue WHERE held_kind = 'closed'";
    assert_eq!(lab.text(users).await?.as_deref(), Some("new user-10"));
    Ok(())
}

async fn small_runs_close_none_of_a_users_orders_beside_those_of_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    execute(&lab, "UPDATE sync.order_queue SET connect_user_id = 'user-' || substr(order_id, 7)::int % 5").await?;
    let all_good = Recorder::start(read).await;
    assert_eq!(one_run(&lab, &all_good).await?.fetched, 200);
    // All orders of one user are unknown now; each run gets three of them and some of other users.
    let api =
        Recorder::start(|asked| if number(asked).is_multiple_of(5) { Answer::not_found() } else { read(asked) }).await;
    for _ in 0..4 {
        execute(
            &lab,
            "UPDATE sync.order_queue SET due_at = now() WHERE order_id IN (
                 (SELECT order_id FROM sync.order_queue
                  WHERE connect_user_id = 'user-0' AND held_kind IS NULL AND state = 'open' LIMIT 3)
                 UNION ALL (SELECT order_id FROM sync.order_queue WHERE connect_user_id <> 'user-0' LIMIT 20))",
        )
        .await?;
        let run = one_run(&lab, &api).await?;
        assert_eq!((run.fetched, run.closed, run.held), (20, 0, 3));
    }
    // A single vanished order is believed, because another one of the same user is readable.
    let api = Recorder::start(|asked| if number(asked) == 1 { Answer::not_found() } else { read(asked) }).await;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() WHERE order_id = 'order-1'").await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.closed, run.held, run.requests), (1, 0, 2));
    Ok(())
}

async fn what_another_server_said_is_no_evidence_here(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 150).await?;
    let wrong = Recorder::start(|_| Answer::not_found()).await;
    assert_eq!(one_run(&lab, &wrong).await?.held, 150);
    execute(&lab, "UPDATE sync.order_queue SET held_since = now() - interval '8 days', due_at = now()").await?;
    // Good replies of the right server are no evidence for the wrong one.
    let right = Recorder::start(|asked| if number(asked) == 1 { Answer::not_found() } else { read(asked) }).await;
    let run = one_run(&lab, &right).await?;
    assert_eq!((run.fetched, run.closed, run.held), (149, 1, 0));
    let dated = "SELECT count(*) FROM sync.order_queue WHERE closed_at > now() - interval '1 day'";
    assert_eq!(lab.count(dated).await?, 1);
    Ok(())
}

async fn a_single_order_that_vanished_is_closed_after_a_probe(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 3).await?;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() + interval '5 hours' WHERE order_id <> 'order-1'")
        .await?;
    let before = lab.dump("chat").await?;
    let api = Recorder::start(|asked| if number(asked) == 1 { Answer::not_found() } else { changed(asked) }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.claimed, run.closed, run.requests), ("succeeded", 1, 1, 2));
    assert_eq!(times_asked(&api).len(), 2, "the order, and one that is known to be readable");
    let after = lab.dump("chat").await?;
    let changed = after.iter().filter(|row| !before.contains(row)).count();
    assert_eq!(changed, 1, "a probe is not written");
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
        assert_eq!((run.closed, run.held), (0, 250));
        assert_eq!(lab.text(wait).await?.as_deref(), Some(hours));
        lab.make_all_due().await?;
    }
    execute(&lab, "UPDATE sync.order_queue SET held_since = now() - interval '8 days' WHERE held_kind IS NOT NULL")
        .await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.closed, run.held, run.fetched), (250, 0, 50));
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
    assert_eq!((run.status.as_str(), run.fetched, run.held), ("partial", 10, 20));
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE held_kind = 'expired'").await?, 20);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'captured'").await?, 10);

    // A day later it is possible, and proven when it was first seen.
    let day = std::time::Duration::from_hours(23);
    lab.let_time_pass(day).await?;
    execute(&lab, "UPDATE chat.orders SET last_message_at = last_message_at - interval '23 hours' WHERE last_message_at IS NOT NULL").await?;
    lab.make_all_due().await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.status.as_str(), run.fetched, run.held), ("succeeded", 20, 0));
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
    assert_eq!((run.status.as_str(), run.fetched, run.held), ("partial", 19, 1));
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
    assert_eq!(one_run(&lab, &api).await?.held, 120);
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

async fn old_orders_fed_late_may_all_be_expired(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 300).await?;
    let api = Recorder::start(|_| expired()).await;
    assert_eq!(one_run(&lab, &api).await?.held, 0);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE coverage = 'expired_unread'").await?, 300);
    Ok(())
}

async fn if_all_orders_are_refused_the_run_stops_and_counts_no_failure(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 300).await?;
    for (refusal, hint) in [
        (
            Answer::json(400, &json!({"error": {"message": "X-Retailer-Id is required", "code": 1001}})),
            "(400, code 1001)",
        ),
        (Answer::new(403, ""), "shopper information removal"),
    ] {
        let api = Recorder::start(move |_| refusal.clone()).await;
        let report = lab.sync(api.url(), &[("pace.max_in_flight", "8")]).await?;
        let failure = report.failure.map(|failure| failure.to_string()).unwrap_or_default();
        assert!(failure.contains("were refused alike") && failure.contains(hint), "{failure}");
        assert_eq!(report.run.status, "failed");
        // As in `connect::outage`: the limit holds on a slow machine too.
        assert!(api.asked().len() <= 10 + 10 + 1 + 3 * 8, "{} requests", api.asked().len());
        let touched =
            "SELECT count(*) FROM sync.order_queue WHERE state <> 'pending' OR failures > 0 OR held_kind IS NOT NULL";
        assert_eq!(lab.count(touched).await?, 0);
    }
    Ok(())
}

async fn ten_malformed_orders_at_the_head_stop_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    for status in [400, 403] {
        execute_any(&lab, "TRUNCATE sync.order_queue, chat.orders, chat.messages").await?;
        feed(&lab, 1_010).await?;
        execute(&lab, "UPDATE sync.order_queue SET priority = 1 WHERE substr(order_id, 7)::int <= 10").await?;
        let api = Recorder::start(move |asked| {
            if number(asked) <= 10 {
                Answer::json(status, &json!({"error": {"message": "no", "code": 1001}}))
            } else {
                read(asked)
            }
        })
        .await;
        let run = one_by_one(&lab, &api).await?;
        assert_eq!((run.status.as_str(), run.fetched, run.held), ("partial", 1_000, 0), "{status}");
        assert_eq!(run.failed + run.dead, 10);
    }
    Ok(())
}

async fn a_few_refused_orders_a_day_are_given_up_and_a_flood_is_held(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 150).await?;
    let api = Recorder::start(|_| Answer::json(422, &json!({"error": {"message": "no", "code": 1001}}))).await;
    for _ in 0..30 {
        small_run(&lab, &api, 5).await?;
    }
    let dead = lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'dead'").await?;
    assert!((1..100).contains(&dead), "{dead}");
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE held_kind = 'refused'").await?, 150 - dead);
    Ok(())
}

async fn closures_are_undone_by_retry(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 300).await?;
    let before = lab.dump_without("chat", &["updated_at"]).await?;
    let api = Recorder::start(|_| Answer::not_found()).await;
    lab.sync(api.url(), &[("guard.max_suspicious_share", "1")]).await?;
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders WHERE status = 'closed'").await?, 300);

    let retry = Finished::of(lab.with_database(&["retry", "--closed-since", "2026-01-01T00:00:00Z"])).await?;
    assert_eq!(retry.expect_code(0).stdout, "300 put back\n");
    let api = Recorder::start(read).await;
    lab.sync(api.url(), &[]).await?;
    assert_eq!(lab.dump_without("chat", &["updated_at"]).await?, before);
    Ok(())
}

/// A complete run over everything due.
async fn one_run(lab: &Lab, api: &Recorder) -> anyhow::Result<Run> {
    run_with(lab, api, &[]).await
}

/// As above, with one request at a time, so that replies come in queue order.
async fn one_by_one(lab: &Lab, api: &Recorder) -> anyhow::Result<Run> {
    run_with(lab, api, &[("pace.max_in_flight", "1")]).await
}

async fn run_with(lab: &Lab, api: &Recorder, settings: &[(&str, &str)]) -> anyhow::Result<Run> {
    let report = lab.sync(api.url(), settings).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    Ok(report.run)
}

/// A run of at most that many orders.
async fn small_run(lab: &Lab, api: &Recorder, orders: u64) -> anyhow::Result<()> {
    let worker = lab.worker(&lab.settings(api.url(), &[]));
    let request = Request { trigger: Trigger::Manual, only: None, limit: Some(orders) };
    let report = worker.run(&request, &CancellationToken::new(), &Progress::default()).await?;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    Ok(())
}

async fn execute_any(lab: &Lab, statement: &'static str) -> anyhow::Result<()> {
    sqlx::query(statement).execute(&lab.pool).await?;
    Ok(())
}

/// Orders that were read a moment ago and are due again.
async fn read_before(lab: &Lab, orders: i32) -> anyhow::Result<()> {
    feed(lab, orders).await?;
    let api = Recorder::start(read).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!(report.run.fetched, i64::from(orders));
    // For a server that is asked later the past is another place.
    sqlx::query("DELETE FROM sync.evidence").execute(&lab.pool).await?;
    lab.make_all_due().await
}

/// The number of `order-7`.
fn number(asked: &Asked) -> u32 {
    order_of(asked).trim_start_matches("order-").parse().expect("a number")
}

/// A conversation of one message, for any order.
fn read(_: &Asked) -> Answer {
    conversation("on my way")
}

/// Another one.
fn changed(_: &Asked) -> Answer {
    conversation("there in a minute")
}

fn conversation(body: &str) -> Answer {
    let message = json!({"id": 1, "created_at": "2026-01-02T03:04:05Z", "body": body,
                         "sender_id": 5, "sender_type": "driver", "recipient_id": 6, "recipient_type": "user"});
    Answer::json(200, &json!({"chat_messages": [message], "metadata": {"is_expired": false}}))
}

fn expired() -> Answer {
    Answer::json(200, &json!({"chat_messages": [], "is_expired": true}))
}
