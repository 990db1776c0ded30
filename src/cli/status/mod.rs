//! `chatsync status`: problems with the commands that help, the queue by state, the orders by coverage, what is due,
//! the latest runs, the next tick. Fits into 80 columns.

mod problems;
mod runs_table;

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::Table;
use serde_json::{Map, Value, json};

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::output::{print, print_json};
use super::table::{one_line, shortened, table};
use super::times::time;
use crate::config::{Needs, Settings};
use crate::db;
use crate::db::queue::{self, Failing, Overview};
use crate::db::rejects::Dropped;
use crate::db::report::status::{StatusRows, status as look};
use crate::db::runs::Trigger;
use crate::domain::OrderState;
use crate::sync::outlook::{Foresight, Outlook};
use problems::Problem;

/// Older losses are not shown as problems; they stay in the counts by coverage.
const RECENT: TimeDelta = TimeDelta::days(7);

/// Show problems, the queue and the latest runs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Only the orders that fail or were given up: by kind, with examples
    #[arg(long)]
    failing: bool,

    /// How many runs to show; those in which nothing was due are grouped and not counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
}

struct StatusReport {
    rows: StatusRows,
    /// `None` if it took too long.
    outlook: Option<Outlook>,
    nearest_deadline: Option<DateTime<Utc>>,
    next_tick: Option<DateTime<Utc>>,
}

pub(super) async fn status(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::Never).await?;
    if args.failing {
        let failing = queue::failing(&database.store).await?;
        if args.json { print_json(&json!({ "failing": failing }))? } else { print(failing_text(&failing))? }
    } else {
        let status = StatusReport::look(&settings, &database, args.runs.into()).await?;
        if args.json { print_json(&status.as_json())? } else { print(status.text())? }
    }
    database.close().await?;
    Ok(End::Good)
}

impl StatusReport {
    async fn look(settings: &Settings, database: &Database, limit: i64) -> Result<Self, db::Error> {
        let rows = look(&database.store, limit, Utc::now() - RECENT).await?;
        let after = rows.latest.as_ref().map_or(Trigger::Cron, |run| run.trigger);
        let outlook = match Foresight::new(settings).outlook(&database.store, after).await {
            Ok(outlook) => Some(outlook),
            // It took too long, or the database is unavailable. Other failures, such as those of a pooler, would repeat
            // and must be seen.
            Err(error) if error.is_outage() => None,
            Err(error) => return Err(error),
        };
        let window = settings.queue.policy.readable_window;
        let nearest_deadline = rows.overview.nearest_deadline_base.map(|base| base + window);
        Ok(Self { rows, outlook, nearest_deadline, next_tick: settings.schedule.ticks.next_after(Utc::now()) })
    }

    fn as_json(&self) -> Value {
        let queue: Map<String, Value> = OrderState::ALL
            .iter()
            .map(|state| (state.as_str().to_owned(), self.rows.overview.orders(*state).into()))
            .collect();
        let coverage: Map<String, Value> =
            self.rows.coverage.iter().map(|(coverage, orders)| (coverage.clone(), (*orders).into())).collect();
        let held: Map<String, Value> =
            self.rows.held.iter().map(|(kind, orders)| (kind.as_str().to_owned(), (*orders).into())).collect();
        let dropped: Vec<Value> = self.rows.dropped.iter().map(|dropped| {
            json!({ "reason": dropped.reason, "rejects": dropped.rejects, "last_dropped_at": dropped.last_dropped_at })
        }).collect();
        json!({
            "problems": self.problems(),
            "queue": queue,
            "coverage": coverage,
            "due": self.rows.overview.due,
            "leased": self.rows.overview.leased,
            "failing": self.rows.overview.failing,
            "held": held,
            "rejects_dropped": dropped,
            "at_risk": self.outlook.map(|outlook| outlook.at_risk),
            "overdue": self.outlook.map(|outlook| outlook.overdue),
            "lost_in_7_days": self.rows.losses.lost,
            "unproven_in_7_days": self.rows.losses.unproven,
            "oldest_due_at": self.rows.overview.oldest_due_at,
            "nearest_deadline": self.nearest_deadline,
            "next_tick": self.next_tick,
            "runs": self.rows.runs,
            "idle_runs": self.rows.idle_runs,
        })
    }

    fn text(&self) -> String {
        let problems = problems::text(&self.problems());
        let counts = self.counts();
        let due = due_text(&self.rows.overview);
        let danger = match self.outlook {
            Some(Outlook { at_risk, overdue }) => format!("{overdue} overdue, {at_risk} at risk"),
            None => "not counted: it takes too long".to_owned(),
        };
        let (deadline, tick) = (time(self.nearest_deadline), time(self.next_tick));
        let runs = runs_table::text(&self.rows.runs, &self.rows.idle_runs);
        let dropped: String = self.rows.dropped.iter().map(dropped_text).collect();
        format!(
            "{problems}\n\n{counts}\n\n{due}\n\
             deadlines      {danger}\nnext deadline  {deadline}\nnext tick      {tick}\n{dropped}\n{runs}"
        )
    }

    /// Orders by state, with orders by coverage beside them.
    fn counts(&self) -> Table {
        let states: Vec<_> = state_rows(&self.rows.overview).collect();
        let lines = states.len().max(self.rows.coverage.len());
        let rows = (0..lines).map(|line| {
            let [state, orders] = states.get(line).cloned().unwrap_or_default();
            let (coverage, covered) = self
                .rows
                .coverage
                .get(line)
                .map(|(coverage, orders)| (coverage.clone(), orders.to_string()))
                .unwrap_or_default();
            [state, orders, coverage, covered]
        });
        table(&["state", "orders", "coverage", "orders"], rows)
    }

    fn problems(&self) -> Vec<Problem> {
        problems::of(&problems::Facts {
            dead: self.rows.overview.orders(OrderState::Dead),
            failing: self.rows.overview.failing,
            held: &self.rows.held,
            dropped: &self.rows.dropped,
            since: Utc::now() - RECENT,
            runs: &self.rows.runs,
            losses: self.rows.losses,
            outlook: self.outlook,
        })
    }
}

fn dropped_text(dropped: &Dropped) -> String {
    let Dropped { reason, rejects, last_dropped_at, .. } = dropped;
    format!("rejects        {rejects} dropped (rejects.{reason}), the last {}\n", time(Some(*last_dropped_at)))
}

pub(super) fn queue_text(overview: &Overview) -> String {
    format!("{}\n\n{}", table(&["state", "orders"], state_rows(overview)), due_text(overview))
}

fn state_rows(overview: &Overview) -> impl Iterator<Item = [String; 2]> {
    overview.by_state.iter().map(|(state, orders)| [state.as_str().to_owned(), orders.to_string()])
}

fn due_text(overview: &Overview) -> String {
    let since = overview.oldest_due_at.map(|due| format!(" (since {})", time(Some(due)))).unwrap_or_default();
    format!("due now        {}{since}, {} held by a worker", overview.due, overview.leased)
}

fn failing_text(failing: &[Failing]) -> String {
    if failing.is_empty() {
        return "no order fails".to_owned();
    }
    let rows = failing.iter().map(|one| {
        let examples: Vec<String> = one.examples.iter().map(|order_id| shortened(&one_line(order_id), 36)).collect();
        [one.kind.clone(), one.failing.to_string(), one.dead.to_string(), examples.join("\n")]
    });
    let table = table(&["kind", "failing", "dead", "such as"], rows);
    format!("{table}\n\nchatsync why ORDER      why one of them fails\nchatsync retry --dead   puts the dead back")
}
