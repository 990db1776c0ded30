//! `chatsync run`: the daemon.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::database::Database;
use super::environment::{End, Environment};
use super::sync;
use crate::config::Needs;
use crate::schedule;

pub(super) async fn run(environment: &Environment) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Daemon)?;
    if let Some(listen) = settings.admin.listen {
        tracing::warn!(%listen, "this version has no admin HTTP server; admin.listen has no effect");
    }
    let Some(database) = Database::wait_for(environment, &settings.database).await? else {
        tracing::info!("stopped");
        return Ok(End::Good);
    };
    let database = Arc::new(database);
    let worker = Arc::new(sync::worker(&settings, &database)?);
    tracing::info!(worker = worker.name, version = env!("CARGO_PKG_VERSION"), "chatsync runs");
    let revive = {
        let database = Arc::clone(&database);
        move || -> BoxFuture<'static, ()> {
            let database = Arc::clone(&database);
            Box::pin(async move { database.revive().await })
        }
    };
    let stop = &environment.shutdown.soft;
    schedule::run_until_stopped(worker, &settings.schedule, Arc::new(revive), stop).await?;
    if let Some(database) = Arc::into_inner(database) {
        database.close().await?;
    }
    tracing::info!("stopped");
    Ok(End::Good)
}
