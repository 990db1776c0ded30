//! The daemon's ticks: starts a run at every tick, never two at once.
//!
//! tokio-cron-scheduler watches the clock. Each tick is a one-shot job at the time that the [`Schedule`] names, so
//! that a nightly run keeps its local hour when the clocks change. Twice a minute the next tick is compared with the
//! clock, which may have been set back. `cli::run` calls [`run_until_stopped`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::config::ScheduleSettings;
use crate::db::runs::Trigger;
use crate::domain::Schedule;
use crate::sync::{self, Progress, Report, Request, Worker};
use crate::waits::{For, Waits};

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the scheduler failed")]
    Scheduler(#[from] JobSchedulerError),
    /// The query for a missed tick failed.
    #[error(transparent)]
    Database(#[from] crate::db::Error),
}

/// Restarts the embedded PostgreSQL if it has stopped. Harmless if it runs.
pub type Revive = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// How often the database is revived while a run waits for it.
const REVIVE_EVERY: Duration = Duration::from_secs(5);

/// How often the next tick is compared with the clock.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// A tick is overdue after this time: the scheduler is at most two seconds late.
const LATE: TimeDelta = TimeDelta::seconds(5);

/// A smaller step back is a correction, which repeats no tick.
const CORRECTION: TimeDelta = TimeDelta::minutes(1);

type Running = JoinHandle<Result<Report, sync::Error>>;

/// Starts a run at every tick until `stop` is cancelled. Then waits for the current run, which stops as well.
pub async fn run_until_stopped(
    worker: Arc<Worker>,
    settings: &ScheduleSettings,
    revive: Revive,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut ticker = Ticker::start(settings.ticks.clone()).await?;
    let mut running: Option<Running> = None;
    let is_run_due = async {
        Ok::<_, Error>(
            settings.run_on_start || (settings.catch_up && missed_a_tick(&worker, &settings.ticks, stop).await?),
        )
    };
    // The query may take long if the table is locked.
    if stop.run_until_cancelled(is_run_due).await.transpose()?.unwrap_or(false) {
        running = Some(start(&worker, &revive, Trigger::Startup, stop));
    }
    loop {
        let wake = tokio::select! {
            () = stop.cancelled() => break,
            ended = ended(&mut running) => {
                running = None;
                report(ended);
                continue;
            }
            wake = ticker.wake() => wake,
        };
        let Some(tick) = ticker.due(wake).await? else { continue };
        if running.is_some() {
            tracing::warn!(%tick, "tick skipped: the previous run has not ended");
        } else {
            running = Some(start(&worker, &revive, Trigger::Cron, stop));
        }
    }
    if let Some(running) = running {
        report(running.await);
    }
    ticker.stop().await
}

fn start(worker: &Arc<Worker>, revive: &Revive, trigger: Trigger, stop: &CancellationToken) -> Running {
    let (worker, revive, stop) = (Arc::clone(worker), Arc::clone(revive), stop.clone());
    tokio::spawn(async move {
        revive().await;
        let (request, progress) = (Request::all(trigger), Progress::default());
        tokio::select! {
            ended = worker.run(&request, &stop, &progress) => ended,
            never = revive_in_time(&worker.waits, || revive()) => match never {},
        }
    })
}

/// Revives the database whenever a run waits for it.
pub(crate) async fn revive_in_time<F: Future<Output = ()>>(waits: &Waits, revive: impl Fn() -> F) -> Infallible {
    loop {
        tokio::time::sleep(REVIVE_EVERY).await;
        if waits.longest().is_some_and(|wait| wait.what == For::Database) {
            revive().await;
        }
    }
}

/// Waits for the current run; for ever if there is none.
async fn ended(running: &mut Option<Running>) -> Result<Result<Report, sync::Error>, JoinError> {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

/// Logs the result. A failed run does not end the daemon: the next tick starts another.
fn report(ended: Result<Result<Report, sync::Error>, JoinError>) {
    match ended.map_err(sync::Error::from).flatten() {
        Ok(Report { failure: None, .. }) => {}
        Ok(Report { failure: Some(error), .. }) | Err(error) => tracing::error!("the run could not proceed: {error}"),
    }
}

/// Returns whether a tick has passed since the last run started. Before the first run nothing is missed.
async fn missed_a_tick(worker: &Worker, schedule: &Schedule, stop: &CancellationToken) -> Result<bool, Error> {
    let next = worker.latest_run(stop).await?.and_then(|run| schedule.next_after(run.started_at));
    Ok(next.is_some_and(|tick| tick <= Utc::now()))
}

/// Yields the ticks of a schedule.
struct Ticker {
    scheduler: JobScheduler,
    awaited: Awaited,
    ticks: mpsc::Receiver<DateTime<Utc>>,
    tick_sender: mpsc::Sender<DateTime<Utc>>,
    checks: mpsc::Receiver<()>,
}

/// What wakes a ticker.
enum Wake {
    /// The job of this tick fired.
    Tick(DateTime<Utc>),
    /// It is time to compare the clock.
    Check,
}

impl Ticker {
    async fn start(schedule: Schedule) -> Result<Self, Error> {
        let scheduler = JobScheduler::new().await?;
        scheduler.start().await?;
        let (tick_sender, ticks) = mpsc::channel(8);
        let awaited = Awaited::new(schedule, Utc::now());
        let ticker = Self { scheduler, awaited, ticks, tick_sender, checks: clock_checks() };
        ticker.schedule_next().await?;
        Ok(ticker)
    }

    /// Waits until a job fires, or until the clock is to be compared.
    async fn wake(&mut self) -> Wake {
        tokio::select! {
            Some(tick) = self.ticks.recv() => Wake::Tick(tick),
            Some(()) = self.checks.recv() => Wake::Check,
        }
    }

    /// Returns the tick that is due, if any, and schedules the next one.
    async fn due(&mut self, wake: Wake) -> Result<Option<DateTime<Utc>>, Error> {
        let tick = match wake {
            Wake::Tick(tick) => Some(tick),
            Wake::Check => {
                if self.awaited.check_clock(Utc::now()) {
                    tracing::warn!("the clock was set back");
                    self.schedule_next().await?;
                }
                self.awaited.overdue(Utc::now())
            }
        };
        let due = tick.filter(|tick| self.awaited.serve(*tick, Utc::now()));
        if due.is_some() {
            self.schedule_next().await?;
        }
        Ok(due)
    }

    /// Adds a job for the next tick. A job that it replaces has no effect.
    async fn schedule_next(&self) -> Result<(), Error> {
        let Some(tick) = self.awaited.tick else {
            tracing::warn!("the schedule has no further tick");
            return Ok(());
        };
        tracing::info!(%tick, "next run");
        let wait = (tick - Utc::now()).to_std().unwrap_or_default();
        let tick_sender = self.tick_sender.clone();
        // The scheduler truncates to whole seconds: without the extra one the job would fire early.
        let at = Instant::now() + wait + Duration::from_secs(1);
        let job = Job::new_one_shot_at_instant_async(at, move |_, _| {
            let tick_sender = tick_sender.clone();
            Box::pin(async move {
                // Full only if earlier ticks were not received yet: then this one is late anyway.
                let _ = tick_sender.try_send(tick);
            })
        })?;
        self.scheduler.add(job).await?;
        Ok(())
    }

    async fn stop(mut self) -> Result<(), Error> {
        Ok(self.scheduler.shutdown().await?)
    }
}

/// Sends a signal at every [`CHECK_EVERY`], from a thread that sleeps. The runtime's timers depend on a clock that is
/// unreliable where time is simulated, or when a virtual machine is moved.
fn clock_checks() -> mpsc::Receiver<()> {
    let (sender, checks) = mpsc::channel(1);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            std::thread::sleep(CHECK_EVERY);
            // Full if the last signal was not received yet.
            let _ = sender.try_send(());
        }
    });
    checks
}

