//! `chatsync retry`: makes orders due again.

use chrono::{DateTime, Utc};
use clap::ArgGroup;

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::output::{note, print};
use crate::config::Needs;
use crate::db::queue::{self, Retried, Retry};

/// Put orders back into the queue: due now, failures reset. Stored data stays.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").args(["dead", "orders", "closed_since"]).required(true).multiple(true))]
pub(super) struct Args {
    /// All orders that were given up
    #[arg(long)]
    dead: bool,

    /// This order, whatever its state; may be given several times
    #[arg(long = "order", value_name = "ID")]
    orders: Vec<String>,

    /// Orders closed at or after this time (RFC 3339), e.g. after asking the wrong server
    #[arg(long, value_name = "TIME", value_parser = time)]
    closed_since: Option<DateTime<Utc>>,
}

pub(super) async fn retry(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::AsConfigured).await?;
    let which = &Retry { dead: args.dead, order_ids: args.orders, closed_since: args.closed_since };
    let Retried { orders, unknown } = queue::retry(&database.store, which).await?;
    print(format!("{orders} put back"))?;
    for order in &unknown {
        note(format!("order {order} is not in the queue: add it with `chatsync enqueue`"));
    }
    database.close().await?;
    Ok(if unknown.is_empty() { End::Good } else { End::Partial })
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse().map_err(|_| "write RFC 3339 such as 2026-01-31T18:00:00Z".to_owned())
}
