//! Leases: only the holder of an order writes it.

use std::sync::Arc;

use chatsync::db::queue::{self, Feeding};
use chatsync::domain::{NewOrder, OrderId};
use serde_json::json;

use super::{Door, Process, behind_a_door, execute, feed, orders_asked, simulated, start_run, times_asked, until};
use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};
use nix::sys::signal::Signal;

tests!(
    a_worker_that_lost_its_lease_writes_nothing,
    a_late_reply_does_not_overwrite_what_another_worker_wrote_meanwhile,
    an_order_reopened_while_it_is_fetched_is_left_to_the_next_run,
    an_expired_lease_is_taken_over,
    a_lease_cannot_be_infinite,
    a_run_waits_for_an_order_of_another_worker_and_fetches_it_once_it_is_free,
    a_run_ends_when_another_worker_has_settled_the_order_it_waited_for,
    a_worker_that_was_paused_beyond_its_lease_writes_nothing,
    a_lease_is_renewed_while_a_request_lasts_longer_than_it,
);

async fn a_worker_that_lost_its_lease_writes_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["stolen"]).await?;
    let (door, api) = behind_a_door().await;
    let run = start_run(&lab, &api, &[]);
    door.arrivals(1).await;
    execute(
        &lab,
        "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = now() + interval '1 minute'",
    )
    .await?;
    let stolen = queue_row(&lab).await?;
    door.open();
    // Requests are counted in the transaction that would have written the order.
    until(&lab, "SELECT requests = 1 FROM sync.runs").await?;
    assert_eq!(queue_row(&lab).await?, stolen);
    assert_eq!(lab.dump("chat").await?, Vec::<String>::new());

    execute(&lab, "UPDATE sync.order_queue SET state = 'closed', lease_id = NULL, leased_until = NULL").await?;
    let report = run.await??;
    assert_eq!(
        (report.run.counters.claimed, report.run.counters.fetched, report.run.counters.messages_inserted),
        (0, 0, 0)
    );
    assert_eq!(report.run.status.as_str(), "succeeded");
    assert_eq!(lab.dump("chat").await?, Vec::<String>::new());
    assert_eq!(lab.count("SELECT count(*) FROM sync.rejects").await?, 0);
    Ok(())
}

async fn a_late_reply_does_not_overwrite_what_another_worker_wrote_meanwhile(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["raced"]).await?;
    let door = Door::shut();
    let gate = door.gate();
    let late = Recorder::start(move |_| {
        gate.pass();
        one_message("before")
    })
    .await;
    let prompt = Recorder::start(|_| one_message("after")).await;

    let overtaken = start_run(&lab, &late, &[]);
    door.arrivals(1).await;
    execute(&lab, "UPDATE sync.order_queue SET leased_until = now()").await?;
    let report = lab.sync(prompt.url(), &[]).await?;
    assert_eq!(report.run.counters.fetched, 1);
    let (chat, queue) = (lab.dump("chat").await?, queue_row(&lab).await?);
    assert!(chat.iter().any(|row| row.contains("after")), "{chat:?}");

    door.open();
    let report = overtaken.await??;
    assert_eq!((report.run.counters.claimed, report.run.sent.requests), (0, 1));
    assert_eq!(lab.dump("chat").await?, chat);
    assert_eq!(queue_row(&lab).await?, queue);
    Ok(())
}

async fn an_order_reopened_while_it_is_fetched_is_left_to_the_next_run(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["corrected"]).await?;
    let (door, api) = behind_a_door().await;
    let run = start_run(&lab, &api, &[]);
    door.arrivals(1).await;
    let corrected = NewOrder { retailer_id: Some("7".to_owned()), ..NewOrder::new(OrderId::new("corrected")?) };
    queue::enqueue(&lab.store, &[corrected], &Feeding { reopen: true, ..Feeding::of("test") }).await?;
    door.open();
    assert_eq!(run.await??.run.counters.claimed, 0);
    assert_eq!(lab.dump("chat").await?, Vec::<String>::new());

    assert_eq!(lab.sync(api.url(), &[]).await?.run.counters.claimed, 1);
    let retailers: Vec<_> =
        api.chat_requests().iter().map(|asked| asked.header("x-retailer-id").map(str::to_owned)).collect();
    assert_eq!(retailers, [None, Some("7".to_owned())]);
    Ok(())
}

async fn an_expired_lease_is_taken_over(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["orphan"]).await?;
    execute(&lab, "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = now()").await?;
    let api = Recorder::start(simulated).await;
    assert_eq!(lab.sync(api.url(), &[]).await?.run.counters.claimed, 1);
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, 1);
    Ok(())
}

