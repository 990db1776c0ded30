//! `chatsync why`: explains one order to an operator who has to find its conversation.
//!
//! Only reads. Prints counts and times, never chat text or names. The sentences are in [`words`].

mod words;

use serde_json::{Value, json};

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::output::{print, print_json};
use super::table::{self, one_line, table};
use super::times::{distance, span, time};
use crate::config::{Needs, Settings};
use crate::db::report::why::{self, Attempt, OrderReport, Reject};
use crate::domain::HeldKind;

/// Rejects that are listed; the others are only counted.
const REJECTS: i64 = 10;

/// Explain one order: what was done, what is known, what comes next.
///
/// Lists the last 8 attempts, each with the messages that it added and changed. Of several changes to a message only
/// the last is recorded, so a later attempt may hide an earlier change.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The order, as it was enqueued
    #[arg(value_name = "ORDER")]
    order: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn why(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::Never).await?;
    let report = why::order_report(&database.store, &args.order, REJECTS).await?;
    database.close().await?;
    let Some(report) = report else {
        anyhow::bail!("order {} is not in the queue: add it with `chatsync enqueue`", one_line(&args.order));
    };
    if args.json {
        print_json(&as_json(&report, &settings))?;
    } else {
        print(format!("{}\n", facts(&report, &settings)))?;
        print(format!("{}\n", attempts(&report.attempts)))?;
        print(rejects(&report))?;
    }
    Ok(End::Good)
}

fn as_json(report: &OrderReport, settings: &Settings) -> Value {
    let (order, policy) = (&report.order, &settings.queue.policy);
    let next = words::next(report, policy, &settings.schedule.ticks);
    let held = order.leased_until.filter(|until| *until > report.now);
    json!({
        "at": report.now,
        "order_id": order.order_id,
        "state": order.state.as_str(),
        "state_means": words::state(order.state),
        "coverage": report.coverage.as_str(),
        "coverage_means": words::coverage(report.coverage),
        "next": { "due_at": next.at, "means": next.text },
        "deadline": { "at": words::deadline(order, policy), "means": words::deadline_means(order, policy, report.now) },
        "held": held.map(|until| json!({ "lease_id": order.lease_id, "until": until, "running_workers": report.workers })),
        "held_back": words::held_back(order).map(|means| json!({
            "kind": order.held_kind.map(HeldKind::as_str),
            "since": order.held_since,
            "times": order.held_times,
            "means": means,
        })),
        "enqueued_at": order.enqueued_at,
        "source": order.source,
        "priority": order.priority,
        "token": words::token(order, settings.auth_mode),
        "token_kind": order.token_kind.map(crate::domain::TokenKind::as_str),
        "connect_user_id": order.connect_user_id,
        "ids_internal": order.ids_internal,
        "retailer_id": order.retailer_id,
        "completed_at": order.completed_at,
        "expired_at": order.expired_at,
        "closed_at": order.closed_at,
        "last_fetched_at": order.last_fetched_at,
        "last_changed_at": order.last_changed_at,
        "failures_in_a_row": order.failures,
        "last_error_kind": order.last_error_kind,
        "last_error": order.last_error,
        "stored": report.stored,
        "attempts": report.attempts,
        "rejects": { "count": report.reject_count, "latest": report.rejects },
    })
}

