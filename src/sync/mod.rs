//! A run: the only place where the API and the database meet.
//!
//! [`Worker::run`] works off everything that is due when it starts. Three stages overlap, joined by bounded channels:
//! `claim` takes orders out of the queue in due order, `fetch` asks the API for many at once, `write` puts batches
//! into the database. `held` knows which orders are between claim and write: their leases are renewed
//! while the run lasts and given back when it ends early. `share` agrees with other workers on the pace meanwhile,
//! `explain` says what a long wait is for. `outlook` foresees which deadlines the next run would miss.
//! Between fetch and write stands the storm guard: `opening` for the first replies, `guard` for all; what they cannot
//! decide `evidence` finds out at the end of a pass.

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

/// How soon it looks again whether orders that another worker holds are done: at first, and after a while.
const SHORTEST_LOOK_AWAY: Duration = Duration::from_millis(20);
const LONGEST_LOOK_AWAY: Duration = Duration::from_secs(1);

/// After so many lengths of a lease in which there was nothing to do and no lease about to end, the daemon leaves what is
/// left.
const PATIENCE_IN_LEASES: u32 = 2;

/// Target of the log line about losses: `chatsync demo` has its own words for them.
pub const LOSSES: &str = "chatsync::sync::losses";

/// Old orders deleted by one statement: the locks are short.
const FORGOTTEN_AT_ONCE: i64 = 5_000;
/// And by so many at the end of a run: seconds. The rest is left to the next one.
const FORGOTTEN_BATCHES: usize = 200;

/// Works off the queue of one database through one API client.
pub struct Worker {
    /// The database.
    pub pool: sqlx::PgPool,
    /// Where its log-in comes from; an embedded one has none.
    database_url: Option<Secret>,
    /// Who this is, in `sync.runs`: new at every start.
    pub name: String,
    /// The API.
    pub client: Arc<Client>,
    /// What it waits for at the moment.
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

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// What started it.
    pub trigger: Trigger,
    /// Only these orders; all that is due otherwise.
    pub only: Option<Vec<String>>,
    /// At most this many orders.
    pub limit: Option<u64>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// Its row, counters as committed.
    pub run: Run,
    /// Why it could not proceed, if it could not.
    pub failure: Option<Error>,
}

