//! Which orders a run fetches, in which order, and when it fetches them again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::{FOUND_LOSSES, behind_a_door, execute, feed, orders_asked, simulated, start_run};
use crate::support::http::{Answer, Recorder};
use crate::support::{Finished, Lab, tests};

tests!(
    the_nearest_deadline_goes_first_within_a_priority,
    orders_that_are_not_due_or_done_with_are_not_asked_for,
    new_orders_are_due_even_if_the_clock_was_set_back_since,
    a_limit_takes_the_most_urgent_orders_and_leaves_the_rest,
    the_most_urgent_of_a_long_queue_go_first_although_they_were_due_last,
    one_database_connection_is_enough,
    an_open_order_is_due_again_after_refresh_after,
    a_run_ends_although_its_orders_are_due_again_at_once,
    failures_back_off_until_the_order_is_dead,
    what_every_order_meets_kills_none,
    an_answer_forgets_the_failures_before_it,
    an_order_enqueued_during_a_run_waits_for_the_next_one,
    one_that_was_due_before_it_is_read_all_the_same,
);

async fn the_nearest_deadline_goes_first_within_a_priority(lab: Arc<Lab>) -> anyhow::Result<()> {
    execute(
        &lab,
        "INSERT INTO sync.order_queue (order_id, priority, completed_at, last_fetched_at, enqueued_at)
         SELECT order_id, priority, now() - completed, now() - fetched, now() - enqueued
         FROM (VALUES
             ('low',             -1, interval '23 hours', NULL,                interval '24 hours'),
             ('completed-late',   0, interval '1 hour',   interval '12 hours', interval '40 hours'),
             ('enqueued',         0, NULL,                NULL,                interval '5 hours'),
             ('fetched',          0, NULL,                interval '10 hours', interval '30 hours'),
             ('completed-early',  0, interval '20 hours', interval '2 hours',  interval '21 hours'),
             ('urgent',           5, NULL,                NULL,                interval '0 hours')
         ) AS t (order_id, priority, completed, fetched, enqueued)",
    )
    .await?;
    // Enough for several claims, inserted from the least urgent to the most.
    execute(
        &lab,
        "INSERT INTO sync.order_queue (order_id, enqueued_at)
         SELECT 'filler-' || n, now() - interval '100 hours' + n * interval '1 minute'
         FROM generate_series(100, 1, -1) AS n",
    )
    .await?;
    let api = Recorder::start(simulated).await;
    lab.sync(api.url(), &[("pace.max_in_flight", "1")]).await?;

    let fillers = (1..=100).map(|n| format!("filler-{n}"));
    let expected = std::iter::once("urgent".to_owned())
        .chain(fillers)
        .chain(["completed-early", "fetched", "enqueued", "completed-late", "low"].map(str::to_owned));
    assert_eq!(orders_asked(&api), expected.collect::<Vec<_>>());
    Ok(())
}

async fn orders_that_are_not_due_or_done_with_are_not_asked_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    execute(
        &lab,
        "INSERT INTO sync.order_queue (order_id, state, due_at)
         SELECT 'later-' || state, state, now() + interval '1 minute' FROM unnest(ARRAY['pending', 'open']) AS state
         UNION ALL
         SELECT state, state, now() - interval '1 minute'
         FROM unnest(ARRAY['pending', 'open', 'closed', 'expired', 'quiet', 'dead']) AS state",
    )
    .await?;
    let untouched = "SELECT string_agg(to_jsonb(q)::text, ' ' ORDER BY order_id) FROM sync.order_queue AS q
                     WHERE order_id NOT IN ('pending', 'open')";
    let before = lab.text(untouched).await?;
    let api = Recorder::start(simulated).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!((report.run.counters.claimed, report.run.status.as_str()), (2, "succeeded"));
    let mut asked = orders_asked(&api);
    asked.sort_unstable();
    assert_eq!(asked, ["open", "pending"]);
    assert_eq!(lab.text(untouched).await?, before);
    Ok(())
}

async fn new_orders_are_due_even_if_the_clock_was_set_back_since(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["order-1"]).await?;
    execute(&lab, "INSERT INTO sync.order_queue (order_id) VALUES ('order-2')").await?;
    execute(&lab, "UPDATE sync.order_queue SET enqueued_at = now() + interval '1 hour'").await?;
    let api = Recorder::start(simulated).await;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!((report.run.counters.claimed, report.run.status.as_str()), (2, "succeeded"));
    Ok(())
}

