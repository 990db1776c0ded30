//! `chatsync plan`: what a run would do now, and which deadlines it would miss.
//!
//! Only looks; needs no credentials. The database counts, this turns counts into requests, and requests into time at
//! the pace that the API was last found to tolerate.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::database::{Database, Migrations};
use super::output::print;
use super::table::{facts, one_line, table};
use super::times::{span, time};
use super::{End, Environment};
use crate::config::{self, AuthMode, Needs};
use crate::db::forecast::{Forecast, Late, Missed, Totals};
use crate::db::pace::KnownPace;

/// Longest time foretold, in seconds: a century. The calendar ends somewhere.
const LONGEST: f64 = 3e9;

/// Tell what a run would do now: orders, requests, time, deadlines missed.
///
/// Assumes a run that has the API to itself and in which no request is repeated. Changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of a run of at most this many orders
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A run, foreseen.
struct Plan {
    totals: Totals,
    requests: Requests,
    pace: Pace,
    takes: TimeDelta,
    missed: Late,
    missed_later: Vec<Missed>,
    next_tick: Option<DateTime<Utc>>,
}

/// Requests that a run takes if all goes well.
#[derive(Clone, Copy)]
struct Requests {
    messages: u64,
    tokens: u64,
}

/// The request rate to reckon with.
struct Pace {
    requests_per_second: f64,
    /// Since when it is known; `None`: it is a guess.
    found_at: Option<DateTime<Utc>>,
    is_capped: bool,
}

pub(super) async fn plan(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let database = Database::open(environment, &settings.database, Migrations::Never).await?;
    let next_tick = settings.schedule.schedule.next_after(Utc::now());
    let window = settings.queue.policy.readable_window;
    let mut forecast = Forecast::begin(&database.pool, window, next_tick, args.limit).await?;
    let totals = forecast.totals().await?;
    let requests = Requests::of(&totals, settings.auth_mode);
    let known = forecast.pace(settings.api.base_url.as_str(), settings.pace.initial_requests_per_second).await?;
    let pace = Pace::of(known, &settings.pace);
    let takes = pace.time_for(requests.total());
    let missed = match totals.nearest_deadline {
        // Token requests come in between: every order bears its share of them.
        Some(nearest) if nearest < totals.now + takes => {
            forecast.missed(takes.as_seconds_f64() / as_float(totals.due())).await?
        }
        _ => Late::default(),
    };
    let missed_later = if totals.later_missed > 0 { forecast.missed_later().await? } else { Vec::new() };
    forecast.end().await?;
    database.close().await?;
    let plan = Plan { totals, requests, pace, takes, missed, missed_later, next_tick };
    if args.json {
        print(serde_json::to_string(&plan.as_json()).context("cannot print the plan")?)?;
    } else {
        print(plan.text())?;
    }
    Ok(End::Good)
}

impl Requests {
    fn of(totals: &Totals, mode: AuthMode) -> Self {
        let due = totals.due();
        match mode {
            // Without a user there is no token, and without a token no request.
            AuthMode::UserAssertion => Self { messages: due - totals.without_user, tokens: totals.users },
            AuthMode::ClientCredentials => Self { messages: due, tokens: due.min(1) },
            AuthMode::StaticToken => Self { messages: due, tokens: 0 },
        }
    }

    fn total(self) -> u64 {
        self.messages + self.tokens
    }
}

impl Pace {
    fn of(known: Option<KnownPace>, settings: &config::Pace) -> Self {
        let (rate, found_at) = match known {
            Some(known) => (known.requests_per_second, Some(known.found_at)),
            None => (settings.initial_requests_per_second, None),
        };
        let ceiling = settings.max_requests_per_second.unwrap_or(f64::INFINITY);
        Self { requests_per_second: rate.min(ceiling), found_at, is_capped: ceiling < rate }
    }

    fn time_for(&self, requests: u64) -> TimeDelta {
        let seconds = (as_float(requests) / self.requests_per_second).min(LONGEST);
        TimeDelta::from_std(Duration::from_secs_f64(seconds)).unwrap_or(TimeDelta::MAX)
    }

    /// Where it comes from.
    fn origin(&self) -> String {
        let origin = match self.found_at {
            Some(found) => format!("found at {}", time(Some(found))),
            None => "a guess (pace.initial_requests_per_second): none was found yet".to_owned(),
        };
        if self.is_capped { format!("as pace.max_requests_per_second allows; without it, {origin}") } else { origin }
    }
}

impl Plan {
    fn as_json(&self) -> Value {
        let totals = &self.totals;
        json!({
            "at": totals.now,
            "due": {
                "orders": totals.due(), "pending": totals.pending, "open": totals.open, "held": totals.held,
                "without_user": totals.without_user, "left_by_limit": totals.left_due,
            },
            "requests": {
                "total": self.requests.total(), "messages": self.requests.messages, "tokens": self.requests.tokens,
            },
            "pace": {
                "requests_per_second": self.pace.requests_per_second, "is_guess": self.pace.found_at.is_none(),
                "found_at": self.pace.found_at, "is_capped": self.pace.is_capped,
            },
            "takes_seconds": self.takes.as_seconds_f64(),
            "ends_at": totals.now + self.takes,
            "missed": { "orders": self.missed.orders, "already_past": totals.past, "first": list(&self.missed.first) },
            "next_tick": self.next_tick,
            "missed_outside": {
                "orders": totals.later_missed, "already_past": totals.later_past, "first": list(&self.missed_later),
            },
        })
    }

    fn text(&self) -> String {
        let (totals, requests) = (&self.totals, self.requests);
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
            (
                "requests",
                format!("{} ({} for messages, {} for tokens)", requests.total(), requests.messages, requests.tokens),
            ),
            ("pace", format!("{:.1} requests/s, {}", self.pace.requests_per_second, self.pace.origin())),
            ("takes", format!("{}, until {}", span(self.takes), time(Some(totals.now + self.takes)))),
            ("next tick", time(self.next_tick)),
        ]);
        format!(
            "{}\n\n{}\n\n{}",
            facts(&lines),
            told("the run", self.missed.orders, totals.past, &self.missed.first),
            told("orders outside the run", totals.later_missed, totals.later_past, &self.missed_later),
        )
    }
}

/// The deadlines that would be missed, for people.
fn told(who: &str, orders: u64, past: u64, first: &[Missed]) -> String {
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

#[expect(clippy::cast_precision_loss, reason = "a count of orders, for an estimate")]
fn as_float(count: u64) -> f64 {
    count as f64
}
