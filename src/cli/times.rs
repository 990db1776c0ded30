//! Formats times and time spans for people.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// Formats a time to the second, in UTC; a dash if there is none.
pub(super) fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Formats a time to the minute, in UTC, for narrow columns.
pub(super) fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%MZ").to_string()
}

/// Formats a span in its two largest units: `4h 12m`. Below a second in milliseconds.
pub(super) fn span(delta: TimeDelta) -> String {
    let duration = delta.abs().to_std().unwrap_or_default();
    if duration < Duration::from_secs(1) && !duration.is_zero() {
        return format!("{}ms", duration.as_millis());
    }
    let mut rest = duration.as_secs();
    let mut counts = Vec::new();
    for (seconds, unit) in [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')] {
        // Starts with the largest unit that is not zero. A zero counts as one of the two units but is not shown.
        if rest >= seconds || !counts.is_empty() {
            counts.push((rest / seconds, unit));
        }
        rest %= seconds;
    }
    let text = counts.into_iter().take(2).filter(|(count, _)| *count > 0);
    let text = text.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Formats a span as the configuration does, in one unit: `24h`, `7d`, `90m`.
pub(super) fn setting(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, name, least) in [(86_400_000, "d", 2), (3_600_000, "h", 1), (60_000, "m", 1), (1_000, "s", 1)] {
        if milliseconds.is_multiple_of(unit) && milliseconds / unit >= least {
            return format!("{}{name}", milliseconds / unit);
        }
    }
    format!("{milliseconds}ms")
}

/// Formats the distance to a time: `in 4h 12m`, `3m ago`.
pub(super) fn distance(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let span = span(to - from);
    if to < from { format!("{span} ago") } else { format!("in {span}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shown_in_its_two_largest_units() {
        let day = 86_400;
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (90, "1m 30s"), (21_600, "6h"), (day + 7_260, "1d 2h"), (day + 5, "1d")]
        {
            assert_eq!(span(TimeDelta::seconds(seconds)), text);
            assert_eq!(span(TimeDelta::seconds(-seconds)), text);
        }
        assert_eq!(span(TimeDelta::milliseconds(83)), "83ms");
    }

    #[test]
    fn a_setting_is_shown_as_the_configuration_reads_it() {
        for text in ["250ms", "1500ms", "30s", "90s", "5m", "90m", "6h", "24h", "36h", "7d"] {
            assert_eq!(setting(crate::config::parse_duration(text).expect("a duration")), text);
        }
    }

    #[test]
    fn a_distance_says_which_way() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
        assert_eq!(distance(now, now + TimeDelta::minutes(252)), "in 4h 12m");
        assert_eq!(distance(now, now - TimeDelta::minutes(3)), "3m ago");
    }
}