async fn a_limit_takes_the_most_urgent_orders_and_leaves_the_rest(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 100).await?;
    execute(&lab, "UPDATE sync.order_queue SET priority = 1 WHERE order_id IN ('order-30', 'order-60', 'order-90')")
        .await?;
    let api = Recorder::start(simulated).await;
    let sync = lab.configured(&["sync", "--limit", "3", "--json"], api.url(), &[]);
    let run: Value = serde_json::from_str(&Finished::of(sync).await?.expect_code(0).stdout)?;
    assert_eq!(run["claimed"], 3);
    let mut asked = orders_asked(&api);
    asked.sort_unstable();
    assert_eq!(asked, ["order-30", "order-60", "order-90"]);
    assert_eq!(
        lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'pending' AND due_at <= now()").await?,
        97
    );
    Ok(())
}

async fn the_most_urgent_of_a_long_queue_go_first_although_they_were_due_last(lab: Arc<Lab>) -> anyhow::Result<()> {
    // More orders than a run looks at.
    execute(
        &lab,
        "INSERT INTO sync.order_queue (order_id, priority, due_at)
         SELECT 'order-' || n, n / 50100, now() - interval '1 day' + n * interval '1 second'
         FROM generate_series(1, 50100) AS n",
    )
    .await?;
    let api = Recorder::start(simulated).await;
    let sync = lab.configured(&["sync", "--limit", "1"], api.url(), &[]);
    Finished::of(sync).await?.expect_code(0);
    assert_eq!(orders_asked(&api), ["order-50100"]);
    Ok(())
}

async fn one_database_connection_is_enough(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 1_000).await?;
    let api = Recorder::start(simulated).await;
    // The lease is so short that its renewal needs a connection as well.
    let sync = lab.configured(&["sync"], api.url(), &[("database.max_connections", "1"), ("queue.lease", "1s")]);
    Finished::of(sync).await?.expect_code(FOUND_LOSSES);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 1_000);
    Ok(())
}

async fn an_open_order_is_due_again_after_refresh_after(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["open"]).await?;
    let api = Recorder::start(simulated).await;
    lab.sync(api.url(), &[("queue.refresh_after", "3h")]).await?;
    let due_in = lab.count(DUE_IN_SECONDS).await?;
    assert!((3 * 3600 - 60..=3 * 3600).contains(&due_in), "due in {due_in} s");

    assert_eq!(lab.sync(api.url(), &[]).await?.run.counters.claimed, 0);
    lab.make_all_due().await?;
    let report = lab.sync(api.url(), &[]).await?;
    assert_eq!((report.run.counters.claimed, report.run.counters.unchanged), (1, 1));
    let due_in = lab.count(DUE_IN_SECONDS).await?;
    assert!((6 * 3600 - 60..=6 * 3600).contains(&due_in), "due in {due_in} s although nothing was new");
    Ok(())
}

async fn a_run_ends_although_its_orders_are_due_again_at_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 100).await?;
    let api = Recorder::start(simulated).await;
    let more = [("queue.refresh_after", "1ms"), ("pace.max_in_flight", "2")];
    assert_eq!(lab.sync(api.url(), &more).await?.run.counters.claimed, 100);
    assert_eq!(orders_asked(&api).len(), 100);
    Ok(())
}