async fn a_worker_that_was_paused_beyond_its_lease_writes_nothing(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, 20).await?;
    let (door, api) = behind_a_door().await;
    let worker = Process::start(&lab, lab.configured(&["sync"], api.url(), &[("queue.lease", "2s")]))?;
    door.arrivals(20).await;
    worker.send(Signal::SIGSTOP)?;
    // No other worker takes the orders over: only the clock has ended the leases.
    until(&lab, "SELECT bool_and(leased_until < now()) FROM sync.order_queue").await?;
    door.open();
    worker.send(Signal::SIGCONT)?;
    worker.logs("leases had ended").await?;
    worker.ends_with(0).await?;
    let times = times_asked(&api);
    assert_eq!((times.len(), times.values().all(|times| *times == 2)), (20, true), "{times:?}");
    let run = "SELECT concat_ws(' ', status, claimed, requests) FROM sync.runs";
    assert_eq!(lab.text(run).await?.as_deref(), Some("succeeded 20 40"));
    Ok(())
}

async fn a_lease_cannot_be_infinite(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["parked"]).await?;
    let leases = [
        "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = 'infinity'",
        "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = '-infinity'",
    ];
    for lease in leases {
        let refusal = execute(&lab, lease).await.expect_err("no program counts that far");
        assert!(format!("{refusal:#}").contains("leased_until_is_finite"), "{refusal:#}");
    }
    Ok(())
}

async fn a_run_waits_for_an_order_of_another_worker_and_fetches_it_once_it_is_free(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    one_free_and_one_held(&lab).await?;
    let run = start_run(&lab, &api, &[]);
    until(&lab, "SELECT count(*) = 1 FROM chat.orders WHERE order_id = 'free'").await?;
    assert_eq!(orders_asked(&api), ["free"]);
    execute(&lab, "UPDATE sync.order_queue SET lease_id = NULL, leased_until = NULL WHERE order_id = 'held'").await?;
    assert_eq!(run.await??.run.counters.claimed, 2);
    assert_eq!(orders_asked(&api), ["free", "held"]);
    Ok(())
}

async fn a_run_ends_when_another_worker_has_settled_the_order_it_waited_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = Recorder::start(simulated).await;
    one_free_and_one_held(&lab).await?;
    let run = start_run(&lab, &api, &[]);
    until(&lab, "SELECT count(*) = 1 FROM chat.orders WHERE order_id = 'free'").await?;
    execute(
        &lab,
        "UPDATE sync.order_queue
         SET state = 'open', due_at = now() + interval '6 hours', lease_id = NULL, leased_until = NULL
         WHERE order_id = 'held'",
    )
    .await?;
    let report = run.await??;
    assert_eq!((report.run.counters.claimed, report.run.status.as_str()), (1, "succeeded"));
    assert_eq!(orders_asked(&api), ["free"]);
    Ok(())
}

async fn a_lease_is_renewed_while_a_request_lasts_longer_than_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    lab.enqueue(&["slow"]).await?;
    let (door, api) = behind_a_door().await;
    let short = &[("queue.lease", "3s")];
    let run = start_run(&lab, &api, short);
    door.arrivals(1).await;
    execute(&lab, "CREATE TABLE claimed AS SELECT lease_id, leased_until FROM sync.order_queue").await?;
    let rival = start_run(&lab, &api, short);
    until(&lab, "SELECT now() > leased_until + interval '1 second' FROM claimed").await?;
    let kept = "SELECT count(*) FROM sync.order_queue AS q JOIN claimed AS c USING (lease_id)
                WHERE q.leased_until > now() AND q.leased_until <= now() + interval '3 seconds'";
    assert_eq!(lab.count(kept).await?, 1);
    door.open();
    assert_eq!(run.await??.run.counters.claimed, 1);
    assert_eq!(rival.await??.run.counters.claimed, 0);
    assert_eq!(orders_asked(&api), ["slow"]);
    Ok(())
}

/// `free`, and `held` by another worker for a long time.
async fn one_free_and_one_held(lab: &Lab) -> anyhow::Result<()> {
    lab.enqueue(&["free", "held"]).await?;
    execute(
        lab,
        "UPDATE sync.order_queue SET lease_id = gen_random_uuid(), leased_until = now() + interval '1 minute'
         WHERE order_id = 'held'",
    )
    .await
}

async fn queue_row(lab: &Lab) -> anyhow::Result<Option<String>> {
    lab.text("SELECT to_jsonb(q)::text FROM sync.order_queue AS q").await
}

fn one_message(body: &str) -> Answer {
    let message = json!({
        "id": 1, "order_id": 2, "created_at": "2026-01-05T10:00:00Z", "sender_id": 3, "sender_type": "user",
        "recipient_id": 4, "recipient_type": "driver", "read": false, "body": body,
    });
    Answer::json(200, &json!({"is_expired": false, "chat_messages": [message], "metadata": null}))
}
