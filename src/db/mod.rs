//! PostgreSQL: the only place with SQL.
//!
//! Plain functions on a connection or a pool, one module per table or command. [`Store`] runs them: each operation is
//! one transaction with limits in the server, and is retried if its failure is temporary. No function needs two
//! connections or keeps a lock or setting on its session, so everything works through a pooler in transaction mode that
//! supports prepared statements.

pub mod chat;
mod copy;
mod error;
pub mod evidence;
mod locks;
#[cfg(test)]
mod names;
pub mod pace;
pub mod queue;
pub mod rejects;
pub mod report;
pub mod runs;
mod seats;
pub mod settle;
mod store;

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool};

pub use error::Error;
pub use locks::holders_of_orders;
pub use sqlx::PgPool as Pool;
pub use store::{Store, Transaction};

use crate::config::Secret;

/// Oldest supported PostgreSQL, as `server_version_num`.
const OLDEST_SERVER: i32 = 150_000;

/// The first migration of the first release. Older versions in `sync.migrations` were never released.
const FIRST_MIGRATION: i64 = 20_261_128_100_100;

/// Lock id that makes migrations run one after the other. Any constant will do. Held within a transaction only.
const MIGRATION_LOCK: i64 = 0x6368_6174_7379_6e63;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a pooled connection. sqlx keeps trying a server that refuses, so an outage is noticed after
/// this time.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A slower statement is logged as a warning. Counting a long queue on a slow disk takes seconds.
const SLOW_STATEMENT: Duration = Duration::from_secs(10);

/// How long the server waits for a lock before it gives up. All later sessions queue behind one that waits for a table.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Settings for transactions about the orders of a run: force index lookups.
///
/// With stale statistics PostgreSQL would scan the whole table for every batch. A generic plan is made once per
/// connection.
pub const BY_KEY: &str = "\
    SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; \
    SET LOCAL enable_mergejoin = off; \
    SET LOCAL jit = off; \
    SET LOCAL max_parallel_workers_per_gather = 0; \
    SET LOCAL plan_cache_mode = force_generic_plan";

/// Connects as [`connect`] does. If the log-in is refused, reads the URL again and retries once.
pub async fn connect_by(url: &Secret, max_connections: u32) -> Result<PgPool, Error> {
    let used = url.get();
    let connected = connect(&used, max_connections).await;
    let is_refused = connected.as_ref().is_err_and(Error::is_refused_log_in);
    match is_refused.then(|| url.renewed(&used)).flatten() {
        Some(renewed) => connect(&renewed, max_connections).await,
        None => connected,
    }
}

/// Connects to a server. Fails if its version is older than 15 or its encoding is not UTF-8.
pub async fn connect(url: &SecretString, max_connections: u32) -> Result<PgPool, Error> {
    let options = options(url)?;
    // Connect once outside the pool: the pool would retry until its timeout and hide the reason.
    tokio::time::timeout(CONNECT_TIMEOUT, check(&options))
        .await
        .map_err(|_| Error::ConnectTimeout { place: place(&options) })??;
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A pooler accepts a client before it has a connection for it. Without this query the first operation would wait.
        .after_connect(|connection, _| Box::pin(async { connection.execute("SELECT 1").await.map(drop) }));
    Ok(pool.connect_lazy_with(options))
}

/// Parses the URL and adds chatsync's connection options.
pub fn options(url: &SecretString) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(Error::Url)?
        // A pooler refuses unknown start-up parameters. The server default has been exact since PostgreSQL 12.
        .extra_float_digits(None)
        .log_slow_statements(log::LevelFilter::Warn, SLOW_STATEMENT)
        .application_name(concat!("chatsync/", env!("CARGO_PKG_VERSION")));
    Ok(options)
}

async fn check(options: &PgConnectOptions) -> Result<(), Error> {
    let connecting = sqlx::PgConnection::connect_with(options).await;
    let mut connection = connecting.map_err(|source| Error::Connect { place: place(options), source })?;
    let server = sqlx::query!(
        r#"-- server
           SELECT current_setting('server_version_num')::int AS "version!", current_setting('server_encoding') AS "encoding!""#
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

/// Host and port, or the path of the socket.
fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(directory) => format!("{}/.s.PGSQL.{}", directory.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Makes new connections use the current content of the URL file after `refused` failed to log in. Returns false if it
/// is unchanged.
fn log_in_anew(pool: &PgPool, url: &Secret, refused: &SecretString) -> bool {
    let renewed = url.renewed(refused).and_then(|url| options(&url).ok());
    renewed.map(|options| pool.set_connect_options(options)).is_some()
}

/// Applies the embedded migrations in one transaction and returns how many were new.
///
/// Takes a transaction lock, so several processes migrate one after the other. [`Store`] limits the wait for it and for
/// tables that a long query reads.
pub async fn migrate(connection: &mut PgConnection) -> Result<usize, Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("-- migrate\nSELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK).execute(&mut *transaction).await?;
    let before = applied(&mut transaction).await?;
    create_schemas(&mut transaction).await?;
    migrator().run_direct(None, &mut *transaction, false).await?;
    let after = applied(&mut transaction).await?;
    transaction.commit().await?;
    Ok(after.len() - before.len())
}

/// Names the tables of which row level security hides rows from this role; `None` if there are none. Takes no locks.
pub async fn row_security(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    let tables = sqlx::query_scalar!(
        "-- row_security
         SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid)
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('sync', 'chat') AND c.relkind = 'r' AND row_security_active(c.oid)"
    );
    Ok(tables.fetch_one(connection).await?)
}

/// Counts the migrations that are not applied yet.
pub async fn missing_migrations(connection: &mut PgConnection) -> Result<usize, Error> {
    let applied = applied(connection).await?;
    Ok(migrator().iter().filter(|migration| !applied.contains(&migration.version)).count())
}

/// The table of the migrator is in schema sync, because schema public may not be writable. Its own lock would belong to
/// the session, so it is off; [`migrate`] locks within its transaction.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_locking(false);
    migrator.dangerous_set_table_name("sync.migrations");
    migrator
}

async fn create_schemas(connection: &mut PgConnection) -> Result<(), Error> {
    for (schema, create) in [("sync", "CREATE SCHEMA sync"), ("chat", "CREATE SCHEMA chat")] {
        let is_there = sqlx::query_scalar!(
            r#"-- schema_is_there
               SELECT to_regnamespace($1) IS NOT NULL AS "is_there!""#,
            schema
        )
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

/// Returns the versions of the applied migrations. Fails if one was never released: its tables have other columns.
async fn applied(connection: &mut PgConnection) -> Result<HashSet<i64>, Error> {
    // Not to_regclass: its cache may still say that the table is missing, from before the lock was granted.
    let is_there = sqlx::query_scalar!(
        r#"-- missing_migrations
           SELECT EXISTS (
               SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = 'sync' AND c.relname = 'migrations'
           ) AS "is_there!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    if !is_there {
        return Ok(HashSet::new());
    }
    // Not checked at compile time: the migrator creates this table, no migration does.
    let versions: Vec<i64> =
        sqlx::query_scalar("-- applied_migrations\nSELECT version FROM sync.migrations WHERE success")
            .fetch_all(connection)
            .await?;
    if versions.iter().any(|version| *version < FIRST_MIGRATION) {
        return Err(Error::Unreleased);
    }
    Ok(versions.into_iter().collect())
}
