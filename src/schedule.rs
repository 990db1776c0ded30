//! The daemon's clockwork: a run at every tick, never two at once.
//!
//! tokio-cron-scheduler watches the clock. Each tick is a one-shot job at the time that the [`Schedule`] names, so
//! that a nightly run keeps its local hour when the clocks change. Twice a minute the job is compared with the clock,
//! which may have been set back meanwhile. `cli::run` calls [`run_until_stopped`].

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
    /// The ticker.
    #[error("the scheduler failed")]
    Scheduler(#[from] JobSchedulerError),
    /// The database, when looking for a missed tick.
    #[error(transparent)]
    Database(#[from] crate::db::Error),
}

/// Starts a server again that has gone, if it is chatsync's own. Harmless if it runs.
pub type Revive = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// How often a run that waits for the database has it revived.
const REVIVE_EVERY: Duration = Duration::from_secs(5);

/// How often the next tick is compared with the clock.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The scheduler rings within two seconds.
const LATE: TimeDelta = TimeDelta::seconds(5);

/// A clock that is set back by less is corrected, and no tick comes twice for that.
const CORRECTION: TimeDelta = TimeDelta::minutes(1);

type Running = JoinHandle<Result<Report, sync::Error>>;

/// Runs at every tick until `stop` is cancelled; then waits for the run that is going on, which stops as well.
pub async fn run_until_stopped(
    worker: Arc<Worker>,
    settings: &ScheduleSettings,
    revive: Revive,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut ticker = Ticker::start(settings.ticks.clone()).await?;
    let mut running: Option<Running> = None;
    let look = async {
        Ok::<_, Error>(
            settings.run_on_start || (settings.catch_up && missed_a_tick(&worker, &settings.ticks, stop).await?),
        )
    };
    // A look at a locked table may take long.
    if stop.run_until_cancelled(look).await.transpose()?.unwrap_or(false) {
        running = Some(start(&worker, &revive, Trigger::Startup, stop));
    }
    loop {
        let sign = tokio::select! {
            () = stop.cancelled() => break,
            ended = ended(&mut running) => {
                running = None;
                report(ended);
                continue;
            }
            sign = ticker.sign() => sign,
        };
        let Some(tick) = ticker.due(sign).await? else { continue };
        if running.is_some() {
            tracing::warn!(%tick, "tick skipped: the run before it is still going on");
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
        let (request, progress) = (Request { trigger, only: None, limit: None }, Progress::default());
        tokio::select! {
            ended = worker.run(&request, &stop, &progress) => ended,
            never = revive_in_time(&worker.waits, &revive) => match never {},
        }
    })
}

/// Revives the database whenever a run waits for it.
async fn revive_in_time(waits: &Waits, revive: &Revive) -> Infallible {
    loop {
        tokio::time::sleep(REVIVE_EVERY).await;
        if waits.longest().is_some_and(|wait| wait.what == For::Database) {
            revive().await;
        }
    }
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
    awaited: Awaited,
    ticks: mpsc::Receiver<DateTime<Utc>>,
    bell: mpsc::Sender<DateTime<Utc>>,
    looks: mpsc::Receiver<()>,
}

/// What a ticker goes by.
enum Sign {
    /// The job of this tick rings.
    Rings(DateTime<Utc>),
    /// It is time to look at the clock.
    Look,
}

impl Ticker {
    async fn start(schedule: Schedule) -> Result<Self, Error> {
        let scheduler = JobScheduler::new().await?;
        scheduler.start().await?;
        let (bell, ticks) = mpsc::channel(8);
        let awaited = Awaited::new(schedule, Utc::now());
        let ticker = Self { scheduler, awaited, ticks, bell, looks: looks() };
        ticker.wind().await?;
        Ok(ticker)
    }

    /// Waits until a job rings, or until it is time to look at the clock.
    async fn sign(&mut self) -> Sign {
        tokio::select! {
            Some(tick) = self.ticks.recv() => Sign::Rings(tick),
            Some(()) = self.looks.recv() => Sign::Look,
        }
    }

    /// The tick that is due at a sign, if any; goes on to the next one.
    async fn due(&mut self, sign: Sign) -> Result<Option<DateTime<Utc>>, Error> {
        let tick = match sign {
            Sign::Rings(tick) => Some(tick),
            Sign::Look => {
                if self.awaited.look(Utc::now()) {
                    tracing::warn!("the clock was set back");
                    self.wind().await?;
                }
                self.awaited.overdue(Utc::now())
            }
        };
        let due = tick.filter(|tick| self.awaited.serve(*tick, Utc::now()));
        if due.is_some() {
            self.wind().await?;
        }
        Ok(due)
    }

    /// Sets a job for the tick that is waited for. A job that it replaces rings for nobody.
    async fn wind(&self) -> Result<(), Error> {
        let Some(tick) = self.awaited.tick else {
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
                // Full only if ticks were not taken yet: then this one is late already.
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

/// A sign every now and then. From a thread that sleeps: the timers of the runtime rest on a clock that is as little to be
/// relied on where time itself is simulated, or a virtual machine moves.
fn looks() -> mpsc::Receiver<()> {
    let (sign, looks) = mpsc::channel(1);
    std::thread::spawn(move || {
        while !sign.is_closed() {
            std::thread::sleep(LOOK_EVERY);
            // Full if the last one was not seen yet.
            let _ = sign.try_send(());
        }
    });
    looks
}

/// Which tick is waited for, by the clock on the wall.
struct Awaited {
    schedule: Schedule,
    /// Ticks up to here have been served, or lay before the start.
    served: DateTime<Utc>,
    tick: Option<DateTime<Utc>>,
}

impl Awaited {
    fn new(schedule: Schedule, now: DateTime<Utc>) -> Self {
        let tick = schedule.next_after(now);
        Self { schedule, served: now, tick }
    }

    /// Goes on to the next tick if this is the one that is waited for.
    fn serve(&mut self, tick: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        if self.tick != Some(tick) {
            return false;
        }
        self.served = tick.max(now);
        self.tick = self.schedule.next_after(self.served);
        true
    }

    /// The tick that is waited for, if its job should have rung long ago.
    fn overdue(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.tick.filter(|tick| *tick + LATE <= now)
    }

    /// Whether another tick is waited for from now on, because the clock was set back. A clock that was set forward rings
    /// by itself, once for all that it leapt over.
    fn look(&mut self, now: DateTime<Utc>) -> bool {
        let is_set_back = now < self.served - CORRECTION;
        if is_set_back {
            // What was served will come again. It was set at some time since the last look.
            self.served = now - LOOK_EVERY;
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
        assert!(!awaited.look(at("12:30:00")));
        assert!(awaited.look(at("08:30:00")), "four hours back: not silent until one o'clock");
        assert_eq!(awaited.tick, Some(at("09:00:00")));
        assert!(!awaited.look(at("08:30:30")), "once");
        assert!(!awaited.serve(at("13:00:00"), at("08:45:00")), "the job of before rings for nobody");
        assert!(awaited.serve(at("09:00:00"), at("09:00:01")));
        assert_eq!(awaited.tick, Some(at("10:00:00")));
    }

    #[test]
    fn no_tick_is_lost_between_a_clock_that_is_set_back_and_the_next_look() {
        let mut awaited = hourly("11:30:00");
        assert!(awaited.look(at("09:00:20")));
        assert_eq!(awaited.tick, Some(at("09:00:00")));
        assert!(awaited.serve(at("09:00:00"), at("09:00:21")));
        assert_eq!(awaited.tick, Some(at("10:00:00")));
    }

    #[test]
    fn a_start_with_a_clock_far_ahead_is_no_reason_to_be_silent() {
        let mut awaited = hourly("23:30:00");
        assert!(awaited.look(at("03:59:59")));
        assert_eq!(awaited.tick, Some(at("04:00:00")));
    }

    #[test]
    fn a_tick_whose_job_does_not_ring_is_served_all_the_same() {
        let mut awaited = hourly("11:30:00");
        assert_eq!(awaited.overdue(at("12:00:04")), None, "the job may still ring");
        assert_eq!(awaited.overdue(at("12:00:29")), Some(at("12:00:00")));
        assert!(awaited.serve(at("12:00:00"), at("12:00:29")));
        assert!(!awaited.serve(at("12:00:00"), at("12:00:30")), "rings late");
    }

    #[test]
    fn a_correction_by_seconds_repeats_no_tick() {
        let mut awaited = hourly("11:30:00");
        assert!(awaited.serve(at("12:00:00"), at("12:00:01")));
        assert!(!awaited.look(at("11:59:30")));
        assert_eq!(awaited.tick, Some(at("13:00:00")));
    }

    #[test]
    fn a_clock_that_is_set_forward_rings_once_for_all_that_it_leapt_over() {
        let mut awaited = hourly("11:30:00");
        assert!(!awaited.look(at("17:20:00")), "the job rings");
        assert!(awaited.serve(at("12:00:00"), at("17:20:01")));
        assert_eq!(awaited.tick, Some(at("18:00:00")));
    }
}
