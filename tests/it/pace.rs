//! The pace of real runs against the simulated API and its hidden limit: found, followed, shared and stored.
//!
//! These runs take real time. The assertions use the API's counters, allow for a busy machine, and say nothing about
//! the machine's speed. The unit tests assert exact bounds, on a simulated clock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::ensure;
use chatsync::db::pace::{self, PaceReport, Shared, Total};
use chatsync::db::runs::{self, Finish, Sent, Status, Trigger};
use chatsync::simulator::{self, Running, Stats};
use chatsync::sync::{Progress, Request, Worker};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::http::{Answer, Recorder};
use crate::support::{Lab, tests};
use crate::sync::{execute, feed, simulated};

tests!(
    a_run_finds_the_limit_and_the_next_one_starts_there,
    a_run_without_a_429_keeps_what_it_was_served_and_the_next_one_starts_there,
    a_run_below_the_stored_pace_does_not_lower_it,
    a_stored_pace_halves_with_every_day_without_confirmation,
    a_limit_that_halves_and_doubles_is_followed,
    three_workers_on_one_database_keep_to_a_limit_together,
    all_requests_keep_a_pause_that_the_api_asks_for,
    only_living_runs_of_the_same_api_share_its_pace,
    limits_found_by_several_workers_are_averaged,
    rates_served_to_several_workers_are_added_up,
    a_served_rate_raises_and_confirms_a_pace_but_does_not_lower_it,
);

const ALL: Request = Request::all(Trigger::Manual);

/// The results of the requests of some seconds.
struct Count {
    served_per_second: f64,
    refused_share: f64,
}

async fn start_api(limit: u32) -> anyhow::Result<Running> {
    let latency = Duration::from_millis(20);
    let options = simulator::Options { max_requests_per_second: Some(limit), latency, ..Default::default() };
    Ok(simulator::start(([127, 0, 0, 1], 0).into(), options).await?)
}

/// Lets some seconds pass, and counts the requests in them.
async fn count(api: &Running, seconds: u64) -> Count {
    let (before, start) = (api.stats(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, seconds) = (api.stats(), start.elapsed().as_secs_f64());
    let since = |count: fn(&Stats) -> u64| u32::try_from(count(&after) - count(&before)).map(f64::from).expect("few");
    let (requests, refused) = (since(|stats| stats.requests), since(|stats| stats.throttled));
    Count { served_per_second: (requests - refused) / seconds, refused_share: refused / requests.max(1.0) }
}

/// Workers that run until they are stopped.
struct Busy {
    stop: CancellationToken,
    runs: JoinSet<anyhow::Result<()>>,
}

impl Busy {
    /// Starts workers with more orders than they can read.
    async fn start(lab: &Arc<Lab>, workers: Vec<Worker>) -> anyhow::Result<Self> {
        feed(lab, 20_000).await?;
        let stop = CancellationToken::new();
        let mut runs = JoinSet::new();
        for worker in workers {
            let stop = stop.clone();
            runs.spawn(async move {
                let report = worker.run(&ALL, &stop, &Progress::default()).await?;
                ensure!(report.run.status.as_str() == "interrupted", "{report:?}");
                Ok(())
            });
        }
        Ok(Self { stop, runs })
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(run) = self.runs.join_next().await {
            run??;
        }
        Ok(())
    }
}

async fn a_run_finds_the_limit_and_the_next_one_starts_there(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = start_api(50).await?;
    let start_at = |rate| lab.worker(&lab.settings(&api.base_url(), &[("pace.initial_requests_per_second", rate)]));
    let busy = Busy::start(&lab, vec![start_at("20")]).await?;
    let _ = count(&api, 6).await;
    busy.stop().await?;
    let kept: f64 = sqlx::query_scalar("SELECT requests_per_second FROM sync.pace").fetch_one(&lab.pool).await?;
    assert!((40.0..60.0).contains(&kept), "{kept}");

    // A run that is too short to measure anything does not change it.
    let row = "SELECT p::text FROM sync.pace AS p";
    let before = lab.text(row).await?;
    let worker = start_at("1");
    let request = Request { limit: Some(1), ..ALL };
    worker.run(&request, &CancellationToken::new(), &Progress::default()).await?;
    let rate = worker.client.pace().rate();
    assert!((rate - kept).abs() < 0.01, "{rate} instead of {kept}");
    assert_eq!(lab.text(row).await?, before);
    api.stop().await;
    Ok(())
}

async fn kept(lab: &Lab) -> anyhow::Result<(f64, bool)> {
    Ok(sqlx::query_as("SELECT requests_per_second, is_limit FROM sync.pace").fetch_one(&lab.pool).await?)
}

/// Returns the rate at which a run starts, or slightly more: the run reads one order.
async fn start_rate(lab: &Lab, api: &Running, settings: &[(&str, &str)]) -> anyhow::Result<f64> {
    lab.enqueue(&[&format!("one-{}", Uuid::now_v7())]).await?;
    let worker = lab.worker(&lab.settings(&api.base_url(), settings));
    worker.run(&Request { limit: Some(1), ..ALL }, &CancellationToken::new(), &Progress::default()).await?;
    Ok(worker.client.pace().rate())
}

async fn a_run_without_a_429_keeps_what_it_was_served_and_the_next_one_starts_there(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    let api = simulator::start(([127, 0, 0, 1], 0).into(), simulator::Options::default()).await?;
    let slow = [("pace.initial_requests_per_second", "20")];
    // Stopped by the test after more than five seconds.
    let busy = Busy::start(&lab, vec![lab.worker(&lab.settings(&api.base_url(), &slow))]).await?;
    let served = count(&api, 7).await;
    busy.stop().await?;
    assert_eq!(api.stats().throttled, 0);
    let (rate, is_limit) = kept(&lab).await?;
    assert!(!is_limit && rate > 20.0, "{rate}");
    // The busiest five of seven seconds count.
    assert!(rate <= served.served_per_second * 7.0 / 5.0 * 1.1, "{rate} after {}", served.served_per_second);

    let row = "SELECT p::text FROM sync.pace AS p";
    let before = lab.text(row).await?;
    let start = start_rate(&lab, &api, &slow).await?;
    assert!(start >= rate - 0.01, "{start} instead of {rate}");
    assert_eq!(lab.text(row).await?, before, "a run too short to learn anything leaves it as it is");
    let start = start_rate(&lab, &api, &[("pace.initial_requests_per_second", "100000")]).await?;
    assert!(start >= 100_000.0 - 0.01, "{start}: an initial rate above what was served is the better start");
    api.stop().await;
    Ok(())
}

async fn a_run_below_the_stored_pace_does_not_lower_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = simulator::start(([127, 0, 0, 1], 0).into(), simulator::Options::default()).await?;
    let worker = lab.worker(&lab.settings(&api.base_url(), &[("pace.max_requests_per_second", "30")]));
    let client = Arc::clone(&worker.client);
    let insert =
        "INSERT INTO sync.pace (api, requests_per_second, found_at) VALUES ($1, 400, now() - interval '1 hour')";
    sqlx::query(insert).bind(worker.client.base_url()).execute(&lab.pool).await?;
    let row = "SELECT p::text FROM sync.pace AS p";
    let before = lab.text(row).await?;
    let busy = Busy::start(&lab, vec![worker]).await?;
    let _ = count(&api, 7).await;
    busy.stop().await?;
    assert!(client.pace().served().is_some_and(|served| served < 33.0), "{:?}", client.pace().served());
    assert_eq!(lab.text(row).await?, before);
    api.stop().await;
    Ok(())
}

