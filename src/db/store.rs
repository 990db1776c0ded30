//! Runs operations on a database that may be unavailable or locked, and retries them.
//!
//! Every operation goes through [`Store::run`]: one transaction on one pooled connection, at most `database.timeout`
//! long. It is retried with growing waits while the failure is temporary (restart, fail-over, broken or silent
//! connection, full disk, deadlock, lock), up to `database.give_up_after`. So every operation must be idempotent: a
//! commit whose reply was lost has happened.
//!
//! The server limits each transaction too, because it does not notice that a client has gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{log_in_anew, place};
use super::limits::{BY_KEY, LOCK_LIMIT};
use super::loan::{Loan, Transaction};
use super::outage::Outage;
use super::seats::{Seat, Seats};
use super::{Error, locks};
use crate::config::{Patience, Secret};
use crate::domain::backoff;
use crate::waits::{For, Waiting, Waits};

/// Wait after the first failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After a stop signal, all operations together wait this long for a database that is unavailable or locked. Service
/// managers kill a process about 10 s after the signal.
const GRACE: Duration = Duration::from_secs(3);
/// After a stop signal, one wait for a connection or a lock takes at most this long: several operations still follow.
const LAST_TRY: Duration = Duration::from_millis(700);

/// How often a conflict raised by a trigger is tried. The trigger may mean it as a request to retry.
const RAISED_TRIES: u32 = 5;
/// A log-in that takes longer is given up if another connection is idle.
const SLOW_LOG_IN: Duration = Duration::from_millis(500);
/// Limits the search for the holder of a lock, which needs a second connection.
const LOOK: Duration = Duration::from_secs(1);
/// PostgreSQL stores timeouts as milliseconds in an integer.
const MOST_MILLISECONDS: u128 = i32::MAX as u128;

/// The database of a command or a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    seats: Seats,
    /// Source of the log-in, if it may change.
    url: Option<Secret>,
    patience: Patience,
    stop: CancellationToken,
    waits: Waits,
    outage: Arc<Mutex<Outage>>,
}

impl Store {
    /// Creates a store on `pool`. Waits are short once `stop` is cancelled, and are reported in `waits`.
    #[must_use]
    pub fn new(pool: PgPool, patience: Patience, stop: CancellationToken, waits: Waits) -> Self {
        let seats = Seats::new(pool.options().get_max_connections());
        Self { pool, seats, url: None, patience, stop, waits, outage: Arc::default() }
    }

    /// Returns a store on the same connections that does not wait for a database that is away, and whose failures are
    /// no outage for this one.
    #[must_use]
    pub fn beside(&self, timeout: Duration, stop: CancellationToken) -> Self {
        let patience = Patience { timeout, give_up_after: Duration::ZERO };
        Self { patience, stop, waits: Waits::default(), outage: Arc::default(), ..self.clone() }
    }

    /// Sets a URL that is read again from its file when the log-in is refused.
    #[must_use]
    pub fn logging_in_by(self, url: Option<Secret>) -> Self {
        Self { url, ..self }
    }

    /// Runs an operation in a transaction, and retries it while the database is unavailable or locked. Fails on what
    /// the database refuses, or after `database.give_up_after`.
    ///
    /// Waits for a lock for 5 s at a time, at most half of `database.timeout`. The server ends a statement after twice
    /// `database.timeout`.
    pub async fn run<T, F>(&self, name: &'static str, operation: impl FnMut(Transaction) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.repeat(name, "", operation).await
    }

    /// As [`run`](Self::run), for statements that look up rows by key: see [`BY_KEY`].
    pub async fn run_by_key<T, F>(
        &self,
        name: &'static str,
        operation: impl FnMut(Transaction) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.repeat(name, BY_KEY, operation).await
    }

    /// As [`run`](Self::run), for an operation that only reads: all its statements see the same state of the database.
    pub async fn read<T, F>(&self, name: &'static str, operation: impl FnMut(Transaction) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.repeat(name, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", operation).await
    }

