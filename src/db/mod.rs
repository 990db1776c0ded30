//! PostgreSQL: the only place with SQL.
//!
//! Plain functions on a connection or pool, one module per table or schema. [`Store`] runs them: each operation is one
//! transaction, with limits in the server, and is tried again if its failure passes. No function needs two connections
//! at once, none keeps a lock or a setting on its session: everything works through a pooler in transaction mode that
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
mod locks;
pub mod pace;
pub mod queue;
pub mod rejects;
pub mod runs;
mod store;

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres, Transaction};

pub use error::Error;
pub use locks::holders_of_orders;
pub use store::{Link, Store};

use crate::config::Secret;

/// Oldest PostgreSQL that chatsync is tested with, as `server_version_num`.
const OLDEST_SERVER: i32 = 150_000;

/// The first migration of the first release.
const FIRST_MIGRATION: i64 = 20_261_128_100_100;

/// Guards migrations against each other; any constant does. Held within a transaction only.
const MIGRATION_LOCK: i64 = 0x6368_6174_7379_6e63;

/// How long to wait for the first connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a connection of the pool. A server that refuses is asked again all the while, so this is also
/// how long it takes to notice that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// From here on a statement is worth a warning: to count a long queue on a slow disk takes seconds.
const SLOW_STATEMENT: Duration = Duration::from_secs(10);

/// How long the server waits for a lock before it says so. Who waits for a table makes everyone else wait behind it.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// For statements about the orders of a run, at the beginning of their transaction.
///
/// However few rows the planner takes a table to have, now or at some time when a plan was made: a batch looks up its
/// rows one by one in an index, and reads no others. No plan is made twice.
pub const BY_KEY: &str = "\
    SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; \
    SET LOCAL enable_mergejoin = off; \
    SET LOCAL jit = off; \
    SET LOCAL max_parallel_workers_per_gather = 0; \
    SET LOCAL plan_cache_mode = force_generic_plan";

/// One snapshot for several statements that only look. Waits no longer for a lock than the others.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '5s'";

/// Begins such a snapshot.
pub async fn snapshot(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    Ok(pool.begin_with(SNAPSHOT).await?)
}

/// The same as [`connect`], by a URL that is read again if its log-in is refused.
pub async fn connect_by(url: &Secret, max_connections: u32) -> Result<PgPool, Error> {
    let used = url.get();
    let connected = connect(&used, max_connections).await;
    let is_refused = connected.as_ref().is_err_and(Error::is_refused_log_in);
    match is_refused.then(|| url.renewed(&used)).flatten() {
        Some(renewed) => connect(&renewed, max_connections).await,
        None => connected,
    }
}

/// Connects to a server and makes sure that its database can be used: new enough, and in UTF-8.
pub async fn connect(url: &SecretString, max_connections: u32) -> Result<PgPool, Error> {
    let options = options(url)?;
    // A first connection by hand: the pool would try again until the time-out and then hide the reason.
    tokio::time::timeout(CONNECT_TIMEOUT, check(&options))
        .await
        .map_err(|_| Error::ConnectTimeout { place: place(&options) })??;
    let pool = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(pool.connect_lazy_with(options))
}

/// How connections to the server are made.
pub fn options(url: &SecretString) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(Error::Url)?
        // A pooler refuses start-up parameters that it does not know; the server's default has been exact since 12.
        .extra_float_digits(None)
        .log_slow_statements(log::LevelFilter::Warn, SLOW_STATEMENT)
        .application_name(concat!("chatsync/", env!("CARGO_PKG_VERSION")));
    Ok(options)
}

async fn check(options: &PgConnectOptions) -> Result<(), Error> {
    let connecting = sqlx::PgConnection::connect_with(options).await;
    let mut connection = connecting.map_err(|source| Error::Connect { place: place(options), source })?;
    let server = sqlx::query!(
        r#"SELECT current_setting('server_version_num')::int AS "version!", current_setting('server_encoding') AS "encoding!""#
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    if server.version < OLDEST_SERVER {
        return Err(Error::OldServer { major: server.version / 10_000 });
    }
    if server.encoding != "UTF8" {
        return Err(Error::Encoding { encoding: server.encoding });
    }
    Ok(())
}

/// Host and port, or the socket.
fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(directory) => format!("{}/.s.PGSQL.{}", directory.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Lets new connections log in as the file of the URL says by now, after `refused` was. False if it says nothing new.
fn log_in_anew(pool: &PgPool, url: &Secret, refused: &SecretString) -> bool {
    let renewed = url.renewed(refused).and_then(|url| options(&url).ok());
    renewed.map(|options| pool.set_connect_options(options)).is_some()
}

/// Applies the embedded migrations, all in one transaction; returns how many were new.
///
/// Several processes may try at once: a lock of the transaction lets them go one after the other. [`Store`] limits how
/// long it waits for that lock, and for a table that a long query reads, because everyone else would have to wait behind
/// it.
pub async fn migrate(connection: &mut PgConnection) -> Result<usize, Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK).execute(&mut *transaction).await?;
    let before = applied(&mut transaction).await?;
    create_schemas(&mut transaction).await?;
    migrator().run_direct(None, &mut *transaction, false).await?;
    let after = applied(&mut transaction).await?;
    transaction.commit().await?;
    Ok(after.len() - before.len())
}

/// Tables that show this role only some of their rows, by row level security; `None` if there are none. Takes no locks.
pub async fn row_security(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    let tables = sqlx::query_scalar!(
        "SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid)
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('sync', 'chat') AND c.relkind = 'r' AND row_security_active(c.oid)"
    );
    Ok(tables.fetch_one(connection).await?)
}

/// How many migrations are not applied yet.
pub async fn missing_migrations(connection: &mut PgConnection) -> Result<usize, Error> {
    let applied = applied(connection).await?;
    Ok(migrator().iter().filter(|migration| !applied.contains(&migration.version)).count())
}

/// The migrator's own table goes into schema sync: schema public may not be writable, and is not ours. Its lock would
/// be the session's; that of [`migrate`] is the transaction's.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_locking(false);
    migrator.dangerous_set_table_name("sync.migrations");
    migrator
}

/// Creates the schemas that are missing.
async fn create_schemas(connection: &mut PgConnection) -> Result<(), Error> {
    for (schema, create) in [("sync", "CREATE SCHEMA sync"), ("chat", "CREATE SCHEMA chat")] {
        let is_there = sqlx::query_scalar!(r#"SELECT to_regnamespace($1) IS NOT NULL AS "is_there!""#, schema)
            .fetch_one(&mut *connection)
            .await?;
        if !is_there {
            let created = sqlx::query(create).execute(&mut *connection).await.map_err(Error::from);
            created.map_err(|error| if error.lacks_rights() { Error::NoSchema { schema } } else { error })?;
        }
    }
    Ok(())
}

fn interval(duration: Duration) -> PgInterval {
    // The configuration allows a century at most.
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// The versions of the migrations that were applied. Fails if some are of a version that was never released: its tables
/// have other columns.
async fn applied(connection: &mut PgConnection) -> Result<HashSet<i64>, Error> {
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
        return Ok(HashSet::new());
    }
    // Not checked at compile time: the migrator makes this table, no migration does.
    let versions: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM sync.migrations WHERE success").fetch_all(connection).await?;
    if versions.iter().any(|version| *version < FIRST_MIGRATION) {
        return Err(Error::Unreleased);
    }
    Ok(versions.into_iter().collect())
}