/// The next tick, by the wall clock.
struct Awaited {
    schedule: Schedule,
    /// Ticks up to this time were served, or passed before the start.
    served: DateTime<Utc>,
    tick: Option<DateTime<Utc>>,
}

impl Awaited {
    fn new(schedule: Schedule, now: DateTime<Utc>) -> Self {
        let tick = schedule.next_after(now);
        Self { schedule, served: now, tick }
    }

    /// Advances to the next tick if this is the awaited one; returns whether it is.
    fn serve(&mut self, tick: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        if self.tick != Some(tick) {
            return false;
        }
        self.served = tick.max(now);
        self.tick = self.schedule.next_after(self.served);
        true
    }

    /// Returns the awaited tick if its job should have fired long ago.
    fn overdue(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.tick.filter(|tick| *tick + LATE <= now)
    }

    /// Returns whether the awaited tick changes because the clock was set back. After the clock is set forward, the
    /// job fires once for all ticks that were skipped.
    fn check_clock(&mut self, now: DateTime<Utc>) -> bool {
        let is_set_back = now < self.served - CORRECTION;
        if is_set_back {
            // Served ticks come again. The clock was set at some time since the last check.
            self.served = now - CHECK_EVERY;
            self.tick = self.schedule.next_after(self.served);
        }
        is_set_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-05-05T{time}Z").parse().expect("a time")
    }