async fn failures_back_off_until_the_order_is_dead(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["garbled"]).await?;
    let api = Recorder::start(|_| Answer::new(200, "nonsense")).await;
    let patience = [("queue.retry_backoff", "1m"), ("queue.retry_backoff_max", "3m"), ("queue.max_failures", "4")];
    // A quarter more or less, never above the maximum; ten seconds for the test itself.
    for (failures, expected) in [(1, 35..=75), (2, 80..=150), (3, 125..=180)] {
        let report = lab.sync(api.url(), &patience).await?;
        assert_eq!((report.run.counters.failed, report.run.counters.dead), (1, 0));
        assert_eq!(lab.count("SELECT failures::bigint FROM sync.order_queue WHERE state = 'pending'").await?, failures);
        let due_in = lab.count(DUE_IN_SECONDS).await?;
        assert!(expected.contains(&due_in), "due in {due_in} s after {failures} failures");
        assert_eq!(lab.sync(api.url(), &patience).await?.run.counters.claimed, 0);
        lab.make_all_due().await?;
    }
    let report = lab.sync(api.url(), &patience).await?;
    assert_eq!((report.run.counters.failed, report.run.counters.dead), (0, 1));
    let shown = "SELECT concat_ws(' ', q.state, q.failures, q.last_error_kind, o.coverage)
                FROM sync.order_queue AS q JOIN chat.orders AS o USING (order_id)";
    assert_eq!(lab.text(shown).await?.as_deref(), Some("dead 4 not_understood failed"));

    lab.make_all_due().await?;
    assert_eq!(lab.sync(api.url(), &patience).await?.run.counters.claimed, 0);
    assert_eq!(orders_asked(&api).len(), 4);
    Ok(())
}

async fn what_every_order_meets_kills_none(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["healthy"]).await?;
    let is_garbling = Arc::new(AtomicBool::new(false));
    let garbles = Arc::clone(&is_garbling);
    let nonsense = || Answer::new(200, "nonsense");
    let api = Recorder::start(move |_| if garbles.load(Ordering::SeqCst) { nonsense() } else { forbidden() }).await;
    for _ in 0..3 {
        lab.make_all_due().await?;
        lab.sync(api.url(), &[("queue.max_failures", "2")]).await?;
    }
    // The first other failure after it does not, either.
    is_garbling.store(true, Ordering::SeqCst);
    lab.make_all_due().await?;
    lab.sync(api.url(), &[("queue.max_failures", "2")]).await?;
    let shown = "SELECT concat_ws(' ', state, failures, counted_failures) FROM sync.order_queue";
    assert_eq!(lab.text(shown).await?.as_deref(), Some("pending 4 1"));
    Ok(())
}

async fn an_answer_forgets_the_failures_before_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["shaky"]).await?;
    let is_refusing = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&is_refusing);
    let api = Recorder::start(move |asked| if refuses.load(Ordering::SeqCst) { forbidden() } else { simulated(asked) });
    let api = api.await;
    let shown = "SELECT concat_ws(' ', state, failures, last_error_kind) FROM sync.order_queue";
    for (is_refused, expected) in [(true, "pending 1 forbidden"), (false, "open 0"), (true, "open 1 forbidden")] {
        is_refusing.store(is_refused, Ordering::SeqCst);
        lab.make_all_due().await?;
        lab.sync(api.url(), &[("queue.max_failures", "2")]).await?;
        assert_eq!(lab.text(shown).await?.as_deref(), Some(expected));
    }
    Ok(())
}

async fn an_order_enqueued_during_a_run_waits_for_the_next_one(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["early"]).await?;
    let (door, api) = behind_a_door().await;
    let run = start_run(&lab, &api, &[]);
    door.arrivals(1).await;
    lab.enqueue(&["late"]).await?;
    door.open();
    assert_eq!(run.await??.run.counters.claimed, 1);
    assert_eq!(orders_asked(&api), ["early"]);
    assert_eq!(lab.sync(api.url(), &[]).await?.run.counters.claimed, 1);
    assert_eq!(orders_asked(&api), ["early", "late"]);
    Ok(())
}

async fn one_that_was_due_before_it_is_read_all_the_same(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["early"]).await?;
    let (door, api) = behind_a_door().await;
    let run = start_run(&lab, &api, &[]);
    door.arrivals(1).await;
    // This order comes before all that the run has found due.
    execute(
        &lab,
        "INSERT INTO sync.order_queue (order_id, priority, due_at) VALUES ('late', 1, now() - interval '1 day')",
    )
    .await?;
    door.open();
    assert_eq!(run.await??.run.counters.claimed, 2);
    assert_eq!(orders_asked(&api), ["early", "late"]);
    Ok(())
}

const DUE_IN_SECONDS: &str = "SELECT extract(epoch FROM due_at - now())::bigint FROM sync.order_queue";

fn forbidden() -> Answer {
    Answer::json(403, &serde_json::json!({"error": {"message": "Forbidden", "code": 4030}}))
}
