//! Problems, the worst first, each with the command that helps.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::cli::table::{WIDTH, wrapped};
use crate::cli::times::{minute, time};
use crate::db::rejects::Dropped;
use crate::db::runs::{Losses, Run, Status};
use crate::domain::HeldKind;
use crate::sync::outlook::Outlook;

#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// For machines: stable.
    kind: &'static str,
    /// `None` if they cannot be counted.
    orders: Option<u64>,
    text: String,
    /// The command that helps, if there is one.
    command: Option<&'static str>,
}

pub(super) struct Facts<'a> {
    pub(super) dead: u64,
    pub(super) failing: u64,
    pub(super) held: &'a BTreeMap<HeldKind, u64>,
    pub(super) dropped: &'a [Dropped],
    /// Older events are known already.
    pub(super) since: DateTime<Utc>,
    /// The latest runs in which something was due, newest first.
    pub(super) runs: &'a [Run],
    pub(super) losses: Losses,
    pub(super) outlook: Option<Outlook>,
}

/// Returns the problems, the worst first.
pub(super) fn of(facts: &Facts) -> Vec<Problem> {
    let mut problems: Vec<Problem> = facts.runs.iter().filter_map(waits).collect();
    problems.extend(facts.runs.iter().find(|run| !is_going_on(run)).and_then(went_wrong));
    let losses = facts.losses;
    let (at_risk, overdue) = facts.outlook.map_or((0, 0), |outlook| (outlook.at_risk, outlook.overdue));
    let held: u64 = facts.held.values().sum();
    let kinds: Vec<String> = facts.held.iter().map(|(kind, orders)| format!("{} {orders}", kind.as_str())).collect();
    let held_back = format!("order(s) held back, their replies may be wrong: {}", kinds.join(", "));
    let counted = [
        ("lost", losses.lost, "order(s) found lost in 7 days: they had expired before the first read", "chatsync plan"),
        ("overdue", overdue, "order(s) overdue: the deadline has passed, unread or unproven", "chatsync sync"),
        ("at_risk", at_risk, "order(s) at risk: the next run comes too late for their deadline", "chatsync plan"),
        ("held", held, &held_back, "chatsync confirm --dry-run"),
        ("dead", facts.dead, "order(s) given up", "chatsync status --failing; chatsync retry --dead"),
        (
            "failing",
            facts.failing,
            "order(s) that failed, or were not understood, when last asked for",
            "chatsync status --failing",
        ),
        (
            "unproven",
            losses.unproven,
            "order(s) found unproven in 7 days: last read too early before their end",
            "chatsync plan",
        ),
    ];
    problems.extend(counted.into_iter().filter(|(_, orders, ..)| *orders > 0).map(|(kind, orders, what, command)| {
        Problem { kind, orders: Some(orders), text: format!("{orders} {what}"), command: Some(command) }
    }));
    problems.extend(facts.dropped.iter().filter(|dropped| dropped.last_dropped_at >= facts.since).filter_map(too_many));
    problems
}

/// Returns a problem unless the rejects were dropped for their age.
fn too_many(dropped: &Dropped) -> Option<Problem> {
    let text = format!("{} reject(s) dropped: more than rejects.max_bytes came", dropped.rejects);
    let command = Some("chatsync status --failing");
    (dropped.reason == "max_bytes").then_some(Problem { kind: "rejects_dropped", orders: None, text, command })
}

/// Whether the worker of the run is alive. The next run marks a silent one as abandoned; here it counts as such before
/// that.
fn is_going_on(run: &Run) -> bool {
    run.status == Status::Running && run.alive_until > Utc::now()
}

fn waits(run: &Run) -> Option<Problem> {
    let what = run.waiting_for.as_ref().filter(|_| is_going_on(run))?;
    let until = match run.waiting_until {
        Some(until) => format!(", until {} at the latest", time(Some(until))),
        None => "; the end is not known".to_owned(),
    };
    let text = format!("the run since {} waits for {what}{until}", minute(run.started_at));
    Some(Problem { kind: "waiting", orders: None, text, command: None })
}

fn went_wrong(run: &Run) -> Option<Problem> {
    let started = minute(run.started_at);
    let (kind, text) = match run.status {
        Status::Failed => {
            let error = run.error.as_deref().unwrap_or("the reason is not known");
            ("failed", format!("the run of {started} failed: {error}"))
        }
        Status::Abandoned | Status::Running => {
            ("abandoned", format!("the run of {started} was abandoned: its worker fell silent"))
        }
        Status::Succeeded | Status::Partial | Status::Interrupted => return None,
    };
    Some(Problem { kind, orders: None, text, command: Some("chatsync sync") })
}

pub(super) fn text(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "nothing is wrong".to_owned();
    }
    let lines = problems.iter().flat_map(|problem| {
        let mut lines = wrapped(&format!("! {}", problem.text), WIDTH, "  ");
        lines.extend(problem.command.map(|command| format!("  → {command}")));
        lines
    });
    lines.collect::<Vec<_>>().join("\n")
}