    fn hourly(now: &str) -> Awaited {
        let cron = Schedule::parse_cron("0 0 * * * *").expect("cron");
        Awaited::new(Schedule::new(cron, chrono_tz::UTC), at(now))
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let mut awaited = hourly("11:30:00");
        assert!(awaited.serve(at("12:00:00"), at("12:00:01")));
        assert!(!awaited.check_clock(at("12:30:00")));
        assert!(awaited.check_clock(at("08:30:00")), "four hours back: not silent until one o'clock");
        assert_eq!(awaited.tick, Some(at("09:00:00")));
        assert!(!awaited.check_clock(at("08:30:30")), "once");
        assert!(!awaited.serve(at("13:00:00"), at("08:45:00")), "the earlier job has no effect");
        assert!(awaited.serve(at("09:00:00"), at("09:00:01")));
        assert_eq!(awaited.tick, Some(at("10:00:00")));
    }

    #[test]
    fn no_tick_is_lost_between_setting_the_clock_back_and_the_next_check() {
        let mut awaited = hourly("11:30:00");
        assert!(awaited.check_clock(at("09:00:20")));
        assert_eq!(awaited.tick, Some(at("09:00:00")));
        assert!(awaited.serve(at("09:00:00"), at("09:00:21")));
        assert_eq!(awaited.tick, Some(at("10:00:00")));
    }

    #[test]
    fn a_start_with_a_clock_far_ahead_does_not_stop_the_ticks() {
        let mut awaited = hourly("23:30:00");
        assert!(awaited.check_clock(at("03:59:59")));
        assert_eq!(awaited.tick, Some(at("04:00:00")));
    }

    #[test]
    fn a_tick_whose_job_does_not_fire_is_served_anyway() {
        let mut awaited = hourly("11:30:00");
        assert_eq!(awaited.overdue(at("12:00:04")), None, "the job may still fire");
        assert_eq!(awaited.overdue(at("12:00:29")), Some(at("12:00:00")));
        assert!(awaited.serve(at("12:00:00"), at("12:00:29")));
        assert!(!awaited.serve(at("12:00:00"), at("12:00:30")), "fires late");
    }

    #[test]
    fn a_correction_by_seconds_repeats_no_tick() {
        let mut awaited = hourly("11:30:00");
        assert!(awaited.serve(at("12:00:00"), at("12:00:01")));
        assert!(!awaited.check_clock(at("11:59:30")));
        assert_eq!(awaited.tick, Some(at("13:00:00")));
    }

    #[test]
    fn a_clock_that_is_set_forward_fires_once_for_all_skipped_ticks() {
        let mut awaited = hourly("11:30:00");
        assert!(!awaited.check_clock(at("17:20:00")), "the job fires");
        assert!(awaited.serve(at("12:00:00"), at("17:20:01")));
        assert_eq!(awaited.tick, Some(at("18:00:00")));
    }
}
