//! `chatsync confirm`: accepts results that the storm guard holds back.

use clap::ValueEnum;

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::output::{note, print};
use crate::config::Needs;
use crate::db::queue::HeldFilter;
use crate::domain::HeldKind;
use crate::sync;

/// Accept results that the storm guard holds back, without asking the API again.
///
/// All of them, or those of a kind, or single orders. They date from when they were first seen.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only results of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<KindArgument>,

    /// Only this order; may be given several times
    #[arg(long = "order", value_name = "ID")]
    orders: Vec<String>,

    /// Only count them; change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArgument {
    /// The API does not know the order (404)
    Closed,
    /// The conversation expired
    Expired,
    /// The order was refused for good
    Refused,
}

pub(super) async fn confirm(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::AsConfigured).await?;
    let kinds = args.kind.map(|kind| match kind {
        KindArgument::Closed => vec![HeldKind::Closed, HeldKind::NotFoundUncoded],
        KindArgument::Expired => vec![HeldKind::Expired],
        KindArgument::Refused => vec![HeldKind::Refused],
    });
    let which = HeldFilter { kinds, order_ids: Some(args.orders).filter(|orders| !orders.is_empty()) };
    let confirmed =
        sync::confirm(&database.store, &which, &settings.queue.policy, settings.queue.lease, args.dry_run).await?;
    let orders: u64 = confirmed.iter().map(|(_, orders)| orders).sum();
    let by_kind: Vec<String> = confirmed.iter().map(|(kind, orders)| format!("{orders} {kind}")).collect();
    let by_kind = if by_kind.is_empty() { String::new() } else { format!(" ({})", by_kind.join(", ")) };
    let done = if args.dry_run { "would be confirmed" } else { "confirmed" };
    print(format!("{orders} {done}{by_kind}"))?;
    if let Some(wanted) = &which.order_ids
        && orders < wanted.len() as u64
    {
        note("the other orders have no held result, or a worker holds them now; hint: chatsync why ORDER");
    }
    database.close().await?;
    Ok(End::Good)
}
