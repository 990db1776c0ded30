//! Connecting to a server, directly or through a pooler.

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgPool};

use super::Error;
use super::limits::{ACQUIRE_TIMEOUT, CONNECT_TIMEOUT};
use crate::config::Secret;

/// Oldest supported PostgreSQL, as `server_version_num`.
const OLDEST_SERVER: i32 = 150_000;

/// A slower statement is logged as a warning. Counting a long queue on a slow disk takes seconds.
const SLOW_STATEMENT: Duration = Duration::from_secs(10);

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
pub(super) fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(directory) => format!("{}/.s.PGSQL.{}", directory.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Makes new connections use the current content of the URL file after `refused` failed to log in. Returns false if it
/// is unchanged.
pub(super) fn log_in_anew(pool: &PgPool, url: &Secret, refused: &SecretString) -> bool {
    let renewed = url.renewed(refused).and_then(|url| options(&url).ok());
    renewed.map(|options| pool.set_connect_options(options)).is_some()
}
