//! PostgreSQL: the only place with SQL.
//!
//! Plain functions on a connection or pool, one module per table or schema. No function needs two connections at
//! once, none keeps a lock or a setting on its session: everything works through a pooler in transaction mode that
//! knows of prepared statements.
//! `embedded` runs a server of chatsync's own.

pub mod chat;
mod copy;
pub mod embedded;
mod error;
pub mod evidence;
pub mod forecast;
pub mod insight;
pub mod life;
pub mod pace;
pub mod queue;
pub mod rejects;
pub mod runs;
mod store;

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, PgPool, Postgres, Transaction};

pub use error::Error;
pub use store::{Link, Store};

/// Oldest PostgreSQL that chatsync is tested with, as `server_version_num`.
const OLDEST_SERVER: i32 = 150_000;

/// Guards migrations against each other; any constant does. Held within a transaction only.
const MIGRATION_LOCK: i64 = 0x6368_6174_7379_6e63;

/// How long to wait for the first connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a connection of the pool. A server that refuses is asked again all the while, so this is also
/// how long it takes to notice that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// From here on a statement is worth a warning: to count a long queue on a slow disk takes seconds.
const SLOW_STATEMENT: Duration = Duration::from_secs(10);

/// Connects to a server and makes sure that it is new enough.
pub async fn connect(url: &SecretString, max_connections: u32) -> Result<PgPool, Error> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(Error::Url)?
        // A pooler refuses start-up parameters that it does not know; the server's default has been exact since 12.
        .extra_float_digits(None)
        .log_slow_statements(log::LevelFilter::Warn, SLOW_STATEMENT)
        .application_name(concat!("chatsync/", env!("CARGO_PKG_VERSION")));
    // A first connection by hand: the pool would try again until the time-out and then hide the reason.
    let first = tokio::time::timeout(CONNECT_TIMEOUT, sqlx::PgConnection::connect_with(&options));
    let place = || format!("{}:{}", options.get_host(), options.get_port());
    let mut first = first
        .await
        .map_err(|_| Error::ConnectTimeout { place: place() })?
        .map_err(|source| Error::Connect { place: place(), source })?;
    let version = sqlx::query_scalar!(r#"SELECT current_setting('server_version_num')::int AS "version!""#)
        .fetch_one(&mut first)
        .await?;
    first.close().await?;
    if version < OLDEST_SERVER {
        return Err(Error::OldServer { major: version / 10_000 });
    }
    let pool = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(pool.connect_lazy_with(options))
}

/// Applies the embedded migrations, all in one transaction; returns how many were new.
///
/// Several processes may try at once: a lock of the transaction lets them go one after the other. For a table that a
/// long query reads it does not wait long, because everybody else would have to wait behind it.
pub async fn migrate(pool: &PgPool) -> Result<usize, Error> {
    let migrator = migrator();
    let mut transaction = pool.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK).execute(&mut *transaction).await?;
    let before = applied(&mut transaction).await?;
    sqlx::query("SET LOCAL lock_timeout = '5s'").execute(&mut *transaction).await?;
    migrator.run_direct(None, &mut *transaction, false).await?;
    let after = applied(&mut transaction).await?;
    transaction.commit().await?;
    Ok(after - before)
}

/// Begins a transaction that looks for, claims or writes what a run is about. Its settings end with it.
///
/// However few rows the planner takes a table to have, now or at some time when a plan was made: a batch looks up its
/// rows one by one in an index, and reads no others. No plan is made twice.
///
/// Nobody waits for an answer longer than `timeout`. A statement that takes twice as long, because somebody has locked
/// its rows, ends by itself and lets go of those that it has locked: the server does not see that its client has gone.
pub async fn begin(connection: &mut sqlx::PgConnection, timeout: Duration) -> Result<Transaction<'_, Postgres>, Error> {
    let milliseconds = (timeout * 2).as_millis().clamp(1, MOST_MILLISECONDS);
    let begin = format!("{BEGIN}; SET LOCAL statement_timeout = {milliseconds}");
    Ok(connection.begin_with(AssertSqlSafe(begin)).await?)
}

/// PostgreSQL counts them in an integer.
const MOST_MILLISECONDS: u128 = i32::MAX as u128;

const BEGIN: &str = "BEGIN; \
    SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; \
    SET LOCAL enable_mergejoin = off; \
    SET LOCAL jit = off; \
    SET LOCAL max_parallel_workers_per_gather = 0; \
    SET LOCAL plan_cache_mode = force_generic_plan";

/// How many migrations are not applied yet.
pub async fn missing_migrations(pool: &PgPool) -> Result<usize, Error> {
    let mut connection = pool.acquire().await?;
    let applied = applied(&mut connection).await?;
    Ok(migrator().iter().count().saturating_sub(applied))
}

/// The migrator's own table goes into schema sync: schema public may not be writable, and is not ours. Its lock would
/// be the session's; that of [`migrate`] is the transaction's.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_locking(false);
    migrator.create_schema("sync");
    migrator.dangerous_set_table_name("sync.migrations");
    migrator
}

fn interval(duration: Duration) -> PgInterval {
    // The configuration allows a century at most.
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

async fn applied(connection: &mut sqlx::PgConnection) -> Result<usize, Error> {
    // Not to_regclass: within a transaction it may remember from before the lock that there was no such table.
    let is_there = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = 'sync' AND c.relname = 'migrations'
           ) AS "is_there!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    if !is_there {
        return Ok(0);
    }
    // Not checked at compile time: the migrator makes this table, no migration does.
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sync.migrations WHERE success").fetch_one(connection).await?;
    Ok(usize::try_from(count).unwrap_or(0))
}
