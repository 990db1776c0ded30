//! A run: the only place where the API and the database meet.
//!
//! [`Worker::run`] fetches everything that is due when it starts. Three stages overlap, joined by bounded channels:
//! `claim` leases orders in due order, `fetch` sends many requests at once, `write` stores the results in batches.
//! `held` records the orders between claim and write: their leases are renewed during the run and released if it ends
//! early. `share` agrees with other workers on the pace, `explain` reports long waits, `outlook` predicts which
//! deadlines the next run would miss.
//!
//! Between fetch and write is the storm guard: `opening` judges the first replies, `guard` all of them. What they
//! cannot decide, `evidence` finds out at the end of a pass.

mod batch;
mod clock;
mod confirm;
mod evidence;
mod explain;
mod failures;
mod guard;
mod held;
mod opening;
pub mod outlook;
mod pipeline;
mod progress;
mod rejects;
mod share;
mod write;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use confirm::confirm;
pub use guard::PROBES;
pub use opening::AllRefused;
pub use progress::Progress;

use crate::config::{self, DatabaseLocation, Patience, Secret, Settings};
use crate::connect::{self, Client, NoClient};
use crate::db::queue::{self, Scope};
use crate::db::runs::{self, Finish, Run, Status, Trigger};
use crate::db::{self, Store};
use crate::waits::{For, SHOWN_AFTER, Waiting, Waits};
use clock::DatabaseClock;
use explain::explain;
use guard::Guard;
use outlook::{Foresight, Outlook};
use pipeline::Pipeline;
use share::Share;

/// Interval between looks at orders that another worker holds; it doubles up to the longest.
const SHORTEST_LOOK_AWAY: Duration = Duration::from_millis(20);
const LONGEST_LOOK_AWAY: Duration = Duration::from_secs(1);

/// The daemon stops waiting for locked orders after this many lease lengths without progress.
const PATIENCE_IN_LEASES: u32 = 2;

/// Target of the log line about losses: `chatsync demo` explains them in its own way.
pub const LOSSES: &str = "chatsync::sync::losses";

/// Ended orders deleted by one statement. Few, so that locks are short.
const FORGOTTEN_AT_ONCE: i64 = 5_000;
/// Statements per run: some seconds. The rest is left to the next run.
const FORGOTTEN_BATCHES: usize = 200;