async fn a_stored_pace_halves_with_every_day_without_confirmation(lab: Arc<Lab>) -> anyhow::Result<()> {
    let slow = [("pace.initial_requests_per_second", "20")];
    let api = simulator::start(([127, 0, 0, 1], 0).into(), simulator::Options::default()).await?;
    // The URL as the table holds it.
    let url = format!("{}/", api.base_url());
    sqlx::query("INSERT INTO sync.pace (api, requests_per_second) VALUES ($1, 400)")
        .bind(&url)
        .execute(&lab.pool)
        .await?;
    for (age, expected) in
        [("-1 hour", 400.0), ("23 hours", 400.0), ("25 hours", 200.0), ("49 hours", 100.0), ("100 days", 20.0)]
    {
        for is_limit in [true, false] {
            let set = "UPDATE sync.pace SET found_at = now() - $1::text::interval, is_limit = $2";
            sqlx::query(set).bind(age).bind(is_limit).execute(&lab.pool).await?;
            let start = start_rate(&lab, &api, &slow).await?;
            assert!(start >= expected - 0.01 && start < expected * 1.1, "{age}: {start} instead of {expected}");
            let known = pace::known(&mut *lab.pool.acquire().await?, &url, 20.0).await?;
            let known = known.map_or(20.0, |known| known.requests_per_second);
            assert!((known - expected).abs() < 0.01, "{age}: others read {known}");
        }
    }
    // A limit below the initial rate is believed for a day.
    execute(&lab, "UPDATE sync.pace SET requests_per_second = 5, is_limit = true, found_at = now()").await?;
    let start = start_rate(&lab, &api, &slow).await?;
    assert!((4.99..5.5).contains(&start), "{start}");
    execute(&lab, "UPDATE sync.pace SET found_at = now() - interval '25 hours'").await?;
    let start = start_rate(&lab, &api, &slow).await?;
    assert!((19.99..22.0).contains(&start), "{start}");
    api.stop().await;
    Ok(())
}

