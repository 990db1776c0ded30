//! What every command receives, and how it may end.

use std::path::PathBuf;
use std::process::ExitCode;

use super::output::note;
use super::stderr;
use crate::config::{self, Needs, Problems, Settings, Sources};
use crate::embedded;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// How a command ended, unless it failed with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Good,
    Partial,
    /// It could not proceed; the reason was printed.
    Failed,
    /// The exit code of another program.
    Code(u8),
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        match end {
            End::Good => Self::SUCCESS,
            End::Failed => Self::from(1),
            End::Code(code) => Self::from(code),
            End::Partial => Self::from(3),
        }
    }
}

/// What every command receives: global options and signals.
pub(super) struct Environment {
    pub(super) sources: Sources,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) shutdown: Shutdown,
}

impl Environment {
    /// Returns the directory of the embedded PostgreSQL. Prints it if no database is configured, because another one
    /// may be meant.
    pub(super) fn data_dir(&self, settings: &config::DatabaseSettings) -> anyhow::Result<PathBuf> {
        let data_dir = match &self.data_dir {
            Some(data_dir) => data_dir.clone(),
            None => embedded::default_data_dir()?,
        };
        if settings.is_default {
            note(format!(
                "no database is configured (DATABASE_URL, database.url): using the one in {}",
                data_dir.display()
            ));
        }
        Ok(data_dir)
    }

    /// As [`data_dir`](Self::data_dir), for a command that only reads and creates no database.
    pub(super) fn existing_data_dir(&self, settings: &config::DatabaseSettings) -> anyhow::Result<PathBuf> {
        let data_dir = self.data_dir(settings)?;
        if !embedded::exists(&data_dir) {
            anyhow::bail!(
                "there is no database in {}: `chatsync enqueue` makes one, or set database.url to yours",
                data_dir.display()
            );
        }
        Ok(data_dir)
    }

    /// Stops `work` at the first signal. Only for work that may be interrupted anywhere, such as a connection or a
    /// transaction.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        // Boxed: the future is as large as the whole command.
        let done = self.shutdown.soft.run_until_cancelled(Box::pin(work)).await;
        done.unwrap_or_else(|| Err(anyhow::anyhow!("stopped by a signal")))
    }

    pub(super) fn settings(&self, needs: Needs) -> Result<Settings, Problems> {
        let settings = config::load(&self.sources, needs)?;
        telemetry::init(&settings.log, stderr::log, stderr::has_colours());
        if self.sources.has_unused_database_url() {
            tracing::warn!("CHATSYNC__DATABASE__URL is used; DATABASE_URL, which says something else, is not");
        }
        Ok(settings)
    }
}
