//! `chatsync migrate`: applies the migrations of this version.

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::output::print;
use crate::config::Needs;

pub(super) async fn migrate(environment: &Environment) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::Always).await?;
    print("the database is up to date")?;
    database.close().await?;
    Ok(End::Good)
}