fn facts(report: &OrderReport, settings: &Settings) -> String {
    let (order, policy, now) = (&report.order, &settings.queue.policy, report.now);
    let when = |at: chrono::DateTime<chrono::Utc>| format!("{} ({})", time(Some(at)), distance(now, at));
    let mut lines: Vec<(&str, String)> = vec![
        ("order", one_line(&order.order_id)),
        ("state", format!("{}: {}", order.state.as_str(), words::state(order.state))),
        ("coverage", format!("{}: {}", report.coverage.as_str(), words::coverage(report.coverage))),
        ("next", words::next(report, policy, &settings.schedule.ticks).text),
        ("deadline", words::deadline_means(order, policy, now)),
        ("held", held(report)),
        ("held back", words::held_back(order).unwrap_or_else(|| "nothing".to_owned())),
        ("enqueued", {
            let source = order.source.as_deref().map_or_else(|| "an unnamed source".to_owned(), one_line);
            format!("{}, from {source}, priority {}", when(order.enqueued_at), order.priority)
        }),
        ("token", words::token(order, settings.auth_mode)),
    ];
    let ids_internal = order.ids_internal.map(|is| format!("ids_internal = {is}"));
    let retailer = order.retailer_id.as_deref().map(|id| format!("retailer_id = {}", one_line(id)));
    let overrides: Vec<String> = ids_internal.into_iter().chain(retailer).collect();
    if !overrides.is_empty() {
        lines.push(("overrides", overrides.join(", ")));
    }
    let moments = [
        ("completed", order.completed_at),
        ("expired", order.expired_at),
        ("closed", order.closed_at),
        ("last read", order.last_fetched_at),
        ("last change", order.last_changed_at),
    ];
    lines.extend(moments.into_iter().map(|(name, at)| (name, at.map_or_else(|| "–".to_owned(), when))));
    if let Some(kind) = &order.last_error_kind {
        let text = order.last_error.as_deref().map(one_line).unwrap_or_default();
        lines.push(("last error", format!("{}: {text} ({} failures in a row)", one_line(kind), order.failures)));
    }
    let stored = &report.stored;
    lines.push((
        "stored",
        match (stored.first_message_at, stored.last_message_at) {
            _ if stored.messages == 0 => format!("no messages, {} participants", stored.participants),
            (first, last) => format!(
                "{} messages ({} of them no longer shown by the API), from {} to {}, {} participants",
                stored.messages,
                stored.removed,
                time(first),
                time(last),
                stored.participants
            ),
        },
    ));
    table::facts(&lines)
}

fn held(report: &OrderReport) -> String {
    let Some(until) = report.order.leased_until else { return "by no worker".to_owned() };
    if until <= report.now {
        return format!("by no worker: the lease ended at {} and was not renewed", time(Some(until)));
    }
    let workers = report.workers.iter().map(|worker| one_line(worker)).collect::<Vec<_>>().join(" or ");
    let who = if workers.is_empty() { "a worker without a run".to_owned() } else { workers };
    format!("until {} ({}), unless the lease is renewed, by {who}", time(Some(until)), distance(report.now, until))
}

fn attempts(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "no attempt is on record".to_owned();
    }
    let number = |number: Option<i64>| number.map_or_else(|| "–".to_owned(), |number| number.to_string());
    let rows = attempts.iter().map(|attempt| {
        let took = attempt.latency_ms.map(|ms| span(chrono::TimeDelta::milliseconds(ms.into())));
        [
            time(attempt.asked_at),
            attempt.outcome.as_deref().map(one_line).unwrap_or_default(),
            number(attempt.http_status.map(i64::from)),
            took.unwrap_or_default(),
            number(attempt.requests.map(i64::from)),
            attempt.messages_inserted.to_string(),
            attempt.messages_updated.to_string(),
        ]
    });
    let table = table(&["asked", "outcome", "status", "took", "requests", "new messages", "changed"], rows);
    format!("{table}\na later change to a message hides an earlier one")
}

fn rejects(report: &OrderReport) -> String {
    if report.rejects.is_empty() {
        return "nothing in sync.rejects".to_owned();
    }
    let row = |reject: &Reject| {
        [time(Some(reject.received_at)), one_line(&reject.kind), one_line(&reject.json_path), one_line(&reject.reason)]
    };
    let table = table(&["rejected", "kind", "path", "reason"], report.rejects.iter().map(row));
    format!("{table}\n{} in sync.rejects in all, with their bodies", report.reject_count)
}
