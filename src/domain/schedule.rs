//! When runs are due: a cron expression in a time zone.

use std::str::FromStr;

use chrono::{DateTime, SubsecRound, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

/// A cron expression (second, minute, hour, day of month, month, day of week) read in an IANA time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    timezone: Tz,
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// The cron expression.
    #[error("is not a cron expression of six fields: {0}")]
    Cron(String),
    /// A correct expression that never comes true, such as 30 February.
    #[error("never comes true")]
    Never,
    /// The time zone.
    #[error("is not an IANA time zone")]
    Timezone,
}

impl Schedule {
    /// A schedule of parts that were checked before.
    #[must_use]
    pub fn new(cron: Cron, timezone: Tz) -> Self {
        Self { cron, timezone }
    }

    /// Checks a cron expression; six fields, seconds first.
    pub fn parse_cron(text: &str) -> Result<Cron, InvalidSchedule> {
        let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
        let cron = parser.parse(text).map_err(|error| InvalidSchedule::Cron(error.to_string()))?;
        // Any date will do: the search covers years.
        cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false).map_err(|_| InvalidSchedule::Never)?;
        Ok(cron)
    }

    /// Checks the name of a time zone.
    pub fn parse_timezone(text: &str) -> Result<Tz, InvalidSchedule> {
        Tz::from_str(text).map_err(|_| InvalidSchedule::Timezone)
    }

    /// The first tick after `time`; `None` if there is none within the range of the calendar.
    #[must_use]
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Ticks fall on whole seconds; the search keeps the fraction that it starts from.
        let local = time.trunc_subsecs(0).with_timezone(&self.timezone);
        let by_zone = self.cron.find_next_occurrence(&local, false).ok()?.with_timezone(&Utc);
        // When the clocks go back, that search leaps over the hour that comes twice, or back into it. Going on at the
        // offset of the moment finds the ticks in it, if they are ticks by the zone too.
        let by_offset = self.cron.find_next_occurrence(&local.fixed_offset(), false).ok()?.with_timezone(&Utc);
        let is_tick = self.cron.is_time_matching(&by_offset.with_timezone(&self.timezone)).unwrap_or(false);
        [Some(by_zone), Some(by_offset).filter(|_| is_tick)].into_iter().flatten().filter(|tick| *tick > time).min()
    }
}

#[cfg(test)]
mod tests {
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
    fn no_tick_is_lost_in_the_hour_that_comes_twice() {
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
    fn a_tick_is_always_later_than_the_time_asked_for() {
        let every_five_seconds = schedule("*/5 * * * * *", "UTC");
        for after in ["2026-01-01T00:00:05Z", "2026-01-01T00:00:05.7Z", "2026-01-01T00:00:09.999Z"] {
            assert_eq!(next(&every_five_seconds, after), "2026-01-01T00:00:10+00:00");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        assert!(matches!(Schedule::parse_cron("* * * * *"), Err(InvalidSchedule::Cron(_))));
        assert!(matches!(Schedule::parse_cron("61 * * * * *"), Err(InvalidSchedule::Cron(_))));
        assert!(Schedule::parse_cron("0 0 0 30 2 *").is_err());
        assert_eq!(Schedule::parse_timezone("Mars/Olympus"), Err(InvalidSchedule::Timezone));
    }
}