async fn a_limit_that_halves_and_doubles_is_followed(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = start_api(80).await?;
    let worker = lab.worker(&lab.settings(&api.base_url(), &[("pace.initial_requests_per_second", "20")]));
    let busy = Busy::start(&lab, vec![worker]).await?;
    let _ = count(&api, 4).await;
    api.set_max_requests_per_second(Some(40));
    let _ = count(&api, 2).await;
    let halved = count(&api, 3).await;
    assert!(halved.served_per_second > 32.0, "{}", halved.served_per_second);
    assert!(halved.refused_share < 0.06, "{}", halved.refused_share);
    api.set_max_requests_per_second(Some(80));
    let _ = count(&api, 13).await;
    let doubled = count(&api, 3).await;
    assert!(doubled.served_per_second > 60.0, "{}", doubled.served_per_second);
    assert!(doubled.refused_share < 0.1, "{}", doubled.refused_share);
    busy.stop().await?;
    api.stop().await;
    Ok(())
}

async fn three_workers_on_one_database_keep_to_a_limit_together(lab: Arc<Lab>) -> anyhow::Result<()> {
    let api = start_api(90).await?;
    let more = [("pace.initial_requests_per_second", "20"), ("pace.max_in_flight", "8")];
    let workers: Vec<_> = (0..3).map(|_| lab.worker(&lab.settings(&api.base_url(), &more))).collect();
    let clients: Vec<_> = workers.iter().map(|worker| Arc::clone(&worker.client)).collect();
    let busy = Busy::start(&lab, workers).await?;
    let _ = count(&api, 8).await;
    let together = count(&api, 9).await;
    assert!(together.served_per_second > 72.0, "{}", together.served_per_second);
    assert!(together.refused_share < 0.05, "{}", together.refused_share);
    let rates: Vec<_> = clients.iter().map(|client| client.pace().rate()).collect();
    assert!(rates.iter().all(|rate| (12.0..55.0).contains(rate)), "{rates:?}");
    assert!(rates.iter().sum::<f64>() < 110.0, "{rates:?}");
    busy.stop().await?;
    api.stop().await;
    let kept: f64 = sqlx::query_scalar("SELECT requests_per_second FROM sync.pace").fetch_one(&lab.pool).await?;
    assert!((60.0..120.0).contains(&kept), "the pace of all of them is kept: {kept}");
    Ok(())
}

async fn all_requests_keep_a_pause_that_the_api_asks_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (status, retry_after) in [(429, "0"), (503, "1")] {
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let api = {
            let arrivals = Arc::clone(&arrivals);
            Recorder::start(move |asked| {
                let mut arrivals = arrivals.lock().expect("not poisoned");
                arrivals.push(Instant::now());
                if arrivals.len() > 1 {
                    return simulated(asked);
                }
                Answer::new(status, "{}").with_header("retry-after", retry_after)
            })
            .await
        };
        let orders = ["first", "second", "third"].map(|order| format!("{order}-{status}"));
        lab.enqueue(&orders.each_ref().map(String::as_str)).await?;
        // Without the pause the others would be sent a quarter of a second apart.
        lab.sync(api.url(), &[("pace.initial_requests_per_second", "4")]).await?;
        let arrivals = arrivals.lock().expect("not poisoned").clone();
        assert_eq!(arrivals.len(), 4, "every order is asked for, one of them twice");
        // On a very busy machine the second request may be in flight when the reply arrives; the third is not.
        let waited = arrivals[2] - arrivals[0];
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }
    Ok(())
}

const API: &str = "http://127.0.0.1:1/";

async fn start_run(lab: &Lab, api: &str) -> anyhow::Result<(Uuid, Shared)> {
    let run_id = Uuid::now_v7();
    runs::start(&lab.store, run_id, Trigger::Manual, "test", Duration::from_mins(1)).await?;
    Ok((run_id, pace::join(&lab.store, run_id, api, 20.0).await?))
}

async fn only_living_runs_of_the_same_api_share_its_pace(lab: Arc<Lab>) -> anyhow::Result<()> {
    let alone = Shared { workers: 1, total: None };
    let together = Shared { workers: 2, total: None };
    let report = PaceReport { rate: 5.0, served: None, found: None, workers: 1, initial: 20.0 };
    let (first, shared) = start_run(&lab, API).await?;
    assert_eq!(shared, alone);
    assert_eq!(start_run(&lab, "http://127.0.0.1:2/").await?.1, alone);
    let (second, shared) = start_run(&lab, API).await?;
    assert_eq!(shared, together);
    assert_eq!(pace::report(&lab.store, first, API, &report).await?, together);
    finish(&lab, second).await?;
    assert_eq!(pace::report(&lab.store, first, API, &report).await?, alone);
    execute(&lab, "UPDATE sync.runs SET alive_until = now() - interval '1 second'").await?;
    assert_eq!(start_run(&lab, API).await?.1, alone);
    let rates = "SELECT count(*) FROM sync.runs WHERE requests_per_second = 5";
    assert_eq!(lab.count(rates).await?, 1, "its rate stands in the row of its run");
    assert_eq!(lab.count("SELECT count(*) FROM sync.pace").await?, 0, "no run found a limit");
    Ok(())
}

