//! `chatsync plan`: predicts what a run would do now, and which deadlines it would miss.
//!
//! Only reads; needs no credentials. `sync::outlook` predicts, this module prints.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::output::{print, print_json};
use super::table::{facts, one_line, table};
use super::times::{span, time};
use crate::config::Needs;
use crate::db;
use crate::db::report::plan::{Missed, PlanSnapshot};
use crate::sync::outlook::{ExpectedPace, Foreseen, Foresight, Requests};

/// Predict a run that starts now: orders, requests, time, missed deadlines.
///
/// Assumes that no other worker uses the API and that no request is repeated. Changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Predict a run of at most this many orders
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A predicted run, and what it leaves.
struct Plan {
    run: Foreseen,
    missed_later: Vec<Missed>,
    next_tick: Option<DateTime<Utc>>,
}

pub(super) async fn plan(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::Never).await?;
    let next_tick = settings.schedule.ticks.next_after(Utc::now());
    let window = settings.queue.policy.readable_window;
    let foresight = &Foresight::new(&settings);
    let look = |snapshot: db::Transaction| async move {
        let mut snapshot = PlanSnapshot::begin(snapshot, window, next_tick, args.limit).await?;
        let run = foresight.foresee(&mut snapshot).await?;
        let missed_later = if run.totals.later_missed > 0 { snapshot.missed_later().await? } else { Vec::new() };
        Ok(Plan { run, missed_later, next_tick })
    };
    let plan = database.store.read("plan_totals", look).await?;
    database.close().await?;
    if args.json {
        print_json(&plan.as_json())?;
    } else {
        print(plan.text())?;
    }
    Ok(End::Good)
}

fn origin(pace: &ExpectedPace) -> String {
    let origin = match pace.found_at {
        Some(found) => format!("found at {}", time(Some(found))),
        None => "a guess (pace.initial_requests_per_second): none was found yet".to_owned(),
    };
    if pace.is_capped { format!("as pace.max_requests_per_second allows; without it, {origin}") } else { origin }
}

impl Plan {
    fn as_json(&self) -> Value {
        let Foreseen { totals, requests, pace, takes, missed } = &self.run;
        json!({
            "at": totals.now,
            "due": {
                "orders": totals.due(), "pending": totals.pending, "open": totals.open, "held": totals.held,
                "without_user": totals.without_user, "left_by_limit": totals.left_due,
            },
            "requests": {
                "total": requests.total(), "messages": requests.messages, "tokens": requests.tokens,
                "probes": requests.probes,
            },
            "pace": {
                "requests_per_second": pace.requests_per_second, "is_guess": pace.found_at.is_none(),
                "found_at": pace.found_at, "is_capped": pace.is_capped,
            },
            "takes_seconds": takes.as_seconds_f64(),
            "ends_at": totals.now + *takes,
            "missed": { "orders": missed.orders, "already_past": totals.past, "first": list(&missed.first) },
            "next_tick": self.next_tick,
            "missed_outside": {
                "orders": totals.later_missed, "already_past": totals.later_past, "first": list(&self.missed_later),
            },
        })
    }

    fn text(&self) -> String {
        let Foreseen { totals, requests, pace, takes, missed } = &self.run;
        let due = totals.due();
        let mut lines = vec![(
            "due now",
            format!("{due} ({} pending, {} open), {} held by a worker", totals.pending, totals.open, totals.held),
        )];
        if totals.left_due > 0 {
            lines.push(("", format!("{} more are left by the limit", totals.left_due)));
        }
        if requests.messages < due {
            lines.push(("", format!("{} name no connect_user_id: they would be given up", due - requests.messages)));
        }
        lines.extend([
            ("requests", {
                let Requests { messages, tokens, probes } = *requests;
                let probes =
                    if probes > 0 { format!(", up to {probes} to probe what is held back") } else { String::new() };
                format!("{} ({messages} for messages, {tokens} for tokens{probes})", requests.total())
            }),
            ("pace", format!("{:.1} requests/s, {}", pace.requests_per_second, origin(pace))),
            ("takes", format!("{}, until {}", span(*takes), time(Some(totals.now + *takes)))),
            ("next tick", time(self.next_tick)),
        ]);
        format!(
            "{}\n\n{}\n\n{}",
            facts(&lines),
            missed_text("the run", missed.orders, totals.past, &missed.first),
            missed_text("orders outside the run", totals.later_missed, totals.later_past, &self.missed_later),
        )
    }
}

/// Lists missed deadlines for people.
fn missed_text(who: &str, orders: u64, past: u64, first: &[Missed]) -> String {
    if orders == 0 {
        return format!("{who}: no deadline would be missed");
    }
    let row = |missed: &Missed| {
        [
            one_line(&missed.order_id),
            time(Some(missed.deadline)),
            time(Some(missed.fetched_at)),
            span(missed.fetched_at - missed.deadline),
        ]
    };
    let table = table(&["order", "deadline", "fetched", "late by"], first.iter().map(row));
    format!("{who}: {orders} deadline(s) would be missed, {past} of them past already; the first:\n{table}")
}

fn list(missed: &[Missed]) -> Vec<Value> {
    let late = |missed: &Missed| {
        json!({
            "order_id": missed.order_id, "deadline": missed.deadline, "fetched_at": missed.fetched_at,
            "late_by_seconds": (missed.fetched_at - missed.deadline).as_seconds_f64(),
        })
    };
    missed.iter().map(late).collect()
}
