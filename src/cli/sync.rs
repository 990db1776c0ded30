//! `chatsync sync`: one run over everything that is due.

use std::sync::Arc;

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::failure;
use super::output::{note, print, print_json};
use super::progress::watch;
use crate::config::{Needs, Settings};
use crate::db::queue;
use crate::db::runs::{Counters, Run, Sent, Status, Trigger};
use crate::domain::OrderState;
use crate::schedule::revive_in_time;
use crate::sync::{Progress, Report, Request, Worker};

/// Fetch everything that is due, once, then exit.
///
/// On Ctrl-C or SIGTERM it finishes requests in flight, writes their results and releases the other orders.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most this many orders
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Only this order, due or not; may be given several times
    #[arg(long = "order", value_name = "ID")]
    orders: Vec<String>,

    /// Print the run's row of sync.runs as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn sync(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Credentials)?;
    let database = Database::open(environment, &settings.database, Migrations::AsConfigured).await?;
    let worker = worker(&settings, &database)?;
    if !args.orders.is_empty() {
        environment.unless_stopped(make_due(&database, &args.orders)).await?;
    }
    let only = Some(args.orders).filter(|orders| !orders.is_empty());
    let request = Request { trigger: Trigger::Manual, only, limit: args.limit };
    let report = tokio::select! {
        report = run_with_progress(environment, &worker, &request) => report?,
        never = revive_in_time(&worker.waits, || database.revive()) => match never {},
    };
    if args.json {
        print_json(&report.run)?;
    } else {
        print(summary(&report.run))?;
    }
    drop(worker);
    database.close().await?;
    Ok(end_of(report))
}

/// Creates a worker with a unique name.
pub(super) fn worker(settings: &Settings, database: &Database) -> anyhow::Result<Worker> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let random = &uuid::Uuid::new_v4().simple().to_string()[..8];
    let name = format!("{}:{}:{random}", host.as_deref().unwrap_or("localhost"), std::process::id());
    Ok(Worker::new(database.pool.clone(), name, settings)?)
}

/// Runs the worker and shows its progress.
pub(super) async fn run_with_progress(
    environment: &Environment,
    worker: &Worker,
    request: &Request,
) -> anyhow::Result<Report> {
    let run = |progress: Arc<Progress>| async move {
        Box::pin(worker.run(request, &environment.shutdown.soft, &progress)).await
    };
    Ok(watch(&worker.waits, run).await?)
}

/// Converts the result of a run to an exit code. Prints the reason if it could not proceed.
pub(super) fn end_of(report: Report) -> End {
    if let Some(error) = report.failure {
        note(format!("error: {}", failure::report(&error.into())));
        return End::Failed;
    }
    if report.run.status == Status::Interrupted {
        note("error: interrupted before everything that is due was fetched; the rest stays due");
        return End::Failed;
    }
    let Counters { failed, dead, lost, held, .. } = report.run.counters;
    let is_partial = failed + dead + lost + held > 0 || report.run.status == Status::Partial;
    if is_partial { End::Partial } else { End::Good }
}

/// Makes the orders due. Fails before anything is fetched if one of them cannot be fetched.
async fn make_due(database: &Database, orders: &[String]) -> anyhow::Result<()> {
    let states = queue::make_due(&database.store, orders).await?;
    for order in orders {
        match states.get(order) {
            None => anyhow::bail!("order {order} is not in the queue: add it with `chatsync enqueue`"),
            Some(OrderState::Pending | OrderState::Open) => {}
            Some(state) => anyhow::bail!(
                "order {order} is {} and not fetched any more: put it back with `chatsync retry --order`",
                state.as_str()
            ),
        }
    }
    Ok(())
}

pub(super) fn summary(run: &Run) -> String {
    let milliseconds = run.finished_at.map_or(0, |finished| (finished - run.started_at).num_milliseconds());
    let (seconds, tenths) = (milliseconds / 1000, milliseconds % 1000 / 100);
    // All of them, so that none is forgotten; some are among the losses.
    let Counters {
        claimed,
        fetched,
        unchanged,
        closed,
        failed,
        dead,
        held: _,
        lost: _,
        unproven: _,
        messages_inserted,
        messages_updated,
        messages_left_out: _,
        users_written,
    } = run.counters;
    let Sent { requests, throttled } = run.sent;
    let per_second = claimed * 1000 / u64::try_from(milliseconds).unwrap_or(0).max(1);
    let (run_id, status) = (run.run_id, run.status.as_str());
    let counts = format!(
        "run {run_id} {status} in {seconds}.{tenths} s ({per_second} orders/s)\n\
         \x20 orders     {fetched} fetched ({unchanged} unchanged), {closed} closed, {failed} failed, {dead} dead\n\
         \x20 messages   {messages_inserted} inserted, {messages_updated} updated\n\
         \x20 users      {users_written} written\n\
         \x20 requests   {requests} ({throttled} throttled)"
    );
    std::iter::once(counts).chain(losses(run)).collect::<Vec<_>>().join("\n")
}

/// What is lost or in danger, one line each.
fn losses(run: &Run) -> Vec<String> {
    let counted = [
        (run.counters.lost, "lost", "expired before the first read"),
        (run.counters.unproven, "unproven", "last read too early before their end"),
        (run.counters.held, "held back", "replies that may be wrong: chatsync confirm --dry-run"),
        (run.counters.messages_left_out, "left out", "messages without a usable id: chatsync status --failing"),
        (run.overdue.unwrap_or(0).unsigned_abs(), "overdue", "past their deadline, unread or unproven"),
        (run.at_risk.unwrap_or(0).unsigned_abs(), "at risk", "the next run comes too late for them: chatsync plan"),
    ];
    let there_are = counted.into_iter().filter(|(orders, ..)| *orders > 0);
    there_are.map(|(orders, name, what)| format!("  {name:<10} {orders} {what}")).collect()
}
