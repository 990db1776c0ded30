//! The ticks at which runs are due: a cron expression in a time zone.

use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset as _, SubsecRound as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

const SECOND: TimeDelta = TimeDelta::seconds(1);
const DAY: TimeDelta = TimeDelta::days(1);

/// A cron expression (second, minute, hour, day of month, month, day of week) in an IANA time zone.
///
/// When the clocks change, a fixed time runs once: a skipped one at the first instant after the gap, a repeated one
/// the first time. An expression with `*` or `/` in the hour or minute field names intervals: it runs whenever the
/// clock shows one of its times, so that the intervals keep their length.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    timezone: Tz,
    names_intervals: bool,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    #[error("is not a cron expression of six fields: {0}")]
    Cron(String),
    /// A valid expression that never matches, such as 30 February.
    #[error("never matches any time")]
    Never,
    #[error("is not an IANA time zone, such as America/New_York or UTC")]
    Timezone,
}

impl Schedule {
    /// Makes a schedule from a checked expression and zone.
    #[must_use]
    pub fn new(cron: Cron, timezone: Tz) -> Self {
        let names_intervals = cron.pattern.as_str().split_whitespace().skip(1).take(2).any(|f| f.contains(['*', '/']));
        Self { cron, timezone, names_intervals }
    }

    /// Checks a cron expression of six fields, seconds first.
    pub fn parse_cron(text: &str) -> Result<Cron, InvalidSchedule> {
        let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
        let cron = parser.parse(text).map_err(|error| InvalidSchedule::Cron(error.to_string()))?;
        // Any start date works: the search covers years.
        cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false).map_err(|_| InvalidSchedule::Never)?;
        Ok(cron)
    }

    pub fn parse_timezone(text: &str) -> Result<Tz, InvalidSchedule> {
        Tz::from_str(text).map_err(|_| InvalidSchedule::Timezone)
    }

    /// Returns the first tick after `time`; `None` if there is none within the range of the calendar.
    ///
    /// Croner searches in plain local time, without a zone, because its own rules at a change of the clocks differ
    /// from ours. Between two changes, local and elapsed time advance together.
    #[must_use]
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let time = time.trunc_subsecs(0);
        let mut from = time.checked_add_signed(SECOND)?;
        let mut done = if self.names_intervals { self.local(from) - SECOND } else { self.latest_shown(time) };
        loop {
            let next = self.cron.find_next_occurrence(&done.and_utc(), false).ok()?.naive_utc();
            // Earlier than `from` only if the clock skipped it.
            let tick = (next - self.offset(from)).and_utc().max(from);
            let Some(change) = self.first_change(from, tick) else { return Some(tick) };
            from = change;
            if self.names_intervals {
                done = self.local(from) - SECOND;
            }
        }
    }

    /// Returns the latest local time that the clock has shown up to `time`. After the clock was set back, that is
    /// later than the current one.
    fn latest_shown(&self, time: DateTime<Utc>) -> NaiveDateTime {
        let shown = self.local(time);
        // No clock was ever set back by more than a day.
        match self.first_change(time - DAY, time) {
            Some(change) => shown.max(self.local(change - SECOND)),
            None => shown,
        }
    }

    /// Returns the first instant in `from..=to` with another offset than `from`. No zone changes twice within a day.
    fn first_change(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let offset = self.offset(from);
        let mut before = from;
        while before < to {
            let mut after = (before + DAY).min(to);
            if self.offset(after) == offset {
                before = after;
                continue;
            }
            while after - before > SECOND {
                let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
                *(if self.offset(middle) == offset { &mut before } else { &mut after }) = middle;
            }
            return Some(after);
        }
        None
    }

    fn local(&self, time: DateTime<Utc>) -> NaiveDateTime {
        time.naive_utc() + self.offset(time)
    }

    fn offset(&self, time: DateTime<Utc>) -> FixedOffset {
        self.timezone.offset_from_utc_datetime(&time.naive_utc()).fix()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, NaiveTime};

    use super::*;

    fn schedule(cron: &str, timezone: &str) -> Schedule {
        Schedule::new(Schedule::parse_cron(cron).expect("cron"), Schedule::parse_timezone(timezone).expect("timezone"))
    }

    fn next(schedule: &Schedule, after: &str) -> String {
        let after = DateTime::parse_from_rfc3339(after).expect("a time").with_timezone(&Utc);
        schedule.next_after(after).expect("a tick").to_rfc3339()
    }

    #[test]
    fn a_nightly_tick_stays_at_its_local_hour_when_the_clocks_change() {
        let nightly = schedule("0 30 3 * * *", "America/New_York");
        assert_eq!(next(&nightly, "2026-03-07T12:00:00Z"), "2026-03-08T07:30:00+00:00"); // EDT from that night on
        assert_eq!(next(&nightly, "2026-03-06T12:00:00Z"), "2026-03-07T08:30:00+00:00"); // EST
    }

    #[test]
    fn no_tick_is_lost_in_the_repeated_hour() {
        let half_hourly = schedule("0 */30 * * * *", "America/New_York");
        let mut time = "2026-11-01T04:00:00Z".parse().expect("a time");
        for minutes in (30..=240).step_by(30) {
            time = half_hourly.next_after(time).expect("a tick");
            assert_eq!(
                (time - "2026-11-01T04:00:00Z".parse::<DateTime<Utc>>().expect("a time")).num_minutes(),
                minutes
            );
        }
        let nightly = schedule("0 30 1 * * *", "America/New_York");
        assert_eq!(next(&nightly, "2026-11-01T05:30:00Z"), "2026-11-02T06:30:00+00:00");
    }

    #[test]
    fn a_fixed_time_runs_once_when_the_clocks_change() {
        let nightly = schedule("0 30 2 * * *", "America/New_York");
        assert_eq!(
            next(&nightly, "2026-03-08T06:59:59Z"),
            "2026-03-08T07:00:00+00:00",
            "skipped: immediately after the gap"
        );
        assert_eq!(next(&nightly, "2026-03-08T07:00:00Z"), "2026-03-09T06:30:00+00:00");
        let before_the_gap = schedule("0 30 1 * * *", "America/New_York");
        assert_eq!(next(&before_the_gap, "2026-03-08T06:30:00Z"), "2026-03-09T05:30:00+00:00", "not again at 03:00");
        assert_eq!(next(&before_the_gap, "2026-11-01T05:00:00Z"), "2026-11-01T05:30:00+00:00", "the first 01:30");
        assert_eq!(next(&before_the_gap, "2026-11-01T06:10:00Z"), "2026-11-02T06:30:00+00:00", "not the second");
        // Samoa skipped the 30th of December 2011.
        let no_day = schedule("0 0 12 30 12 *", "Pacific/Apia");
        assert_eq!(next(&no_day, "2011-12-29T00:00:00Z"), "2011-12-30T10:00:00+00:00");
        assert_eq!(next(&no_day, "2011-12-30T10:00:00Z"), "2012-12-29T22:00:00+00:00");
    }

    /// The rule, minute by minute: an interval's tick is any minute that shows a time of the expression. A fixed time
    /// is due at the first minute that shows it or a later one.
    fn by_the_rule(
        cron: &Cron,
        zone: Tz,
        names_intervals: bool,
        from: DateTime<Utc>,
        hours: i64,
    ) -> Vec<DateTime<Utc>> {
        let local = |time: DateTime<Utc>| time.with_timezone(&zone).naive_local();
        let is_named = |time: NaiveDateTime| cron.is_time_matching(&time.and_utc()).expect("a date");
        let minute = TimeDelta::minutes(1);
        let mut shown = (1..=25 * 60).map(|back| local(from - minute * back)).max().expect("minutes");
        let mut ticks = Vec::new();
        for time in (0..hours * 60).map(|minutes| from + TimeDelta::minutes(minutes)) {
            let now = local(time);
            let mut newly_shown = std::iter::successors(Some(shown + minute), |time| Some(*time + minute));
            let is_due = newly_shown.by_ref().take_while(|time| *time <= now).any(is_named);
            if if names_intervals { is_named(now) } else { is_due } {
                ticks.push(time);
            }
            shown = shown.max(now);
        }
        ticks
    }

    #[test]
    fn every_change_of_every_zone_follows_the_rule() {
        let expressions = [
            ("0 30 1 * * *", false),
            ("0 30 2 * * *", false),
            ("0 0 0 * * *", false),
            ("0 15,45 0,2,23 * * *", false),
            ("0 0 12 30 12 *", false),
            ("0 20 * * * *", true),
            ("0 */20 * * * *", true),
            ("0 10 */2 * * *", true),
            ("0 5/30 1-3 * * *", true),
        ];
        let (mut zones, mut seen, mut forward, mut back) = (0, std::collections::HashSet::new(), 0, 0);
        for zone in chrono_tz::TZ_VARIANTS {
            let local = |time: DateTime<Utc>| time.with_timezone(&zone).naive_local();
            let mut changes = 0;
            for year in [2011, 2026] {
                let start = NaiveDate::from_ymd_opt(year, 1, 1).expect("a date").and_time(NaiveTime::MIN).and_utc();
                let six_hours = TimeDelta::hours(6);
                let leap = |time: DateTime<Utc>| local(time) - local(time - six_hours) - six_hours;
                let times = (0..366 * 4).map(|count| start + six_hours * count);
                for change in times.filter(|time| !leap(*time).is_zero()) {
                    changes += 1;
                    *(if leap(change) > TimeDelta::zero() { &mut forward } else { &mut back }) += 1;
                    // Zones with the same change are one case.
                    if !seen.insert((change, local(change), leap(change))) {
                        continue;
                    }
                    let (from, hours) = (change - TimeDelta::hours(10), 36);
                    for (text, names_intervals) in expressions {
                        let schedule = schedule(text, zone.name());
                        let expected = by_the_rule(&schedule.cron, zone, names_intervals, from, hours);
                        // At any time, not only from tick to tick.
                        for minutes in (-1..(hours - 2) * 60).step_by(13) {
                            let time = from + TimeDelta::minutes(minutes) + TimeDelta::milliseconds(500);
                            let next = expected.iter().copied().find(|tick| *tick > time);
                            let end = from + TimeDelta::hours(hours);
                            let found = schedule.next_after(time).filter(|tick| *tick < end);
                            assert_eq!(found, next, "{text} in {zone} after {time}");
                        }
                        let ticks = std::iter::successors(Some(from - SECOND), |tick| schedule.next_after(*tick));
                        let ticks: Vec<_> = ticks.skip(1).take(expected.len()).collect();
                        assert_eq!(ticks, expected, "{text} in {zone} around {change}");
                    }
                }
            }
            zones += usize::from(changes > 0);
        }
        assert!(zones >= 100 && forward >= 100 && back >= 100 && seen.len() >= 100, "{zones} {forward} {back}");
    }

    #[test]
    fn a_tick_is_always_later_than_the_given_time() {
        let every_five_seconds = schedule("*/5 * * * * *", "UTC");
        for after in ["2026-01-01T00:00:05Z", "2026-01-01T00:00:05.7Z", "2026-01-01T00:00:09.999Z"] {
            assert_eq!(next(&every_five_seconds, after), "2026-01-01T00:00:10+00:00");
        }
    }

    #[test]
    fn an_invalid_schedule_is_refused() {
        assert!(matches!(Schedule::parse_cron("* * * * *"), Err(InvalidSchedule::Cron(_))));
        assert!(matches!(Schedule::parse_cron("61 * * * * *"), Err(InvalidSchedule::Cron(_))));
        assert!(Schedule::parse_cron("0 0 0 30 2 *").is_err());
        assert_eq!(Schedule::parse_timezone("Mars/Olympus"), Err(InvalidSchedule::Timezone));
    }
}