/// Fetches the due orders of one database through one API client.
pub struct Worker {
    pub pool: sqlx::PgPool,
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

#[derive(Debug)]
pub struct Report {
    /// The row of the run, with the counters as committed.
    pub run: Run,
    pub failure: Option<Error>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] db::Error),
    /// A reply of the API that would stop every order.
    #[error(transparent)]
    Api(Box<connect::Error>),
    /// The account or the configuration makes the API refuse every order.
    #[error(transparent)]
    AllRefused(#[from] AllRefused),
    /// A bug: a task of the run panicked.
    #[error("a task of the run ended abnormally")]
    Task(#[from] tokio::task::JoinError),
}

impl From<connect::Error> for Error {
    fn from(error: connect::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkEnd {
    Done,
    /// Only orders are left that another session keeps locked or leased.
    Left,
    Stopped,
}

impl Worker {
    /// Creates a worker. Fails if HTTPS is needed and the platform has no certificates.
    pub fn new(pool: sqlx::PgPool, name: String, settings: &Settings) -> Result<Self, NoClient> {
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
        let store = Store::new(self.pool.clone(), self.patience, stop.clone(), self.waits.clone());
        let latest = |mut transaction: db::Transaction| async move { runs::latest(&mut *transaction, 1).await };
        Ok(store.run(latest).await?.pop())
    }

    /// Fetches what is due now. Ends early but in good order once `stop` is cancelled.
    ///
    /// Fails if the run could not be recorded. A recorded run ends in a [`Report`] unless the database stays
    /// unavailable.
    pub async fn run(&self, request: &Request, stop: &CancellationToken, progress: &Progress) -> Result<Report, Error> {
        let run_id = Uuid::now_v7();
        let halt = stop.child_token();
        let store = Store::new(self.pool.clone(), self.patience, halt.clone(), self.waits.clone())
            .logging_in_by(self.database_url.clone());
        tokio::select! {
            ended = Box::pin(self.run_as(run_id, store.clone(), request, halt, stop, progress)) => ended,
            never = explain(&self.waits, &store, run_id) => match never {},
        }
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
        let (started_at, clock) = store
            .run(|mut transaction| async move {
                let (started_at, now) =
                    runs::start(&mut *transaction, run_id, request.trigger, &self.name, self.queue.lease).await?;
                Ok((started_at, DatabaseClock::set(now)))
            })
            .await?;
        let mut guard = Guard::new(self.guard);
        // Only what was due at the start: orders that become due meanwhile could keep the run from ever ending.
        let scope = Scope { due_by: started_at, only: request.only.clone() };
        let pipeline = Pipeline::new(self, run_id, scope, clock, store.clone(), halt);
        tracing::info!(%run_id, trigger = request.trigger.as_str(), "run started");
        let share = Box::pin(Share::join(store.clone(), Arc::clone(&self.client), run_id)).await;
        let ended = CancellationToken::new();
        let work = async {
            let _ended = ended.clone().drop_guard();
            let end = self.work(&pipeline, request, &mut guard, stop, progress).await;
            if !matches!(end, Ok(WorkEnd::Stopped) | Err(Error::Database(_))) {
                // Even after a failed run: many of them would fill the disk.
                pipeline.rejects.apply(stop).await;
            }
            let end = end?;
            if end != WorkEnd::Stopped
                && let Some(retention) = self.queue.retention
            {
                forget(&store, retention, stop).await;
            }
            Ok(end)
        };
        let (end, (), ()) = tokio::join!(work, pipeline.stay_alive(&ended), Box::pin(share.keep(&ended)));
        let is_all_done = matches!(end, Ok(WorkEnd::Done));
        let has_stored = pipeline.has_stored.load(Relaxed);
        let (status, failure) = match end {
            Ok(WorkEnd::Stopped) => (Some(Status::Interrupted), None),
            Ok(WorkEnd::Done | WorkEnd::Left) => (None, None),
            Err(error) => (Some(Status::Failed), Some(error)),
        };
        let error = &failure.as_ref().map(ToString::to_string);
        let (sent, failures) = (pipeline.session.counts(), &pipeline.failures);
        let outlook = match &failure {
            // It would wait for the database once more.
            Some(Error::Database(_)) => None,
            _ => self.outlook(&store, request.trigger).await,
        };
        let finish = |mut transaction: db::Transaction| async move {
            let status = match status {
                Some(status) => status,
                None => status_of(&runs::get(&mut *transaction, run_id).await?, is_all_done, has_stored),
            };
            let error = match error {
                None if status == Status::Failed => failures.most_frequent(),
                error => error.clone(),
            };
            let (at_risk, overdue) = outlook.map(|outlook| (outlook.at_risk, outlook.overdue)).unzip();
            let finish = Finish { status, error: error.as_deref(), sent, at_risk, overdue };
            runs::finish(&mut *transaction, run_id, &finish).await?;
            runs::get(&mut *transaction, run_id).await
        };
        let run = match store.run(finish).await {
            Ok(run) => run,
            // The failure of the run says more than the failure to record it.
            Err(not_recorded) => return Err(failure.unwrap_or(not_recorded.into())),
        };
        tracing::info!(
            %run_id, status = run.status, claimed = run.claimed, fetched = run.fetched, unchanged = run.unchanged,
            closed = run.closed, held = run.held, failed = run.failed, dead = run.dead, messages_inserted = run.messages_inserted,
            messages_updated = run.messages_updated, requests = run.requests, throttled = run.throttled, "run finished"
        );
        warn_of_losses(&run);
        Ok(Report { run, failure })
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

    /// Makes passes through the queue until nothing due is left, here or with another worker. An order whose worker
    /// died is taken over when its lease ends.
    ///
    /// If only orders with locked rows are left, `sync` keeps waiting, because exit code 0 means that all is up to
    /// date. The daemon leaves them to a later run: otherwise one locked row would delay orders that have become due
    /// since.
    async fn work(
        &self,
        pipeline: &Pipeline,
        request: &Request,
        guard: &mut Guard,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<WorkEnd, Error> {
        let (store, scope) = (&pipeline.store, &pipeline.scope);
        let limit = request.limit.unwrap_or(u64::MAX);
        if progress.is_counted() {
            let due =
                store.run(|mut transaction| async move { queue::count_due(&mut *transaction, scope).await }).await?;
            progress.expect(due.min(limit));
        }
        // A pass skips orders that other workers hold. Passes repeat until these are done as well: such a worker may die.
        let mut remaining = limit;
        let mut look_away = SHORTEST_LOOK_AWAY;
        let mut idle_since = Instant::now();
        let mut waiting: Option<(For, Waiting)> = None;
        let mut has_logged_holders = false;
        while let Some(due) = pipeline.due().await? {
            if stop.is_cancelled() {
                return Ok(WorkEnd::Stopped);
            }
            let settled = Box::pin(pipeline.pass(&due, remaining, guard, progress)).await?;
            remaining -= settled;
            if remaining == 0 {
                break;
            }
            if settled > 0 {
                (look_away, idle_since) = (SHORTEST_LOOK_AWAY, Instant::now());
                waiting = None;
                continue;
            }
            if due.orders <= pipeline.failures.unsettled() {
                return Ok(WorkEnd::Left);
            }
            let now = Instant::now();
            let patience = self.queue.lease * PATIENCE_IN_LEASES;
            let (what, until) = match due.free_in {
                Some(free_in) => {
                    idle_since = now;
                    (For::Leases, Some(now + free_in))
                }
                None => (For::Locks, (request.trigger != Trigger::Manual).then_some(idle_since + patience)),
            };
            if what == For::Locks && !has_logged_holders && idle_since.elapsed() >= SHOWN_AFTER.min(patience) {
                has_logged_holders = true;
                log_holders(store).await;
            }
            if idle_since.elapsed() >= patience && request.trigger != Trigger::Manual {
                let why = For::Locks.as_str();
                tracing::warn!(orders = due.orders, "left to a later run: {why}");
                return Ok(WorkEnd::Left);
            }
            match &waiting {
                Some((before, waiting)) if *before == what => waiting.set_until(until),
                _ => waiting = Some((what, self.waits.begin(what, until))),
            }
            let wait = match due.free_in {
                Some(free_in) if due.free == 0 => look_away.min(free_in).max(SHORTEST_LOOK_AWAY),
                // Free but not claimed: another session has locked the row, for an unknown time.
                _ => look_away,
            };
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Ok(WorkEnd::Stopped);
            }
            look_away = (look_away * 2).min(LONGEST_LOOK_AWAY);
        }
        Ok(WorkEnd::Done)
    }
}

/// Logs which sessions may have locked the remaining orders. A failure is ignored.
async fn log_holders(store: &Store) {
    let look = |mut transaction: db::Transaction| async move { db::holders_of_orders(&mut *transaction).await };
    if let Ok(Some(holders)) = store.run(look).await {
        tracing::warn!(%holders, "these sessions may have locked the orders that are waited for");
    }
}

/// Deletes ended orders from the queue. A failure is only logged: the run has done its work.
async fn forget(store: &Store, retention: Duration, stop: &CancellationToken) {
    let mut forgotten = 0;
    for _ in 0..FORGOTTEN_BATCHES {
        if stop.is_cancelled() {
            break;
        }
        let batch = |mut transaction: db::Transaction| async move {
            queue::forget(&mut *transaction, retention, FORGOTTEN_AT_ONCE).await
        };
        match store.run(batch).await {
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

/// Logs once what is lost, held back or in danger.
fn warn_of_losses(run: &Run) {
    let (at_risk, overdue) = (run.at_risk.unwrap_or(0), run.overdue.unwrap_or(0));
    if run.lost + run.unproven + run.held + at_risk + overdue > 0 {
        tracing::warn!(
            target: LOSSES, run_id = %run.run_id, lost = run.lost, unproven = run.unproven, held = run.held, at_risk,
            overdue, "orders lost, held back or in danger: see `chatsync status`"
        );
    }
}

/// Derives the status of a complete run from its committed counters.
fn status_of(run: &Run, is_all_done: bool, has_stored: bool) -> Status {
    let is_answered = run.fetched + run.closed > 0;
    // Messages came but none could be stored: the API has changed.
    let is_in_vain = run.messages_left_out > 0 && !has_stored;
    match run.failed + run.dead + run.held {
        // No order failed, but orders were lost or left.
        0 if is_all_done && !is_in_vain && run.lost == 0 => Status::Succeeded,
        0 => Status::Partial,
        _ if is_answered => Status::Partial,
        _ => Status::Failed,
    }
}
