//! A database that may go away or be locked, and the patience to wait for it.
//!
//! What chatsync asks of the database goes through [`Store::run`]: one transaction on a connection of its own, not longer
//! than `database.timeout`, and again with growing waits as long as the failure is one that passes (a restart, a
//! fail-over, a cut or silent connection, a full disk, a deadlock, a lock), up to `database.give_up_after`. So an operation
//! must be harmless when done twice: a commit whose answer was lost has happened.
//!
//! The server limits each transaction as well: it does not see that its client has gone.

use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{BY_KEY, Error, LOCK_LIMIT, locks, log_in_anew, place};
use crate::config::{Patience, Secret};
use crate::waits::{For, Waiting, Waits};

/// The wait after the first failure; it doubles up to the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Once the run is to stop, a database that is away or locked is waited for no longer than this by all operations
/// together: whoever stops a container or a service kills it after 10 s or a little more.
const GRACE: Duration = Duration::from_secs(4);
/// And a connection or a lock no longer than this each time: several things are still to be tried, one after the other.
const LAST_TRY: Duration = Duration::from_secs(1);

/// How often a conflict is tried that a trigger raises: it may mean it, to be tried again.
const RAISED_TRIES: u32 = 5;
/// A lock that lasts is logged once in this time.
const AGAIN_AFTER: Duration = Duration::from_mins(1);
/// To find out who holds a lock takes a second connection, if one can be had at once.
const LOOK: Duration = Duration::from_secs(1);
/// PostgreSQL counts milliseconds in an integer.
const MOST_MILLISECONDS: u128 = i32::MAX as u128;

/// The database of a command or a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    /// Where the log-in comes from, if it is not fixed.
    url: Option<Secret>,
    patience: Patience,
    stop: CancellationToken,
    waits: Waits,
    outage: Arc<Mutex<Outage>>,
}

/// What the operations of a run know of each other's failures.
#[derive(Debug, Default)]
struct Outage {
    /// Since when the database is away, which is waited for.
    since: Option<(Instant, Waiting)>,
    /// When that was last logged, and whether its end is to be logged: a server that accepts some connections and refuses
    /// others would fill the log.
    away_logged: Option<Instant>,
    is_away_logged: bool,
    /// Patience is at its end: nothing is tried twice any more.
    is_given_up: bool,
    /// When the run was asked to stop.
    stopping_since: Option<Instant>,
    /// Who held a lock when last looked, and when that was logged.
    holder: Option<String>,
    locked_told: Option<Instant>,
}

/// A connection with an open transaction, lent to an operation: dropped, it is back with its [`Store`].
pub struct Link {
    connection: Option<PoolConnection<Postgres>>,
    lender: Lender,
}

type Lender = Arc<Mutex<Option<PoolConnection<Postgres>>>>;

impl Deref for Link {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("only drop takes it")
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("only drop takes it")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        *lock(&self.lender) = self.connection.take();
    }
}

/// A connection of the pool, to be lent to an operation and then to be judged: dropped, it goes back to the pool with its
/// transaction rolled back, or is closed.
#[derive(Default)]
struct Loan {
    lender: Lender,
    is_spoilt: bool,
}

impl Loan {
    fn lend(&self, connection: PoolConnection<Postgres>) -> Link {
        Link { connection: Some(connection), lender: Arc::clone(&self.lender) }
    }

    /// Takes back what an operation has dropped.
    fn returned(&self) -> Option<Link> {
        let connection = lock(&self.lender).take()?;
        Some(self.lend(connection))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(mut connection) = lock(&self.lender).take() else { return };
        if self.is_spoilt {
            // The pool would go on using it, or wait for it as well.
            connection.close_on_drop();
        } else {
            PgTransactionManager::start_rollback(&mut connection);
        }
    }
}

impl Store {
    /// The database behind `pool`. Once `stop` is cancelled patience is short. Says in `waits` what it waits for.
    #[must_use]
    pub fn new(pool: PgPool, patience: Patience, stop: CancellationToken, waits: Waits) -> Self {
        Self { pool, url: None, patience, stop, waits, outage: Arc::default() }
    }

    /// Reads a URL that is kept in a file again when its log-in is refused.
    #[must_use]
    pub fn logging_in_by(self, url: Option<Secret>) -> Self {
        Self { url, ..self }
    }