    async fn repeat<T, F>(
        &self,
        name: &'static str,
        kind: &str,
        mut operation: impl FnMut(Transaction) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut waiting: Option<Waiting> = None;
        let (mut failing_since, mut is_outdated) = (None, false);
        let mut tries = 0;
        loop {
            tries += 1;
            let begin = format!(
                "/* {name} */ BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}; {kind}",
                milliseconds(self.lock_limit()),
                milliseconds(self.patience.timeout.saturating_mul(2)),
            );
            let error = match self.once(&begin, &mut operation, is_outdated).await {
                Ok(done) => {
                    self.outage().note_success();
                    return Ok(done);
                }
                // A conflict that a trigger raises every time is its decision about these rows.
                Err(error) if error.is_passing_conflict() && (tries < RAISED_TRIES || !error.is_raised()) => error,
                // Only once. If it fails again, a pooler keeps the outdated statement, and its settings must be fixed.
                Err(error) if error.is_outdated_statement() && !is_outdated => {
                    is_outdated = true;
                    error
                }
                Err(error) if error.is_locked() => {
                    let error = self.outage().note_lock(self.patience.give_up_after);
                    let until = Instant::now() + self.patience.give_up_after;
                    waiting.get_or_insert_with(|| self.waits.begin(For::Answer, Some(until)));
                    error
                }
                Err(error) if error.is_outage() => {
                    self.outage().note_outage(&error, self.patience.give_up_after, &self.waits);
                    error
                }
                Err(error) => return Err(error),
            };
            tracing::debug!(operation = name, %error, "the operation will be retried");
            // A run explains its waits all the time; a command only here.
            if let Some(wait) = self.waits.unexplained() {
                tracing::info!(lasted = wait.lasted.as_secs(), "{wait}");
            }
            let since = *failing_since.get_or_insert_with(Instant::now);
            let wait = backoff(FIRST_WAIT, tries, LONGEST_WAIT).mul_f64(0.5 + fastrand::f64() / 2.0);
            let retry_at = Instant::now() + wait;
            if self.outage().is_given_up || !self.wait_until(retry_at, since).await {
                self.outage().is_given_up = true;
                let lasted = self.outage().since.as_ref().map_or(since, |(away, _)| since.min(*away)).elapsed();
                return Err(Error::GaveUp { lasted, last: Box::new(error) });
            }
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock()
    }

    /// How long the server waits for a lock. Shorter than the timeout of the operation, so that the failure names the
    /// lock.
    fn lock_limit(&self) -> Duration {
        let limit = LOCK_LIMIT.min(self.patience.timeout / 2);
        if self.stop.is_cancelled() { limit.min(LAST_TRY) } else { limit }
    }

    /// Waits for the stop, and then until no operation may take longer. Each still gets [`LAST_TRY`].
    async fn stopped_for_long(&self) {
        let last_try = Instant::now() + LAST_TRY;
        self.stop.cancelled().await;
        let since = *self.outage().stopping_since.get_or_insert_with(Instant::now);
        tokio::time::sleep_until((since + GRACE).max(last_try)).await;
    }

    fn stuck(&self, timeout: Duration) -> Error {
        Error::Stuck { timeout, holder: self.outage().holder.take() }
    }

    /// Looks for the holder of a lock if the operation takes long. A failure is ignored.
    async fn look_for_holders(&self) -> Infallible {
        tokio::time::sleep(self.lock_limit() / 2).await;
        let look = async {
            let _seat = self.seats.try_take()?;
            locks::holders(&mut *self.pool.acquire().await.ok()?).await.ok()?
        };
        if let Ok(Some(holder)) = tokio::time::timeout(LOOK, look).await {
            self.outage().holder = Some(holder);
        }
        std::future::pending().await
    }

    /// Waits for the next try. Returns false if there must be none.
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

    /// Takes a seat and acquires a connection for it.
    async fn acquire(&self) -> Result<(Seat, PoolConnection<Postgres>), Error> {
        loop {
            let seat = tokio::select! {
                biased;
                seat = self.seats.take() => seat,
                () = self.is_urgent() => return Err(self.not_connected(sqlx::Error::PoolTimedOut)),
            };
            let start = Instant::now();
            let error = tokio::select! {
                biased;
                connected = self.log_in() => match connected {
                    Ok(connection) => return Ok((seat, connection)),
                    Err(error) => error,
                },
                // A new connection takes long, and one that another operation used is idle. Its seat is free.
                idle = self.idle_connection() => {
                    let seat = match self.seats.try_take() {
                        Some(other) => {
                            self.seats.remove(seat);
                            other
                        }
                        None => seat,
                    };
                    self.outage().note_shortage("opening another one takes long");
                    return Ok((seat, idle));
                }
            };
            // If other operations succeed meanwhile, the database is not away.
            let do_others_succeed = self.outage().last_success.is_some_and(|success| success >= start);
            if !(error.is_outage() && do_others_succeed && self.seats.remove(seat)) {
                return Err(error);
            }
            self.outage().note_shortage(&error.to_string());
        }
    }

    /// Waits [`SLOW_LOG_IN`], and then for an idle connection.
    async fn idle_connection(&self) -> PoolConnection<Postgres> {
        tokio::time::sleep(SLOW_LOG_IN).await;
        self.seats.until_idle(|| self.pool.try_acquire()).await
    }

    /// Acquires a connection. If the log-in is refused and the URL file has changed, retries once.
    async fn log_in(&self) -> Result<PoolConnection<Postgres>, Error> {
        let Some(url) = &self.url else { return self.connect().await };
        let used = url.get();
        match self.connect().await {
            Err(error) if error.is_refused_log_in() && log_in_anew(&self.pool, url, &used) => self.connect().await,
            connected => connected,
        }
    }

    async fn connect(&self) -> Result<PoolConnection<Postgres>, Error> {
        let acquired = tokio::select! {
            biased;
            acquired = self.pool.acquire() => acquired,
            () = self.is_urgent() => Err(sqlx::Error::PoolTimedOut),
        };
        match acquired {
            Ok(connection) => Ok(connection),
            Err(sqlx::Error::PoolTimedOut) => {
                Err(self.not_connected(self.refusal().await.unwrap_or(sqlx::Error::PoolTimedOut)))
            }
            Err(error) => Err(self.not_connected(error)),
        }
    }

    fn not_connected(&self, source: sqlx::Error) -> Error {
        Error::Connect { place: place(&self.pool.connect_options()), source }
    }

    /// Waits for the stop, or for the end of patience, and then for [`LAST_TRY`].
    async fn is_urgent(&self) {
        if !self.outage().is_given_up {
            self.stop.cancelled().await;
        }
        tokio::time::sleep(LAST_TRY).await;
    }

    /// Returns why the server accepts no connection. The pool retries until its time is up and does not say.
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

    /// Runs the operation once. Clears the prepared statements of the connection first if one was outdated.
    async fn once<T, F>(
        &self,
        begin: &str,
        operation: &mut impl FnMut(Transaction) -> F,
        is_outdated: bool,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let timeout = self.patience.timeout;
        let waiting = self.waits.begin(For::Answer, Some(Instant::now() + timeout));
        let acquired = tokio::time::timeout(timeout, self.acquire()).await;
        // Declared before the loan, so that it is given back after the connection.
        let (_seat, connection) = acquired.unwrap_or_else(|_| Err(self.stuck(timeout)))?;
        waiting.set_until(Some(Instant::now() + timeout));
        let mut loan = Loan::default();
        let mut transaction = loan.lend(connection);
        // Boxed: otherwise every caller's future would contain the largest operation several times.
        let mut attempt = Box::pin(async {
            if is_outdated {
                transaction.clear_cached_statements().await?;
            }
            PgTransactionManager::begin(&mut transaction, Some(AssertSqlSafe(begin).into_sql_str())).await?;
            let done = operation(transaction).await?;
            let mut transaction = loan.returned().expect("an operation drops its transaction");
            PgTransactionManager::commit(&mut transaction).await?;
            Ok(done)
        });
        let result = tokio::select! {
            biased;
            ended = tokio::time::timeout(timeout, attempt.as_mut()) => ended.unwrap_or_else(|_| Err(self.stuck(timeout))),
            () = self.stopped_for_long() => Err(self.stuck(GRACE)),
            never = self.look_for_holders() => match never {},
        };
        drop(waiting);
        drop(attempt);
        loan.is_spoilt = result.as_ref().is_err_and(Error::spoils_the_connection);
        loan.give_back(LAST_TRY).await;
        self.seats.note_idle();
        result
    }
}

fn milliseconds(duration: Duration) -> u128 {
    duration.as_millis().clamp(1, MOST_MILLISECONDS)
}
