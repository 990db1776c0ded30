//! The database of a command: the configured server, or one of chatsync's own.

use anyhow::Context;
use secrecy::SecretString;
use sqlx::PgPool;

use super::Environment;
use crate::config::{self, DatabaseLocation};
use crate::db;
use crate::db::embedded::{self, Embedded, Place};

/// An open database. To be [`close`](Self::close)d; dropping it stops an embedded server as well, but blocks.
pub(super) struct Database {
    pub(super) pool: PgPool,
    embedded: Option<Embedded>,
}

/// Whether a command applies migrations before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Migrations {
    /// If `database.auto_migrate` says so.
    AsConfigured,
    /// In any case.
    Always,
    /// It only looks.
    Never,
}

impl Database {
    /// Connects, starting the embedded server if that is the configuration.
    pub(super) async fn open(
        environment: &Environment,
        settings: &config::Database,
        migrations: Migrations,
    ) -> anyhow::Result<Self> {
        let database = match &settings.location {
            DatabaseLocation::Url(url) => {
                Self { pool: db::connect(url, settings.max_connections).await?, embedded: None }
            }
            DatabaseLocation::Embedded => {
                let data_dir = match &environment.data_dir {
                    Some(data_dir) => data_dir.clone(),
                    None => embedded::default_data_dir()?,
                };
                Self::start(Place::Kept(data_dir), settings.max_connections).await?
            }
        };
        let missing = db::missing_migrations(&database.pool).await?;
        let may_migrate = match migrations {
            Migrations::Always => true,
            Migrations::AsConfigured => settings.auto_migrate,
            Migrations::Never => false,
        };
        if missing > 0 && !may_migrate {
            return Err(db::Error::NotMigrated { missing }.into());
        }
        // Also with nothing missing: applied migrations are compared with those of this program.
        if migrations == Migrations::Always || missing > 0 {
            let applied = db::migrate(&database.pool).await?;
            if applied > 0 {
                tracing::info!(applied, "database migrated");
            }
        }
        Ok(database)
    }

    /// Starts an embedded server and connects to it.
    pub(super) async fn start(place: Place, max_connections: u32) -> anyhow::Result<Self> {
        let embedded = Embedded::start(place).await?;
        tracing::info!(server = embedded.description(), directory = %embedded.data_dir().display(), "embedded PostgreSQL");
        let pool = db::connect(&SecretString::from(embedded.url()), max_connections).await?;
        Ok(Self { pool, embedded: Some(embedded) })
    }

    /// The embedded server, if there is one.
    pub(super) fn embedded(&self) -> Option<&Embedded> {
        self.embedded.as_ref()
    }

    /// Closes all connections and stops an embedded server.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        match self.embedded {
            Some(embedded) => embedded.stop().await.context("cannot stop the embedded PostgreSQL"),
            None => Ok(()),
        }
    }
}
