//! The daemon's clockwork: a run at every tick, never two at once.
//!
//! tokio-cron-scheduler watches the clock. Each tick is a one-shot job at the time that the [`Schedule`] names, so
//! that a nightly run keeps its local hour when the clocks change. `cli::run` calls [`run_until_stopped`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::config::ScheduleSettings;
use crate::db::runs::Trigger;
use crate::domain::Schedule;
use crate::sync::{self, Progress, Report, Request, Worker};

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ticker.
    #[error("the scheduler failed")]
    Scheduler(#[from] JobSchedulerError),
    /// The database, when looking for a missed tick.
    #[error(transparent)]
    Database(#[from] crate::db::Error),
}

/// What is done before each run, such as starting a killed server again.
pub type BeforeRun = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

type Running = JoinHandle<Result<Report, sync::Error>>;

/// Runs at every tick until `stop` is cancelled; then waits for the run that is going on, which stops as well.
pub async fn run_until_stopped(
    worker: Arc<Worker>,
    settings: &ScheduleSettings,
    before_run: BeforeRun,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut ticker = Ticker::start(settings.schedule.clone()).await?;
    let mut running: Option<Running> = None;
    let look = async {
        Ok::<_, Error>(
            settings.run_on_start || (settings.catch_up && missed_a_tick(&worker, &settings.schedule, stop).await?),
        )
    };
    // A look at a locked table may take long.
    if stop.run_until_cancelled(look).await.transpose()?.unwrap_or(false) {
        running = Some(start(&worker, &before_run, Trigger::Startup, stop));
    }
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            ended = ended(&mut running) => {
                running = None;
                report(ended);
            }
            Some(tick) = ticker.ticks.recv() => {
                ticker.wind(tick.max(Utc::now())).await?;
                if running.is_some() {
                    tracing::warn!(%tick, "tick skipped: the run before it is still going on");
                } else {
                    running = Some(start(&worker, &before_run, Trigger::Cron, stop));
                }
            }
        }
    }
    if let Some(running) = running {
        report(running.await);
    }
    ticker.stop().await
}

fn start(worker: &Arc<Worker>, before_run: &BeforeRun, trigger: Trigger, stop: &CancellationToken) -> Running {
    let (worker, before_run, stop) = (Arc::clone(worker), Arc::clone(before_run), stop.clone());
    tokio::spawn(async move {
        before_run().await;
        let request = Request { trigger, only: None, limit: None };
        worker.run(&request, &stop, &Progress::default()).await
    })
}

/// Waits for the run that is going on; for ever if there is none.
async fn ended(running: &mut Option<Running>) -> Result<Result<Report, sync::Error>, JoinError> {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

/// A failed run does not end the daemon: the next tick tries again.
fn report(ended: Result<Result<Report, sync::Error>, JoinError>) {
    match ended.map_err(sync::Error::from).flatten() {
        Ok(Report { failure: None, .. }) => {}
        Ok(Report { failure: Some(error), .. }) | Err(error) => tracing::error!("the run could not proceed: {error}"),
    }
}

/// Whether a tick passed since the last run started. Nothing was missed before the first run ever.
async fn missed_a_tick(worker: &Worker, schedule: &Schedule, stop: &CancellationToken) -> Result<bool, Error> {
    let next = worker.latest_run(stop).await?.and_then(|run| schedule.next_after(run.started_at));
    Ok(next.is_some_and(|tick| tick <= Utc::now()))
}

/// The ticks of a schedule, one after the other.
struct Ticker {
    scheduler: JobScheduler,
    schedule: Schedule,
    ticks: mpsc::Receiver<DateTime<Utc>>,
    bell: mpsc::Sender<DateTime<Utc>>,
}

impl Ticker {
    async fn start(schedule: Schedule) -> Result<Self, Error> {
        let scheduler = JobScheduler::new().await?;
        scheduler.start().await?;
        let (bell, ticks) = mpsc::channel(1);
        let ticker = Self { scheduler, schedule, ticks, bell };
        ticker.wind(Utc::now()).await?;
        Ok(ticker)
    }

    /// Sets the job for the first tick after `time`.
    async fn wind(&self, time: DateTime<Utc>) -> Result<(), Error> {
        let Some(tick) = self.schedule.next_after(time) else {
            tracing::warn!("the schedule has no further tick");
            return Ok(());
        };
        tracing::info!(%tick, "next run");
        let wait = (tick - Utc::now()).to_std().unwrap_or_default();
        let bell = self.bell.clone();
        // The scheduler counts whole seconds and cuts fractions off: without the extra one it would ring early.
        let at = Instant::now() + wait + Duration::from_secs(1);
        let job = Job::new_one_shot_at_instant_async(at, move |_, _| {
            let bell = bell.clone();
            Box::pin(async move {
                // Full only if the last tick was not taken yet: then this one is late already.
                let _ = bell.try_send(tick);
            })
        })?;
        self.scheduler.add(job).await?;
        Ok(())
    }

    async fn stop(mut self) -> Result<(), Error> {
        Ok(self.scheduler.shutdown().await?)
    }
}
