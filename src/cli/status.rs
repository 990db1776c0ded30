//! `chatsync status`: the queue by state, what is due, the latest runs, the next tick.

use anyhow::Context;
use chrono::{DateTime, Utc};
use comfy_table::Table;
use serde_json::{Map, Value, json};

use super::database::{Database, Migrations};
use super::output::print;
use super::table::table;
use super::times::time;
use super::{End, Environment};
use crate::config::{Needs, Settings};
use crate::db::queue::{self, Overview};
use crate::db::runs::{self, Run};
use crate::domain::OrderState;

const RUNS: i64 = 5;

/// Show the queue and the latest runs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn status(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::Never).await?;
    let overview = queue::overview(&database.pool).await?;
    let runs = runs::latest(&database.pool, RUNS).await?;
    let next_tick = settings.schedule.schedule.next_after(Utc::now());
    if args.json {
        let status = as_json(&settings, &overview, &runs, next_tick);
        print(serde_json::to_string(&status).context("cannot print the status")?)?;
    } else {
        print(queue_text(&overview))?;
        print(format!("next deadline  {}", time(nearest_deadline(&settings, &overview))))?;
        print(format!("next tick      {}\n", time(next_tick)))?;
        print(runs_table(&runs))?;
    }
    database.close().await?;
    Ok(End::Good)
}

fn as_json(settings: &Settings, overview: &Overview, runs: &[Run], next_tick: Option<DateTime<Utc>>) -> Value {
    let orders = |state: &OrderState| overview.by_state.get(state).copied().unwrap_or(0);
    let queue: Map<String, Value> =
        OrderState::ALL.iter().map(|state| (state.as_str().to_owned(), orders(state).into())).collect();
    json!({
        "queue": queue,
        "due": overview.due,
        "leased": overview.leased,
        "oldest_due_at": overview.oldest_due_at,
        "nearest_deadline": nearest_deadline(settings, overview),
        "next_tick": next_tick,
        "runs": runs,
    })
}

/// The queue by state, for people.
pub(super) fn queue_text(overview: &Overview) -> String {
    let rows = overview.by_state.iter().map(|(state, orders)| [state.as_str().to_owned(), orders.to_string()]);
    let since = overview.oldest_due_at.map(|due| format!(" (since {})", time(Some(due)))).unwrap_or_default();
    let table = table(&["state", "orders"], rows);
    format!("{table}\n\ndue now        {}{since}, {} held by a worker", overview.due, overview.leased)
}

fn runs_table(runs: &[Run]) -> Table {
    let rows = runs.iter().map(|run| {
        [
            time(Some(run.started_at)),
            run.trigger.clone(),
            run.status.clone(),
            run.fetched.to_string(),
            run.closed.to_string(),
            (run.failed + run.dead).to_string(),
            run.messages_inserted.to_string(),
            run.error.clone().unwrap_or_default(),
        ]
    });
    let header = ["started", "trigger", "status", "fetched", "closed", "failed", "new messages", "error"];
    table(&header, rows)
}

fn nearest_deadline(settings: &Settings, overview: &Overview) -> Option<DateTime<Utc>> {
    overview.nearest_deadline_base.map(|base| base + settings.queue.policy.readable_window)
}
