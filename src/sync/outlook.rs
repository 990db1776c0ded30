//! Predicts runs. The database counts orders; this module converts counts to requests, and requests to time at the pace
//! that the API was last found to tolerate.
//!
//! `chatsync plan` predicts the run that would start now. Every run at its end, and `chatsync status`, predict the next
//! run: which orders are [`at_risk`](Outlook::at_risk) or [`overdue`](Outlook::overdue).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::PROBES;
use crate::config::{self, AuthMode, Settings};
use crate::db::pace::KnownPace;
use crate::db::report::plan::{MissedDeadlines, NextRun, PlanSnapshot, Totals};
use crate::db::runs::{self, RunSpan, Trigger};
use crate::db::{self, Store};
use crate::domain::Schedule;

/// Longest predicted time in seconds: a century, because the calendar ends.
const LONGEST: f64 = 3e9;

/// An outlook that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Without a schedule, the usual gap between runs is taken from this many of them.
const LATEST_RUNS: i64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Live orders whose deadline comes before the next run reaches them.
    pub at_risk: u64,
    /// Live orders whose deadline has passed, unread or unproven.
    pub overdue: u64,
}

/// The prediction of a run.
#[derive(Debug)]
pub struct Foreseen {
    pub totals: Totals,
    pub requests: Requests,
    pub pace: ExpectedPace,
    pub takes: TimeDelta,
    /// The deadlines that pass before the run reaches their orders.
    pub missed: MissedDeadlines,
}

/// Requests of a run if all goes well.
#[derive(Debug, Clone, Copy)]
pub struct Requests {
    pub messages: u64,
    pub tokens: u64,
    /// At most, if the held results are repeated.
    pub probes: u64,
}

/// The request rate to expect.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedPace {
    /// Of all workers together.
    pub requests_per_second: f64,
    /// When it was found; `None` if it is a guess.
    pub found_at: Option<DateTime<Utc>>,
    /// Whether the configuration allows less than was found.
    pub is_capped: bool,
}

/// The settings that predict a run.
#[derive(Debug, Clone)]
pub struct Foresight {
    window: Duration,
    refresh_after: Duration,
    auth_mode: AuthMode,
    api: String,
    pace: config::PaceSettings,
    schedule: Schedule,
}

impl Foresight {
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            window: settings.queue.policy.readable_window,
            refresh_after: settings.queue.policy.refresh_after,
            auth_mode: settings.auth_mode,
            api: settings.api.base_url.to_string(),
            pace: settings.pace.clone(),
            schedule: settings.schedule.ticks.clone(),
        }
    }

    /// Predicts the run of this plan.
    pub async fn foresee(&self, forecast: &mut PlanSnapshot) -> Result<Foreseen, db::Error> {
        let totals = forecast.totals().await?;
        let requests = Requests::of(&totals, self.auth_mode);
        let pace = ExpectedPace::of(forecast.pace(&self.api, self.pace.initial_requests_per_second).await?, &self.pace);
        let takes = pace.time_for(requests.total());
        let missed = match totals.nearest_deadline {
            // Token requests happen in between, so every order bears its share of them.
            Some(nearest) if nearest < forecast.start() + takes => {
                forecast.missed(takes.as_seconds_f64() / as_float(totals.due())).await?
            }
            _ => MissedDeadlines::default(),
        };
        Ok(Foreseen { totals, requests, pace, takes, missed })
    }

    /// Counts the orders in danger if the next run comes as expected after one of this kind. Usually takes
    /// milliseconds; if a deadline is near, reads the live orders once. Fails after 10 s, and at once if the database is
    /// away.
    pub async fn outlook(&self, store: &Store, after: Trigger) -> Result<Outlook, db::Error> {
        let look = |mut snapshot: db::Transaction| async move {
            let next = self.next_run(&mut snapshot, after).await?;
            let mut forecast = PlanSnapshot::of_next(snapshot, self.window, next);
            let pace =
                ExpectedPace::of(forecast.pace(&self.api, self.pace.initial_requests_per_second).await?, &self.pace);
            // At most one token per order.
            let requests = forecast.due().await? * if self.auth_mode == AuthMode::UserAssertion { 2 } else { 1 };
            let due_again = Utc::now() + TimeDelta::from_std(self.refresh_after).unwrap_or(TimeDelta::MAX);
            let near = forecast.near(next.start + pace.time_for(requests), due_again).await?;
            let missed =
                if near.perhaps > 0 { self.foresee(&mut forecast).await?.missed } else { MissedDeadlines::default() };
            Ok(Outlook { at_risk: (missed.orders - missed.past) + near.later, overdue: near.overdue })
        };
        store.beside(TIMEOUT, CancellationToken::new()).read("plan_near", look).await
    }

    /// After a run of the daemon the next one starts at the next tick. After a manual run it is expected after the
    /// median gap between the latest runs; without a gap, now.
    async fn next_run(&self, connection: &mut db::Transaction, after: Trigger) -> Result<NextRun, db::Error> {
        let now = Utc::now();
        if after != Trigger::Manual {
            let start = self.schedule.next_after(now).unwrap_or(now);
            return Ok(NextRun { start, then: self.schedule.next_after(start) });
        }
        let turns = runs::spans(connection, LATEST_RUNS).await?;
        // A start time set by hand may be far outside the calendar; then there is no prediction.
        let next = turns.first().zip(usual_gap(&turns)).and_then(|(latest, gap)| {
            let start = latest.started_at.checked_add_signed(gap)?.max(now);
            Some(NextRun { start, then: Some(start.checked_add_signed(gap)?) })
        });
        Ok(next.unwrap_or(NextRun { start: now, then: None }))
    }
}

