//! `chatsync run`: the daemon.

use std::sync::Arc;

use super::database::Database;
use super::{End, Environment, sync};
use crate::config::Needs;
use crate::schedule;

pub(super) async fn run(environment: &Environment) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Credentials)?;
    if let Some(listen) = settings.admin.listen {
        tracing::warn!(%listen, "this version has no admin HTTP server; admin.listen has no effect");
    }
    let Some(database) = Database::wait_for(environment, &settings.database).await? else {
        tracing::info!("stopped");
        return Ok(End::Good);
    };
    let worker = Arc::new(sync::worker(&settings, &database)?);
    tracing::info!(worker = worker.name, version = env!("CARGO_PKG_VERSION"), "chatsync runs");
    schedule::run_until_stopped(worker, &settings.schedule, &environment.shutdown.soft).await?;
    database.close().await?;
    tracing::info!("stopped");
    Ok(End::Good)
}