    /// Does an operation in a transaction of its own, again and again while the database is away or locked. Fails with
    /// what the database refuses, or once patience is at its end.
    ///
    /// Locks are waited for 5 s at a time, half of `database.timeout` at most; a statement ends in the server after twice
    /// that time.
    pub async fn run<T, F>(&self, operation: impl FnMut(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.repeat("", operation).await
    }

    /// The same for statements that look up their rows one by one: [`BY_KEY`].
    pub async fn run_by_key<T, F>(&self, operation: impl FnMut(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.repeat(BY_KEY, operation).await
    }

    async fn repeat<T, F>(&self, plans: &str, mut operation: impl FnMut(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut waiting: Option<Waiting> = None;
        let (mut wait, mut failing_since, mut is_outdated) = (FIRST_WAIT, None, false);
        let mut tries = 0;
        loop {
            tries += 1;
            let begin = format!(
                "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}; {plans}",
                milliseconds(self.lock_limit()),
                milliseconds(self.patience.timeout.saturating_mul(2)),
            );
            let error = match self.once(&begin, &mut operation, is_outdated).await {
                Ok(done) => {
                    self.is_back();
                    return Ok(done);
                }
                // What a trigger raises again and again is its answer to these rows.
                Err(error) if error.is_passing_conflict() && (tries < RAISED_TRIES || !error.is_raised()) => error,
                // Once: a pooler that goes on to use the old one needs somebody to tell it.
                Err(error) if error.is_outdated_statement() && !is_outdated => {
                    is_outdated = true;
                    error
                }
                Err(error) if error.is_locked() => {
                    let error = self.is_locked();
                    let until = Instant::now() + self.patience.give_up_after;
                    waiting.get_or_insert_with(|| self.waits.begin(For::Answer, Some(until)));
                    error
                }
                Err(error) if error.is_outage() => {
                    self.is_away(&error);
                    error
                }
                Err(error) => return Err(error),
            };
            tracing::debug!("to be tried again: {error}");
            let since = *failing_since.get_or_insert_with(Instant::now);
            let retry_at = Instant::now() + wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            wait = (wait * 2).min(LONGEST_WAIT);
            if self.outage().is_given_up || !self.wait_until(retry_at, since).await {
                self.outage().is_given_up = true;
                let lasted = self.outage().since.as_ref().map_or(since, |(away, _)| since.min(*away)).elapsed();
                return Err(Error::GaveUp { lasted, last: Box::new(error) });
            }
        }
    }

    fn is_back(&self) {
        let mut outage = self.outage();
        if outage.since.take().is_some() && std::mem::take(&mut outage.is_away_logged) {
            tracing::info!("the database is back");
        }
    }

    /// Tells it once, however many operations meet it.
    fn is_away(&self, error: &Error) {
        let mut outage = self.outage();
        if outage.since.is_none() && !self.patience.give_up_after.is_zero() {
            let now = Instant::now();
            outage.since = Some((now, self.waits.begin(For::Database, Some(now + self.patience.give_up_after))));
            if outage.away_logged.is_none_or(|logged| logged.elapsed() >= AGAIN_AFTER) {
                (outage.away_logged, outage.is_away_logged) = (Some(now), true);
                tracing::warn!("the database is away, waiting for it: {error}");
            }
        }
    }

    /// Tells it once a minute, however many operations meet it.
    fn is_locked(&self) -> Error {
        let mut outage = self.outage();
        let error = Error::Locked { holder: outage.holder.take() };
        let is_waited_for = !self.patience.give_up_after.is_zero();
        if is_waited_for && outage.locked_told.is_none_or(|told| told.elapsed() >= AGAIN_AFTER) {
            outage.locked_told = Some(Instant::now());
            tracing::warn!("waiting for a lock: {error}");
        }
        error
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        lock(&self.outage)
    }

    /// How long the server waits for a lock. Shorter than an answer is waited for, so that it tells why there is none.
    fn lock_limit(&self) -> Duration {
        let limit = LOCK_LIMIT.min(self.patience.timeout / 2);
        if self.stop.is_cancelled() { limit.min(LAST_TRY) } else { limit }
    }

    /// Waits until the run is to stop, and then for as long as operations may still take; each gets [`LAST_TRY`].
    async fn stopped_for_long(&self) {
        let last_try = Instant::now() + LAST_TRY;
        self.stop.cancelled().await;
        let since = *self.outage().stopping_since.get_or_insert_with(Instant::now);
        tokio::time::sleep_until((since + GRACE).max(last_try)).await;
    }

    fn stuck(&self, timeout: Duration) -> Error {
        Error::Stuck { timeout, holder: self.outage().holder.take() }
    }

    /// Looks who holds a lock, if an operation takes long. That it cannot be found out is no failure.
    async fn look_for_holders(&self) -> Infallible {
        tokio::time::sleep(self.lock_limit() / 2).await;
        let look = async { locks::holders(&mut *self.pool.acquire().await?).await };
        if let Ok(Ok(Some(holder))) = tokio::time::timeout(LOOK, look).await {
            self.outage().holder = Some(holder);
        }
        std::future::pending().await
    }

    /// Waits for the next try; false if there is none.
    async fn wait_until(&self, retry_at: Instant, since: Instant) -> bool {
        if retry_at > since + self.patience.give_up_after {
            return false;
        }
        if self.stop.is_cancelled() {
            let stopping_since = *self.outage().stopping_since.get_or_insert_with(Instant::now);
            tokio::time::sleep_until(retry_at).await;
            return stopping_since.elapsed() < GRACE;
        }
        let _ = self.stop.run_until_cancelled(tokio::time::sleep_until(retry_at)).await;
        true
    }

    /// A connection; tries again at once if the log-in is refused and another one is known by now.
    async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        let Some(url) = &self.url else { return self.acquire_once().await };
        let used = url.get();
        match self.acquire_once().await {
            Err(error) if error.is_refused_log_in() && log_in_anew(&self.pool, url, &used) => self.acquire_once().await,
            acquired => acquired,
        }
    }

    async fn acquire_once(&self) -> Result<PoolConnection<Postgres>, Error> {
        let acquired = tokio::select! {
            biased;
            acquired = self.pool.acquire() => acquired,
            () = self.is_urgent() => Err(sqlx::Error::PoolTimedOut),
        };
        let source = match acquired {
            Ok(connection) => return Ok(connection),
            Err(sqlx::Error::PoolTimedOut) => self.refusal().await.unwrap_or(sqlx::Error::PoolTimedOut),
            Err(error) => error,
        };
        Err(Error::Connect { place: place(&self.pool.connect_options()), source })
    }

    /// Waits until the run is to stop or the database is given up, and a little longer.
    async fn is_urgent(&self) {
        if !self.outage().is_given_up {
            self.stop.cancelled().await;
        }
        tokio::time::sleep(LAST_TRY).await;
    }

    /// Why the server accepts no connection. The pool does not say: it tries again until its time is up.
    async fn refusal(&self) -> Option<sqlx::Error> {
        let is_exhausted = self.pool.size() >= self.pool.options().get_max_connections();
        if is_exhausted || self.stop.is_cancelled() {
            return None;
        }
        let options = self.pool.connect_options();
        let connected = tokio::time::timeout(LOOK, PgConnection::connect_with(&options)).await.ok()?;
        match connected {
            Ok(connection) => {
                // By now it does.
                let _ = tokio::time::timeout(LOOK, connection.close()).await;
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Does it on any connection, which first forgets its prepared statements if some are outdated.
    async fn once<T, F>(
        &self,
        begin: &str,
        operation: &mut impl FnMut(Link) -> F,
        is_outdated: bool,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut loan = Loan::default();
        let mut link = loan.lend(self.acquire().await?);
        // On the heap: the callers' futures would be as large as the largest operation many times over.
        let mut attempt = Box::pin(async {
            if is_outdated {
                link.clear_cached_statements().await?;
            }
            PgTransactionManager::begin(&mut link, Some(AssertSqlSafe(begin).into_sql_str())).await?;
            let done = operation(link).await?;
            let mut link = loan.returned().expect("an operation ends with its link");
            PgTransactionManager::commit(&mut link).await?;
            Ok(done)
        });
        let timeout = self.patience.timeout;
        let waiting = self.waits.begin(For::Answer, Some(Instant::now() + timeout));
        let result = tokio::select! {
            biased;
            ended = tokio::time::timeout(timeout, attempt.as_mut()) => ended.unwrap_or_else(|_| Err(self.stuck(timeout))),
            () = self.stopped_for_long() => Err(self.stuck(GRACE)),
            never = self.look_for_holders() => match never {},
        };
        drop(waiting);
        drop(attempt);
        loan.is_spoilt = result.as_ref().is_err_and(Error::spoils_the_connection);
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held; a poisoned state is still a state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(duration: Duration) -> u128 {
    duration.as_millis().clamp(1, MOST_MILLISECONDS)
}