/// Returns the median time between the starts of runs. Of simultaneous runs only the first counts: the others belong to
/// other workers.
fn usual_gap(latest_first: &[RunSpan]) -> Option<TimeDelta> {
    let mut starts: Vec<DateTime<Utc>> = Vec::new();
    let mut busy_until = DateTime::<Utc>::MIN_UTC;
    for turn in latest_first.iter().rev() {
        if turn.started_at >= busy_until {
            starts.push(turn.started_at);
        }
        busy_until = busy_until.max(turn.ended_at);
    }
    let mut gaps: Vec<TimeDelta> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied()
}

impl Requests {
    fn of(totals: &Totals, mode: AuthMode) -> Self {
        let due = totals.due();
        let probes = if totals.held_back > 0 { PROBES.into() } else { 0 };
        match mode {
            // Without a user there is no token, and without a token no request.
            AuthMode::UserAssertion => Self { messages: due - totals.without_user, tokens: totals.users, probes },
            AuthMode::ClientCredentials => Self { messages: due, tokens: due.min(1), probes },
            AuthMode::StaticToken => Self { messages: due, tokens: 0, probes },
        }
    }

    #[must_use]
    pub fn total(self) -> u64 {
        self.messages + self.tokens + self.probes
    }
}

impl ExpectedPace {
    fn of(known: Option<KnownPace>, settings: &config::PaceSettings) -> Self {
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
}

#[expect(clippy::cast_precision_loss, reason = "a count of orders, for an estimate")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(minutes: &[(i64, i64)]) -> Vec<RunSpan> {
        let at = |minutes| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        minutes.iter().rev().map(|(start, end)| RunSpan { started_at: at(*start), ended_at: at(*end) }).collect()
    }

    #[test]
    fn the_usual_gap_is_the_median_and_unknown_before_the_second_run() {
        assert_eq!(usual_gap(&turns(&[])), None);
        assert_eq!(usual_gap(&turns(&[(0, 1)])), None);
        assert_eq!(usual_gap(&turns(&[(0, 1), (60, 61)])), Some(TimeDelta::minutes(60)));
        // One by hand in between, and a day without any.
        let habit = turns(&[(0, 1), (60, 61), (65, 66), (120, 121), (1_560, 1_561), (1_620, 1_621)]);
        assert_eq!(usual_gap(&habit), Some(TimeDelta::minutes(60)));
    }

    #[test]
    fn several_workers_at_once_are_one_turn() {
        let habit = turns(&[(0, 5), (0, 4), (1, 5), (60, 65), (60, 64), (120, 125), (121, 122)]);
        assert_eq!(usual_gap(&habit), Some(TimeDelta::minutes(60)));
    }
}
