//! The pace of real runs against the simulated API and its hidden limit: found, followed, shared and kept.
//!
//! These runs take the time that they take. What is asserted is counted by the API, leaves room for a busy machine, and
//! says nothing about how fast it is; the exact bars are those of the unit tests, on a clock of their own.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::ensure;
use chatsync::db::pace::{self, Report, Shared};
use chatsync::db::runs::{self, Finish, Status, Trigger};
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
    a_limit_that_halves_and_doubles_is_followed,
    three_workers_on_one_database_keep_to_a_limit_together,
    a_wait_that_the_api_asks_for_is_kept_by_everybody,
    only_living_runs_of_the_same_api_share_its_pace,
    what_several_workers_find_comes_to_a_mean,
);

const ALL: Request = Request { trigger: Trigger::Manual, only: None, limit: None };

/// What came of the requests of some seconds.
struct Count {
    served_per_second: f64,
    refused_share: f64,
}

async fn start_api(limit: u32) -> anyhow::Result<Running> {
    let latency = Duration::from_millis(20);
    let options = simulator::Options { max_requests_per_second: Some(limit), latency, ..Default::default() };
    Ok(simulator::start(([127, 0, 0, 1], 0).into(), options).await?)
}

/// Lets some seconds pass.
async fn count(api: &Running, seconds: u64) -> Count {
    let (before, start) = (api.stats(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, seconds) = (api.stats(), start.elapsed().as_secs_f64());
    let since = |count: fn(&Stats) -> u64| u32::try_from(count(&after) - count(&before)).map(f64::from).expect("few");
    let (requests, refused) = (since(|stats| stats.requests), since(|stats| stats.throttled));
    Count { served_per_second: (requests - refused) / seconds, refused_share: refused / requests.max(1.0) }
}

/// Ends with its test.
struct Busy {
    stop: CancellationToken,
    runs: JoinSet<anyhow::Result<()>>,
}

impl Busy {
    /// Workers that have more to do than they can do.
    async fn start(lab: &Arc<Lab>, workers: Vec<Worker>) -> anyhow::Result<Self> {
        feed(lab, 20_000).await?;
        let stop = CancellationToken::new();
        let mut runs = JoinSet::new();
        for worker in workers {
            let stop = stop.clone();
            runs.spawn(async move {
                let report = worker.run(&ALL, &stop, &Progress::default()).await?;
                ensure!(report.run.status == "interrupted", "{report:?}");
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

    // A run too short to learn anything leaves it as it is.
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

async fn a_wait_that_the_api_asks_for_is_kept_by_everybody(lab: Arc<Lab>) -> anyhow::Result<()> {
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
        // The others would have gone a quarter of a second apart.
        lab.sync(api.url(), &[("pace.initial_requests_per_second", "4")]).await?;
        let arrivals = arrivals.lock().expect("not poisoned").clone();
        assert_eq!(arrivals.len(), 4, "every order is asked for, one of them twice");
        // By the time of the reply the second may be on its way, on a very busy machine; the third is not.
        let waited = arrivals[2] - arrivals[0];
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }
    Ok(())
}

const API: &str = "http://127.0.0.1:1/";

async fn start_run(lab: &Lab, api: &str) -> anyhow::Result<(Uuid, Shared)> {
    let run_id = Uuid::now_v7();
    runs::start(&lab.pool, run_id, Trigger::Manual, "test", Duration::from_mins(1)).await?;
    let mut connection = lab.pool.acquire().await?;
    Ok((run_id, pace::join(&mut connection, run_id, api).await?))
}

async fn only_living_runs_of_the_same_api_share_its_pace(lab: Arc<Lab>) -> anyhow::Result<()> {
    let alone = Shared { workers: 1, total: None };
    let together = Shared { workers: 2, total: None };
    let report = Report { rate: 5.0, found: None, workers: 1 };
    let (first, shared) = start_run(&lab, API).await?;
    assert_eq!(shared, alone);
    assert_eq!(start_run(&lab, "http://127.0.0.1:2/").await?.1, alone);
    let (second, shared) = start_run(&lab, API).await?;
    assert_eq!(shared, together);
    assert_eq!(pace::report(&lab.pool, first, API, &report).await?, together);
    let finish = Finish { status: Status::Succeeded, error: None, sent: (0, 0), at_risk: None, overdue: None };
    runs::finish(&lab.pool, second, &finish).await?;
    assert_eq!(pace::report(&lab.pool, first, API, &report).await?, alone);
    execute(&lab, "UPDATE sync.runs SET alive_until = now() - interval '1 second'").await?;
    assert_eq!(start_run(&lab, API).await?.1, alone);
    let rates = "SELECT count(*) FROM sync.runs WHERE requests_per_second = 5";
    assert_eq!(lab.count(rates).await?, 1, "its rate stands in the row of its run");
    assert_eq!(lab.count("SELECT count(*) FROM sync.pace").await?, 0, "nobody found anything");
    Ok(())
}

async fn what_several_workers_find_comes_to_a_mean(lab: Arc<Lab>) -> anyhow::Result<()> {
    let report = async |run_id, found, workers| {
        let report = Report { rate: 1.0, found: Some(found), workers };
        anyhow::Ok(pace::report(&lab.pool, run_id, API, &report).await?.total)
    };
    let (first, _) = start_run(&lab, API).await?;
    assert_eq!(report(first, 90.0, 1).await?, Some(90.0));
    assert_eq!(report(first, 40.0, 1).await?, Some(40.0), "a worker that is alone is believed");
    let (second, shared) = start_run(&lab, API).await?;
    assert_eq!(shared, Shared { workers: 2, total: Some(40.0) });
    assert_eq!(report(first, 20.0, 1).await?, Some(40.0), "found before the other came");
    assert_eq!(report(first, 20.0, 2).await?, Some(30.0));
    assert_eq!(report(second, 50.0, 2).await?, Some(40.0));
    Ok(())
}