async fn limits_found_by_several_workers_are_averaged(lab: Arc<Lab>) -> anyhow::Result<()> {
    let found = async |run_id, found, workers| report(&lab, run_id, None, Some(found), workers).await;
    let limit = |per_second| Some(Total { per_second, is_limit: true });
    let (first, _) = start_run(&lab, API).await?;
    assert_eq!(found(first, 90.0, 1).await?, limit(90.0));
    assert_eq!(found(first, 40.0, 1).await?, limit(40.0), "a single worker is believed");
    let (second, shared) = start_run(&lab, API).await?;
    assert_eq!(shared, Shared { workers: 2, total: limit(40.0) });
    assert_eq!(found(first, 20.0, 1).await?, limit(40.0), "found before the other came");
    assert_eq!(found(first, 20.0, 2).await?, limit(30.0));
    assert_eq!(found(second, 50.0, 2).await?, limit(40.0));
    Ok(())
}

/// Reports the rate that a run was served, and the limit that it found.
async fn report(
    lab: &Lab,
    run_id: Uuid,
    served: Option<f64>,
    found: Option<f64>,
    workers: u32,
) -> anyhow::Result<Option<Total>> {
    let report = PaceReport { rate: 1.0, served, found, workers, initial: 20.0 };
    Ok(pace::report(&lab.store, run_id, API, &report).await?.total)
}

async fn rates_served_to_several_workers_are_added_up(lab: Arc<Lab>) -> anyhow::Result<()> {
    let served = |per_second| Some(Total { per_second, is_limit: false });
    let report = async |run_id, served, workers| report(&lab, run_id, served, None, workers).await;
    let (first, _) = start_run(&lab, API).await?;
    let (second, _) = start_run(&lab, API).await?;
    assert_eq!(report(first, None, 2).await?, None);
    assert_eq!(report(first, Some(60.0), 2).await?, served(60.0));
    assert_eq!(report(second, Some(50.0), 2).await?, served(110.0));
    assert_eq!(report(first, Some(55.0), 2).await?, served(110.0));
    assert_eq!(report(first, Some(80.0), 1).await?, served(110.0), "served before the other came");
    finish(&lab, second).await?;
    assert_eq!(report(first, Some(105.0), 1).await?, served(110.0), "only those that run count");
    // Only the next run starts with it.
    assert_eq!(start_run(&lab, API).await?.1, Shared { workers: 2, total: served(110.0) });
    Ok(())
}

async fn a_served_rate_raises_and_confirms_a_pace_but_does_not_lower_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let (run, _) = start_run(&lab, API).await?;
    let cases = [
        // The stored rate, its age, the served rate, the rate stored then, and whether it is confirmed.
        (100.0, "1 hour", 80.0, 100.0, false),
        (100.0, "1 hour", 95.0, 100.0, true),
        (100.0, "1 hour", 130.0, 130.0, true),
        (100.0, "25 hours", 30.0, 100.0, false),
        (100.0, "25 hours", 48.0, 50.0, true),
        (100.0, "25 hours", 70.0, 70.0, true),
    ];
    for (before, age, served, expected, is_confirmed) in cases {
        let set =
            "INSERT INTO sync.pace (api, requests_per_second, found_at) VALUES ($1, $2, now() - $3::text::interval)
                   ON CONFLICT (api) DO UPDATE
                   SET requests_per_second = excluded.requests_per_second, found_at = excluded.found_at,
                       is_limit = excluded.is_limit";
        sqlx::query(set).bind(API).bind(before).bind(age).execute(&lab.pool).await?;
        report(&lab, run, Some(served), None, 1).await?;
        let (kept, _) = kept(&lab).await?;
        let is_new =
            lab.count("SELECT count(*) FROM sync.pace WHERE found_at > now() - interval '1 minute'").await? == 1;
        assert_eq!((kept, is_new), (expected, is_confirmed), "{before} {age} ago, served {served}");
    }
    // A 429 may lower it, also a rate that was not confirmed for a while.
    assert_eq!(report(&lab, run, Some(60.0), Some(33.0), 1).await?, Some(Total { per_second: 33.0, is_limit: true }));
    Ok(())
}

/// Ends a run in which nothing happened.
async fn finish(lab: &Lab, run_id: Uuid) -> anyhow::Result<()> {
    let finish = Finish { status: Status::Succeeded, error: None, sent: Sent::default(), at_risk: None, overdue: None };
    runs::finish(&lab.store, run_id, &finish).await?;
    Ok(())
}
