//! The database of a command: the configured server, or an embedded one.
//!
//! Server and worker are often started together, so commands wait for a server that is not up yet: the daemon until a
//! signal, every other command for `database.wait_at_start`. Wrong settings fail at once.

use std::time::Duration;

use anyhow::Context;
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use crate::config::{self, DatabaseLocation, Patience, Secret};
use crate::db::{self, Store};
use crate::embedded::{DataDir, Embedded};
use crate::waits::Waits;

/// Time limit of the operations of a command, such as a migration. Long, because only waits for locks must be limited.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_hours(24);

/// Pause after the first failed attempt to connect; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A wait is logged once per interval.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// An open database. [`close`](Self::close) it: dropping it also stops an embedded server, but blocks.
pub(super) struct Database {
    pub(super) pool: db::Pool,
    /// For operations that may wait for a lock or be retried.
    pub(super) store: Store,
    embedded: Option<Embedded>,
}

/// Whether a command applies migrations before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Migrations {
    AsConfigured,
    Always,
    /// The command only reads.
    Never,
}

impl Database {
    /// Connects, and starts the embedded server if configured. Fails if the server is not up within
    /// `database.wait_at_start`.
    pub(super) async fn open(
        environment: &Environment,
        settings: &config::DatabaseSettings,
        migrations: Migrations,
    ) -> anyhow::Result<Self> {
        let opening = Self::try_open(environment, settings, migrations, Some(settings.wait_at_start));
        let opened = environment.shutdown.soft.run_until_cancelled(Box::pin(opening)).await;
        opened.context("stopped by a signal before the database was there")?
    }

    /// As [`open`](Self::open), without a time limit, for the daemon. Returns `None` after a signal.
    pub(super) async fn wait_for(
        environment: &Environment,
        settings: &config::DatabaseSettings,
    ) -> anyhow::Result<Option<Self>> {
        let opening = Self::try_open(environment, settings, Migrations::AsConfigured, None);
        environment.shutdown.soft.run_until_cancelled(Box::pin(opening)).await.transpose()
    }

    async fn try_open(
        environment: &Environment,
        settings: &config::DatabaseSettings,
        migrations: Migrations,
        wait: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let stop = &environment.shutdown.soft;
        let database = match &settings.location {
            DatabaseLocation::Url(url) => Self::connect(url, settings, stop, None, wait).await?,
            DatabaseLocation::Embedded => {
                let data_dir = match migrations {
                    Migrations::Never => environment.existing_data_dir(settings)?,
                    Migrations::AsConfigured | Migrations::Always => environment.data_dir(settings)?,
                };
                Self::start(DataDir::Kept(data_dir), settings, stop).await?
            }
        };
        retry_until_up(wait, || database.migrate(migrations, settings.auto_migrate)).await?;
        Ok(database)
    }

    pub(super) async fn start(
        data_dir: DataDir,
        settings: &config::DatabaseSettings,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let embedded = Embedded::start(data_dir).await?;
        tracing::info!(server = embedded.description(), directory = %embedded.data_dir().display(), "embedded PostgreSQL");
        let url = Secret::fixed(SecretString::from(embedded.url()));
        Ok(Self::connect(&url, settings, stop, Some(embedded), Some(settings.wait_at_start)).await?)
    }

    async fn connect(
        url: &Secret,
        settings: &config::DatabaseSettings,
        stop: &CancellationToken,
        embedded: Option<Embedded>,
        wait: Option<Duration>,
    ) -> Result<Self, db::Error> {
        let pool = retry_until_up(wait, || db::connect_by(url, settings.max_connections)).await?;
        let patience = Patience { timeout: AS_LONG_AS_IT_TAKES, ..settings.patience };
        let store = Store::new(pool.clone(), patience, stop.clone(), Waits::default()).logging_in_by(Some(url.clone()));
        Ok(Self { pool, store, embedded })
    }

    async fn migrate(&self, migrations: Migrations, is_automatic: bool) -> Result<(), db::Error> {
        let look = |mut transaction: db::Transaction| async move {
            Ok((db::missing_migrations(&mut transaction).await?, db::row_security(&mut transaction).await?))
        };
        let (missing, hidden) = self.store.run("missing_migrations", look).await?;
        if let Some(tables) = hidden {
            tracing::warn!(tables, "row level security is in force: orders that its policies hide are not read");
        }
        let may_migrate = match migrations {
            Migrations::Always => true,
            Migrations::AsConfigured => is_automatic,
            Migrations::Never => false,
        };
        if missing > 0 && !may_migrate {
            return Err(db::Error::NotMigrated { missing });
        }
        // Even if none is missing: this compares the applied migrations with those of this program.
        if migrations == Migrations::Always || missing > 0 {
            let migrate = |mut transaction: db::Transaction| async move { db::migrate(&mut transaction).await };
            let applied = self.store.run("migrate", migrate).await?;
            if applied > 0 {
                tracing::info!(applied, "database migrated");
            }
        }
        Ok(())
    }

    /// Starts an embedded server again if it has stopped. A failure is only logged: the following run fails and reports
    /// it.
    pub(super) async fn revive(&self) {
        let Some(embedded) = &self.embedded else { return };
        let revived = async {
            let url = embedded.revive().await?;
            if url != embedded.url() {
                self.pool.set_connect_options(db::options(&SecretString::from(url))?);
            }
            anyhow::Ok(())
        };
        if let Err(error) = revived.await {
            tracing::error!(%error, "the embedded PostgreSQL is down");
        }
    }

    pub(super) fn embedded(&self) -> Option<&Embedded> {
        self.embedded.as_ref()
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        match self.embedded {
            Some(embedded) => embedded.stop().await.context("cannot stop the embedded PostgreSQL"),
            None => Ok(()),
        }
    }
}

/// Retries while the failure is temporary, for up to `wait`. With `None` without limit, and also while another session
/// blocks the migration.
async fn retry_until_up<T, F>(wait: Option<Duration>, mut attempt: impl FnMut() -> F) -> Result<T, db::Error>
where
    F: Future<Output = Result<T, db::Error>>,
{
    let passes = |error: &db::Error| {
        error.is_outage() || (wait.is_none() && matches!(error, db::Error::InUse | db::Error::GaveUp { .. }))
    };
    let (start, mut pause, mut logged_at) = (Instant::now(), FIRST_PAUSE, None::<Instant>);
    loop {
        let error = match attempt().await {
            Err(error) if passes(&error) => error,
            result => return result,
        };
        let left = wait.map_or(LONGEST_PAUSE, |wait| wait.saturating_sub(start.elapsed()));
        if left.is_zero() {
            return Err(error);
        }
        if logged_at.is_none_or(|logged_at| logged_at.elapsed() >= AGAIN_AFTER) {
            logged_at = Some(Instant::now());
            tracing::warn!("waiting for the database: {error}");
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
