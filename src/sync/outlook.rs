//! What is coming: a run, foreseen. The database counts, this turns counts into requests, and requests into time at the
//! pace that the API was last found to tolerate.
//!
//! `chatsync plan` foresees the run that would start now. Every run, at its end, and `chatsync status` foresee the next
//! one: which orders are [`at_risk`](Outlook::at_risk) or [`overdue`](Outlook::overdue).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use super::PROBES;
use crate::config::{self, AuthMode, Settings};
use crate::db;
use crate::db::forecast::{Forecast, Late, Next, Totals};
use crate::db::pace::KnownPace;
use crate::db::runs::{self, Trigger, Turn};
use crate::domain::Schedule;

/// Longest time foretold, in seconds: a century. The calendar ends somewhere.
const LONGEST: f64 = 3e9;

/// An outlook that takes longer is not worth it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Without a schedule, the usual time between runs is taken from so many of them.
const LATEST_RUNS: i64 = 10;

/// Orders in danger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Live orders whose deadline is still to come, but before the next run would reach them.
    pub at_risk: u64,
    /// Live orders whose deadline has passed, unread or unproven.
    pub overdue: u64,
}

/// A run, foreseen.
#[derive(Debug)]
pub struct Foreseen {
    /// What it meets.
    pub totals: Totals,
    /// What it asks.
    pub requests: Requests,
    /// How fast.
    pub pace: Pace,
    /// How long it takes.
    pub takes: TimeDelta,
    /// The deadlines that pass before it reaches their orders.
    pub missed: Late,
}

/// Requests that a run takes if all goes well.
#[derive(Debug, Clone, Copy)]
pub struct Requests {
    /// For conversations.
    pub messages: u64,
    /// For access tokens.
    pub tokens: u64,
    /// At most, in case that what is held back is answered as before.
    pub probes: u64,
}

/// The request rate to reckon with.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// All workers together.
    pub requests_per_second: f64,
    /// Since when it is known; `None`: it is a guess.
    pub found_at: Option<DateTime<Utc>>,
    /// Whether the configuration allows less than what was found.
    pub is_capped: bool,
}

/// What of the configuration it takes to foresee a run.
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
    /// As configured.
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

    /// The run that `forecast` is about.
    pub async fn foresee(&self, forecast: &mut Forecast) -> Result<Foreseen, db::Error> {
        let totals = forecast.totals().await?;
        let requests = Requests::of(&totals, self.auth_mode);
        let pace = Pace::of(forecast.pace(&self.api, self.pace.initial_requests_per_second).await?, &self.pace);
        let takes = pace.time_for(requests.total());
        let missed = match totals.nearest_deadline {
            // Token requests come in between: every order bears its share of them.
            Some(nearest) if nearest < forecast.start() + takes => {
                forecast.missed(takes.as_seconds_f64() / as_float(totals.due())).await?
            }
            _ => Late::default(),
        };
        Ok(Foreseen { totals, requests, pace, takes, missed })
    }

    /// The orders in danger, if the next run comes as it should after one of this kind. As a rule this takes
    /// milliseconds; if a deadline is near, a pass over the live orders. Fails rather than to take longer than 10 s.
    pub async fn outlook(&self, pool: &PgPool, after: Trigger) -> Result<Outlook, db::Error> {
        let looking = async {
            let next = self.next_run(pool, after).await?;
            let mut forecast = Forecast::of_next(pool, self.window, next, TIMEOUT).await?;
            let pace = Pace::of(forecast.pace(&self.api, self.pace.initial_requests_per_second).await?, &self.pace);
            // A token for each at most.
            let requests = forecast.due().await? * if self.auth_mode == AuthMode::UserAssertion { 2 } else { 1 };
            let due_again = Utc::now() + TimeDelta::from_std(self.refresh_after).unwrap_or(TimeDelta::MAX);
            let near = forecast.near(next.start + pace.time_for(requests), due_again).await?;
            let missed = if near.perhaps > 0 { self.foresee(&mut forecast).await?.missed } else { Late::default() };
            forecast.end().await?;
            Ok(Outlook { at_risk: (missed.orders - missed.past) + near.later, overdue: near.overdue })
        };
        tokio::time::timeout(TIMEOUT, looking).await.unwrap_or(Err(db::Error::Stuck { timeout: TIMEOUT, holder: None }))
    }

    /// After a run of the daemon the next one starts at the next tick. After a manual one it is
    /// expected once the median gap between the latest runs has passed; without a gap it is reckoned to start now.
    async fn next_run(&self, pool: &PgPool, after: Trigger) -> Result<Next, db::Error> {
        let now = Utc::now();
        if after != Trigger::Manual {
            let start = self.schedule.next_after(now).unwrap_or(now);
            return Ok(Next { start, then: self.schedule.next_after(start) });
        }
        let turns = runs::turns(&mut *db::snapshot(pool).await?, LATEST_RUNS).await?;
        // Of a time far beyond any run, set by hand, nothing follows.
        let next = turns.first().zip(usual_gap(&turns)).and_then(|(latest, gap)| {
            let start = latest.started_at.checked_add_signed(gap)?.max(now);
            Some(Next { start, then: Some(start.checked_add_signed(gap)?) })
        });
        Ok(next.unwrap_or(Next { start: now, then: None }))
    }
}

/// The median time from the start of one run to that of the next. Of runs at the same time only the first is a turn: the
/// others are those of more workers.
fn usual_gap(latest_first: &[Turn]) -> Option<TimeDelta> {
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

    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.messages + self.tokens + self.probes
    }
}

impl Pace {
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

    fn turns(minutes: &[(i64, i64)]) -> Vec<Turn> {
        let at = |minutes| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        minutes.iter().rev().map(|(start, end)| Turn { started_at: at(*start), ended_at: at(*end) }).collect()
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
