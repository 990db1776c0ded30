//! A wrong server closes no order that was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chatsync::db::runs::Trigger;
use chatsync::sync::{Progress, Request};
use tokio_util::sync::CancellationToken;

use super::{CLOSED, HELD, number, one_by_one, one_run, read, read_before, small_run};
use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, tests};
use crate::sync::{execute, feed};

tests!(
    a_server_that_knows_no_order_closes_none_that_was_read,
    a_storm_in_the_middle_of_a_run_takes_nothing_along,
    a_storm_in_the_last_orders_of_a_run_takes_nothing_along,
    many_small_runs_on_a_wrong_server_close_none_that_was_read,
    several_workers_on_a_wrong_server_close_fewer_new_orders_than_one_may,
    a_server_that_goes_wrong_closes_no_new_orders_if_a_readable_one_is_unknown_too,
    a_run_that_is_stopped_holds_what_it_cannot_decide,
    one_users_unknown_orders_are_held_beside_healthy_users,
    what_another_server_said_is_no_evidence_here,
    small_runs_close_none_of_a_users_orders_beside_those_of_others,
    closures_are_undone_by_retry,
);

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

async fn a_storm_in_the_middle_of_a_run_takes_nothing_along(lab: Arc<Lab>) -> anyhow::Result<()> {
    read_before(&lab, 2_000).await?;
    let seen = AtomicUsize::new(0);
    // The wrong server answers for a while, in the middle of the run.
    let api = Recorder::start(move |asked| {
        if (850..1_150).contains(&seen.fetch_add(1, Ordering::Relaxed)) { Answer::not_found() } else { read(asked) }
    })
    .await;
    let run = one_by_one(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.closed, run.counters.held),
        ("partial", 1_700, 0, 300)
    );
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
    assert_eq!((run.counters.fetched, run.counters.closed, run.counters.held), (170, 0, 20));
    assert_eq!(run.sent.requests, 193, "three that were read a moment before were asked again");
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
    let limited = Request { limit: Some(70), ..Request::all(Trigger::Manual) };
    for _ in 0..3 {
        let (stop, progress) = (CancellationToken::new(), Progress::default());
        let (one, two) = tokio::join!(one.run(&limited, &stop, &progress), two.run(&limited, &stop, &progress));
        assert!(one?.failure.is_none() && two?.failure.is_none());
    }
    let closed = lab.count(CLOSED).await?;
    assert!((1..100).contains(&closed), "{closed}");
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
    assert_eq!(one_run(&lab, &api).await?.counters.fetched, 20);
    sqlx::query("INSERT INTO sync.order_queue (order_id) SELECT 'order-' || n FROM generate_series(21, 720) AS n")
        .execute(&lab.pool)
        .await?;
    // 300 good replies, then none.
    let run = one_by_one(&lab, &api).await?;
    assert_eq!((run.counters.fetched, run.counters.closed, run.counters.held), (300, 0, 400));
    assert_eq!(run.sent.requests, 703, "three readable ones were asked");
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
    let request = Request::all(Trigger::Manual);
    let report = worker.run(&request, &stop, &Progress::default()).await?;
    assert_eq!((report.run.status.as_str(), report.run.counters.closed), ("interrupted", 0));
    let held = lab.count(HELD).await?;
    assert!((40..=41).contains(&held) && report.run.counters.held == held.unsigned_abs(), "{held}");
    Ok(())
}

async fn one_users_unknown_orders_are_held_beside_healthy_users(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 440).await?;
    execute(&lab, "UPDATE sync.order_queue SET connect_user_id = 'user-' || (substr(order_id, 7)::int - 1) / 40")
        .await?;
    let all_good = Recorder::start(read).await;
    assert_eq!(one_run(&lab, &all_good).await?.counters.fetched, 440);
    lab.make_all_due().await?;
    // The user of the last forty; and a new user with five new orders, all unknown.
    sqlx::query("INSERT INTO sync.order_queue (order_id, connect_user_id) SELECT 'order-' || n, 'new' FROM generate_series(441, 445) AS n")
        .execute(&lab.pool)
        .await?;
    let api = Recorder::start(|asked| if number(asked) > 400 { Answer::not_found() } else { read(asked) }).await;
    let run = one_run(&lab, &api).await?;
    assert_eq!(
        (run.status.as_str(), run.counters.fetched, run.counters.closed, run.counters.held),
        ("partial", 400, 0, 45)
    );
    let users = "SELECT string_agg(DISTINCT connect_user_id, ' ' ORDER BY connect_user_id) FROM sync.order_queue WHERE held_kind = 'closed'";
    assert_eq!(lab.text(users).await?.as_deref(), Some("new user-10"));
    Ok(())
}

async fn small_runs_close_none_of_a_users_orders_beside_those_of_others(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 200).await?;
    execute(&lab, "UPDATE sync.order_queue SET connect_user_id = 'user-' || substr(order_id, 7)::int % 5").await?;
    let all_good = Recorder::start(read).await;
    assert_eq!(one_run(&lab, &all_good).await?.counters.fetched, 200);
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
        assert_eq!((run.counters.fetched, run.counters.closed, run.counters.held), (20, 0, 3));
    }
    // A single vanished order is believed, because another one of the same user is readable.
    let api = Recorder::start(|asked| if number(asked) == 1 { Answer::not_found() } else { read(asked) }).await;
    execute(&lab, "UPDATE sync.order_queue SET due_at = now() WHERE order_id = 'order-1'").await?;
    let run = one_run(&lab, &api).await?;
    assert_eq!((run.counters.closed, run.counters.held, run.sent.requests), (1, 0, 2));
    Ok(())
}

async fn what_another_server_said_is_no_evidence_here(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 150).await?;
    let wrong = Recorder::start(|_| Answer::not_found()).await;
    assert_eq!(one_run(&lab, &wrong).await?.counters.held, 150);
    execute(&lab, "UPDATE sync.order_queue SET held_since = now() - interval '8 days', due_at = now()").await?;
    // Good replies of the right server are no evidence for the wrong one.
    let right = Recorder::start(|asked| if number(asked) == 1 { Answer::not_found() } else { read(asked) }).await;
    let run = one_run(&lab, &right).await?;
    assert_eq!((run.counters.fetched, run.counters.closed, run.counters.held), (149, 1, 0));
    let dated = "SELECT count(*) FROM sync.order_queue WHERE closed_at > now() - interval '1 day'";
    assert_eq!(lab.count(dated).await?, 1);
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
