//! One worker: starts runs and reports how they ended.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use super::clock::DatabaseClock;
use super::explain::explain;
use super::failures::Failures;
use super::guard::Guard;
use super::leased::HeldLeases;
use super::outlook::{Foresight, Outlook};
use super::passes::{WorkEnd, work};
use super::rejects::RejectLimits;
use super::run::RunContext;
use super::share::Share;
use super::{Error, Progress, leases};
use crate::config::{self, DatabaseLocation, Patience, Secret, Settings};
use crate::connect::{Client, NoClient, Session};
use crate::db::queue::{self, Scope};
use crate::db::runs::{self, Counters, Finish, Run, Started, Status, Trigger};
use crate::db::{self, Pool, Store};
use crate::waits::Waits;

/// Target of the log line about losses: `chatsync demo` explains them in its own way.
pub const LOSSES: &str = "chatsync::sync::losses";

/// Ended orders deleted by one statement. Few, so that locks are short.
const FORGOTTEN_AT_ONCE: i64 = 5_000;
/// Statements per run: some seconds. The rest is left to the next run.
const FORGOTTEN_BATCHES: usize = 200;

/// Clocks that differ by so many seconds are reported.
const CLOCKS_APART: i64 = 300;

/// Fetches the due orders of one database through one API client.
pub struct Worker {
    pub pool: Pool,
    /// Source of the log-in; `None` for an embedded server.
    database_url: Option<Secret>,
    /// Name in `sync.runs`, new at every start.
    pub name: String,
    pub client: Arc<Client>,
    /// What the run waits for at the moment.
    pub waits: Waits,
    foresight: Foresight,
    queue: config::QueueSettings,
    rejects: config::RejectSettings,
    guard: config::GuardSettings,
    patience: Patience,
    /// Section `breaker`.
    outage_after: Duration,
    max_in_flight: usize,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub trigger: Trigger,
    /// Only these orders; otherwise all that are due.
    pub only: Option<Vec<String>>,
    pub limit: Option<u64>,
}

impl Request {
    /// Everything that is due.
    #[must_use]
    pub const fn all(trigger: Trigger) -> Self {
        Self { trigger, only: None, limit: None }
    }
}

#[derive(Debug)]
pub struct Report {
    /// The row of the run, with the counters as committed.
    pub run: Run,
    pub failure: Option<Error>,
}

impl Worker {
    /// Creates a worker. Fails if HTTPS is needed and the platform has no certificates.
    pub fn new(pool: Pool, name: String, settings: &Settings) -> Result<Self, NoClient> {
        let auth = settings.auth.as_ref().expect("settings read with Needs::Credentials");
        let waits = Waits::default();
        let client = Client::new(&settings.api, auth, &settings.pace, waits.clone())?;
        let database_url = match &settings.database.location {
            DatabaseLocation::Url(url) => Some(url.clone()),
            DatabaseLocation::Embedded => None,
        };
        Ok(Self {
            pool,
            database_url,
            name,
            client: Arc::new(client),
            waits,
            foresight: Foresight::new(settings),
            queue: settings.queue.clone(),
            rejects: settings.rejects,
            guard: settings.guard,
            patience: settings.database.patience,
            outage_after: settings.breaker.give_up_after,
            max_in_flight: settings.pace.max_in_flight,
        })
    }

    /// Returns the latest run of any worker of this database.
    pub async fn latest_run(&self, stop: &CancellationToken) -> Result<Option<Run>, db::Error> {
        Ok(runs::latest(&self.store(stop.clone()), 1).await?.pop())
    }

    /// Fetches what is due now. Ends early but in good order once `stop` is cancelled.
    ///
    /// Fails if the run could not be recorded. A recorded run ends in a [`Report`] unless the database stays
    /// unavailable.
    pub async fn run(&self, request: &Request, stop: &CancellationToken, progress: &Progress) -> Result<Report, Error> {
        let run_id = Uuid::now_v7();
        let span = tracing::info_span!("run", %run_id, worker = self.name);
        let halt = stop.child_token();
        let store = self.store(halt.clone());
        let run = async {
            tokio::select! {
                ended = Box::pin(self.run_as(run_id, store.clone(), request, halt, stop, progress)) => ended,
                never = explain(&self.waits, &store, run_id) => match never {},
            }
        };
        run.instrument(span).await
    }

    /// New for every run: outages and shortages of one run do not count for the next.
    fn store(&self, stop: CancellationToken) -> Store {
        Store::new(self.pool.clone(), self.patience, stop, self.waits.clone()).logging_in_by(self.database_url.clone())
    }