/// Why a run could not proceed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// The API answers in a way that every order would meet.
    #[error(transparent)]
    Api(Box<connect::Error>),
    /// The account, or the set-up, makes the API refuse every order.
    #[error(transparent)]
    AllRefused(#[from] AllRefused),
    /// A defect: a task of the run panicked.
    #[error("a task of the run ended abnormally")]
    Task(#[from] tokio::task::JoinError),
}

impl From<connect::Error> for Error {
    fn from(error: connect::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// How the work of a run went, apart from errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing is left to do.
    Done,
    /// Nothing is left but orders that somebody keeps, perhaps for ever.
    Left,
    /// Stopped by a signal.
    Stopped,
}

impl Worker {
    /// A worker as configured, with credentials. Fails if HTTPS is needed and the platform has no certificates.
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

    /// The latest run of any worker on the database.
    pub async fn latest_run(&self, stop: &CancellationToken) -> Result<Option<Run>, db::Error> {
        let store = Store::new(self.pool.clone(), self.patience, stop.clone(), self.waits.clone());
        let latest = |mut connection: db::Link| async move { runs::latest(&mut *connection, 1).await };
        Ok(store.run(latest).await?.pop())
    }

    /// Works off what is due now. Ends early, in good order, once `stop` is cancelled.
    ///
    /// Fails if the run could not even be recorded; a run that was recorded ends in a [`Report`] unless the database
    /// stays away.
    pub async fn run(&self, request: &Request, stop: &CancellationToken, progress: &Progress) -> Result<Report, Error> {
        let run_id = Uuid::now_v7();
        tokio::select! {
            ended = Box::pin(self.run_as(run_id, request, stop, progress)) => ended,
            never = explain(&self.waits, &self.pool, run_id) => match never {},
        }
    }

    async fn run_as(
        &self,
        run_id: Uuid,
        request: &Request,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<Report, Error> {
        let halt = stop.child_token();
        let store = Store::new(self.pool.clone(), self.patience, halt.clone(), self.waits.clone())
            .logging_in_by(self.database_url.clone());
        let (started_at, clock) = store
            .run(|mut connection| async move {
                let (started_at, now) =
                    runs::start(&mut *connection, run_id, request.trigger, &self.name, self.queue.lease).await?;
                Ok((started_at, DatabaseClock::set(now)))
            })
            .await?;
        let mut guard = Guard::new(self.guard);
        let scope = Scope { due_by: started_at, only: request.only.clone() };
        let pipeline = Pipeline::new(self, run_id, scope, clock, store.clone(), halt);
        tracing::info!(%run_id, trigger = request.trigger.as_str(), "run started");
        let share = Box::pin(Share::join(store.clone(), Arc::clone(&self.client), run_id)).await;
        let ended = CancellationToken::new();
        let work = async {
            let _ended = ended.clone().drop_guard();
            let end = self.work(&pipeline, request, &mut guard, stop, progress).await;
            if !matches!(end, Ok(End::Stopped) | Err(Error::Database(_))) {
                // Also after a run that failed: many of them would fill the disk.
                pipeline.rejects.apply(stop).await;
            }
            let end = end?;
            if end != End::Stopped
                && let Some(retention) = self.queue.retention
            {
                forget(&store, retention, stop).await;
            }
            Ok(end)
        };
        let (end, (), ()) = tokio::join!(work, pipeline.stay_alive(&ended), Box::pin(share.keep(&ended)));
        let is_all_done = matches!(end, Ok(End::Done));
        let has_stored = pipeline.has_stored.load(Relaxed);
        let (status, failure) = match end {
            Ok(End::Stopped) => (Some(Status::Interrupted), None),
            Ok(End::Done | End::Left) => (None, None),
            Err(error) => (Some(Status::Failed), Some(error)),
        };
        let error = &failure.as_ref().map(ToString::to_string);
        let (sent, failures) = (pipeline.session.counts(), &pipeline.failures);
        let outlook = match &failure {
            // It would have to be waited for once more.
            Some(Error::Database(_)) => None,
            _ => self.outlook(request.trigger).await,
        };
        let finish = |mut connection: db::Link| async move {
            let status = match status {
                Some(status) => status,
                None => status_of(&runs::get(&mut *connection, run_id).await?, is_all_done, has_stored),
            };
            let error = match error {
                None if status == Status::Failed => failures.most_frequent(),
                error => error.clone(),
            };
            let (at_risk, overdue) = outlook.map(|outlook| (outlook.at_risk, outlook.overdue)).unzip();
            let finish = Finish { status, error: error.as_deref(), sent, at_risk, overdue };
            runs::finish(&mut *connection, run_id, &finish).await?;
            runs::get(&mut *connection, run_id).await
        };
        let run = match store.run(finish).await {
            Ok(run) => run,
            // Why the run failed says more than that this could not be recorded.
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

    /// The orders in danger once this run has ended. That they cannot be counted is no failure of the run.
    async fn outlook(&self, trigger: Trigger) -> Option<Outlook> {
        match self.foresight.outlook(&self.pool, trigger).await {
            Ok(outlook) => Some(outlook),
            Err(error) => {
                tracing::debug!("orders at risk were not counted: {error}");
                None
            }
        }
    }

    /// Passes through the queue until nothing that was due is left, neither here nor with another worker. An order
    /// whose worker died is taken over when its lease ends. If nothing is left but orders whose rows a session has locked,
    /// `sync` waits on, because a person wants to know that all is up to date; the daemon leaves them to a later run, which
    /// sees orders that have come due since.
    async fn work(
        &self,
        pipeline: &Pipeline,
        request: &Request,
        guard: &mut Guard,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> Result<End, Error> {
        let (store, scope) = (&pipeline.store, &pipeline.scope);
        let limit = request.limit.unwrap_or(u64::MAX);
        if progress.is_counted() {
            let due =
                store.run(|mut connection| async move { queue::count_due(&mut *connection, scope).await }).await?;
            progress.expect(due.min(limit));
        }
        let mut remaining = limit;
        let mut look_away = SHORTEST_LOOK_AWAY;
        let mut idle_since = Instant::now();
        let mut waiting: Option<(For, Waiting)> = None;
        let mut told_holders = false;
        while let Some(due) = pipeline.due().await? {
            if stop.is_cancelled() {
                return Ok(End::Stopped);
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
                return Ok(End::Left);
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
            if what == For::Locks && !told_holders && idle_since.elapsed() >= SHOWN_AFTER.min(patience) {
                told_holders = true;
                tell_holders(store).await;
            }
            if idle_since.elapsed() >= patience && request.trigger != Trigger::Manual {
                let why = For::Locks.as_str();
                tracing::warn!(orders = due.orders, "left to a later run: {why}");
                return Ok(End::Left);
            }
            match &waiting {
                Some((before, waiting)) if *before == what => waiting.set_until(until),
                _ => waiting = Some((what, self.waits.begin(what, until))),
            }
            let wait = match due.free_in {
                Some(free_in) if due.free == 0 => look_away.min(free_in).max(SHORTEST_LOOK_AWAY),
                // Free and yet not claimed: somebody has its row locked, for who knows how long.
                _ => look_away,
            };
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Ok(End::Stopped);
            }
            look_away = (look_away * 2).min(LONGEST_LOOK_AWAY);
        }
        Ok(End::Done)
    }
}

/// Says which sessions may have locked what is left. That they cannot be found out is no failure of the run.
async fn tell_holders(store: &Store) {
    let look = |mut connection: db::Link| async move { db::holders_of_orders(&mut *connection).await };
    if let Ok(Some(holders)) = store.run(look).await {
        tracing::warn!(%holders, "these sessions may have locked the orders that are waited for");
    }
}

/// Deletes rows of orders that have long ended. A failure is not the run's: its work is done.
async fn forget(store: &Store, retention: Duration, stop: &CancellationToken) {
    let mut forgotten = 0;
    for _ in 0..FORGOTTEN_BATCHES {
        if stop.is_cancelled() {
            break;
        }
        let batch = |mut connection: db::Link| async move {
            queue::forget(&mut *connection, retention, FORGOTTEN_AT_ONCE).await
        };
        match store.run(batch).await {
            Ok(0) => break,
            Ok(orders) => forgotten += orders,
            Err(error) => {
                tracing::warn!("orders that have long ended stay in the queue for now: {error}");
                break;
            }
        }
    }
    if forgotten > 0 {
        tracing::info!(orders = forgotten, "orders that have long ended deleted from the queue");
    }
}

/// Says once what is lost, held back, or in danger.
fn warn_of_losses(run: &Run) {
    let (at_risk, overdue) = (run.at_risk.unwrap_or(0), run.overdue.unwrap_or(0));
    if run.lost + run.unproven + run.held + at_risk + overdue > 0 {
        tracing::warn!(
            target: LOSSES, run_id = %run.run_id, lost = run.lost, unproven = run.unproven, held = run.held, at_risk,
            overdue, "orders lost, held back or in danger: see `chatsync status`"
        );
    }
}

/// What the committed counters say of a run that came to its end.
fn status_of(run: &Run, is_all_done: bool, has_stored: bool) -> Status {
    let is_answered = run.fetched + run.closed > 0;
    // Messages came, and none could be stored: the API has changed.
    let is_in_vain = run.messages_left_out > 0 && !has_stored;
    match run.failed + run.dead + run.held {
        // Read in good order, and yet not what was hoped for.
        0 if is_all_done && !is_in_vain && run.lost == 0 => Status::Succeeded,
        0 => Status::Partial,
        _ if is_answered => Status::Partial,
        _ => Status::Failed,
    }
}