    async fn run_as(
        &self,
        run_id: Uuid,
        store: Store,
        request: &Request,
        halt: CancellationToken,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<Report, Error> {
        let Started { started_at, now } =
            runs::start(&store, run_id, request.trigger, &self.name, self.queue.lease).await?;
        let run = Arc::new(RunContext {
            id: run_id,
            // Only orders due at the start: those that become due meanwhile could keep the run from ever ending.
            scope: Scope { due_by: started_at, only: request.only.clone() },
            session: Session::new(Arc::clone(&self.client), self.outage_after, halt.clone()),
            rejects: RejectLimits::new(self.rejects, &store, self.patience.timeout, halt.clone()),
            store,
            clock: DatabaseClock::set(now),
            policy: self.queue.policy.clone(),
            lease: self.queue.lease,
            max_in_flight: self.max_in_flight,
            held: HeldLeases::default(),
            failures: Failures::default(),
            has_stored: AtomicBool::default(),
            halt,
        });
        tracing::info!(trigger = request.trigger.as_str(), "run started");
        warn_of_clocks(now);
        let share = Box::pin(Share::join(run.store.clone(), Arc::clone(&self.client), run_id)).await;
        // The lease renewal and the exchange of the pace go on until the work has ended.
        let ended = CancellationToken::new();
        let work = async {
            let _ended = ended.clone().drop_guard();
            self.work(&run, request, stop, progress).await
        };
        let (end, (), ()) = tokio::join!(work, leases::renew_until(&ended, &run), Box::pin(share.keep(&ended)));
        self.finish(&run, request.trigger, end).await
    }

    /// Works through the queue, then keeps the tables within their limits.
    async fn work(
        &self,
        run: &Arc<RunContext>,
        request: &Request,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<WorkEnd, Error> {
        let limit = request.limit.unwrap_or(u64::MAX);
        let is_patient = request.trigger == Trigger::Manual;
        let mut guard = Guard::new(self.guard);
        let end = work(run, limit, is_patient, &mut guard, &self.waits, stop, progress).await;
        if !matches!(end, Ok(WorkEnd::Stopped) | Err(Error::Database(_))) {
            // Even after a failed run: many of them would fill the disk.
            run.rejects.apply(stop).await;
        }
        let end = end?;
        if end != WorkEnd::Stopped
            && let Some(retention) = self.queue.retention
        {
            forget(&run.store, retention, stop).await;
        }
        Ok(end)
    }

    /// Closes the row of the run.
    async fn finish(&self, run: &RunContext, trigger: Trigger, end: Result<WorkEnd, Error>) -> Result<Report, Error> {
        let is_all_done = matches!(end, Ok(WorkEnd::Done));
        let (status, failure) = match end {
            Ok(WorkEnd::Stopped) => (Some(Status::Interrupted), None),
            Ok(WorkEnd::Done | WorkEnd::Left) => (None, None),
            Err(error) => (Some(Status::Failed), Some(error)),
        };
        let outlook = match &failure {
            // It would wait for the database once more.
            Some(Error::Database(_)) => None,
            _ => self.outlook(&run.store, trigger).await,
        };
        let recorded = async {
            let status = if let Some(status) = status {
                status
            } else {
                let counters = runs::get(&run.store, run.id).await?.counters;
                status_of(&counters, is_all_done, run.has_stored.load(Relaxed))
            };
            let error = match &failure {
                Some(error) => Some(error.to_string()),
                None if status == Status::Failed => run.failures.most_frequent(),
                None => None,
            };
            let (at_risk, overdue) = outlook.map(|outlook| (outlook.at_risk, outlook.overdue)).unzip();
            let finish = Finish { status, error: error.as_deref(), sent: run.sent(), at_risk, overdue };
            runs::finish(&run.store, run.id, &finish).await
        };
        match recorded.await {
            Ok(row) => {
                log_end(&row);
                Ok(Report { run: row, failure })
            }
            // The failure of the run says more than the failure to record it.
            Err(not_recorded) => Err(failure.unwrap_or(not_recorded.into())),
        }
    }

    /// Counts the orders in danger after this run. A failure is only logged.
    async fn outlook(&self, store: &Store, trigger: Trigger) -> Option<Outlook> {
        match self.foresight.outlook(store, trigger).await {
            Ok(outlook) => Some(outlook),
            Err(error) => {
                tracing::debug!(%error, "orders at risk were not counted");
                None
            }
        }
    }
}

/// Warns if the clock of this machine is far from that of the database. Proofs and leases use the latter, ticks and
/// predictions the former.
fn warn_of_clocks(now: DateTime<Utc>) {
    let apart = (Utc::now() - now).num_seconds();
    if apart.abs() >= CLOCKS_APART {
        tracing::warn!(
            seconds = apart,
            "the clock of this machine is ahead (or behind, if negative) of the database's"
        );
    }
}

/// Deletes ended orders from the queue. A failure is only logged: the run has done its work.
async fn forget(store: &Store, retention: Duration, stop: &CancellationToken) {
    let mut forgotten = 0;
    for _ in 0..FORGOTTEN_BATCHES {
        if stop.is_cancelled() {
            break;
        }
        match queue::forget(store, retention, FORGOTTEN_AT_ONCE).await {
            Ok(0) => break,
            Ok(orders) => forgotten += orders,
            Err(error) => {
                tracing::warn!(%error, "ended orders stay in the queue for now");
                break;
            }
        }
    }
    if forgotten > 0 {
        tracing::info!(orders = forgotten, "ended orders deleted from the queue");
    }
}

/// Logs the counters, and once what is lost, held back or in danger.
fn log_end(run: &Run) {
    run.log();
    let Counters { lost, unproven, held, .. } = run.counters;
    let (at_risk, overdue) = (run.at_risk.unwrap_or(0), run.overdue.unwrap_or(0));
    if lost + unproven + held > 0 || at_risk + overdue > 0 {
        tracing::warn!(
            target: LOSSES, lost, unproven, held, at_risk, overdue,
            "orders lost, held back or in danger: see `chatsync status`"
        );
    }
}

/// Derives the status of a complete run from its committed counters.
fn status_of(counters: &Counters, is_all_done: bool, has_stored: bool) -> Status {
    let is_answered = counters.fetched + counters.closed > 0;
    // Messages came but none could be stored: the API has changed.
    let is_in_vain = counters.messages_left_out > 0 && !has_stored;
    match counters.failed + counters.dead + counters.held {
        // No order failed, but orders were lost or left.
        0 if is_all_done && !is_in_vain && counters.lost == 0 => Status::Succeeded,
        0 => Status::Partial,
        _ if is_answered => Status::Partial,
        _ => Status::Failed,
    }
}
