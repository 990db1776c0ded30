//! Single values of a feed as databases and spreadsheets export them: read if there is one way to read them.

use chrono::{DateTime, Utc};

/// The text without blanks and invisible characters at its ends: copied ids often carry them.
pub(super) fn clean(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

/// Characters of no width that no font shows: byte order marks, soft hyphens, joiners, marks of direction. Not the
/// variation selectors and tags that belong to an emoji.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
    )
}

/// Whether a field stands for no value: empty, or the null of PostgreSQL's `COPY`, MySQL and others.
pub(super) fn is_absent(text: &str) -> bool {
    text.is_empty() || text == r"\N" || text.eq_ignore_ascii_case("null")
}

/// Reads the truth values of PostgreSQL, MySQL and Excel.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a time with a zone: RFC 3339, or as PostgreSQL (`2026-01-31 18:00:00+00`), BigQuery (`… 18:00:00 UTC`) and
/// Snowflake (`… 18:00:00.000 +0000`) write it. A time without a zone is not one instant.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let is_dated = text.len() > 10
        && text.bytes().take(10).enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !is_dated {
        return None;
    }
    let (date, rest) = text.split_at(10);
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let utc = ["Z", "z", "UTC", "utc", "GMT"].iter().find_map(|zone| clock.strip_suffix(zone));
    let text = match utc {
        Some(clock) => format!("{date} {}+00", clock.trim_end()),
        None => format!("{date} {clock}"),
    };
    let time = DateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f %#z").ok()?;
    Some(time.with_timezone(&Utc))
}

/// Whether Excel may have rounded this id: a number in scientific notation.
pub(super) fn is_scientific(id: &str) -> bool {
    let Some((mantissa, exponent)) = id.split_once(['e', 'E']) else { return false };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) =
        mantissa.split_once(['.', ',']).map_or((mantissa, None), |(whole, rest)| (whole, Some(rest)));
    exponent.strip_prefix('+').is_some_and(is_digits) && is_digits(whole) && fraction.is_none_or(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_a_zone_are_read_and_others_are_not() {
        for text in [
            "2026-01-31T18:00:00Z",
            "2026-01-31t18:00:00z",
            "2026-01-31T10:00:00-08:00",
            "2026-01-31T18:00:00+0000",
            "2026-01-31 18:00:00+00",
            "2026-01-31 23:30:00+05:30",
            "2026-01-31 10:00:00-08",
            "2026-01-31 18:00:00.000000+00",
            "2026-01-31 18:00:00 UTC",
            "2026-01-31 18:00:00.0 UTC",
            "2026-01-31 18:00:00UTC",
            "2026-01-31 18:00:00.000 +0000",
            "2026-01-31 13:00:00.000 -0500",
            "2026-01-31 18:00:00 Z",
        ] {
            assert_eq!(
                time(text).map(|time| time.to_rfc3339()).as_deref(),
                Some("2026-01-31T18:00:00+00:00"),
                "{text}"
            );
        }
        for text in [
            "2026-01-31 18:00:00",
            "2026-01-31",
            "2026-01-31T18:00Z extra",
            "1769882400",
            "01/31/2026 6:00 PM",
            "2026-02-30 18:00:00+00",
            "2026-01-31 18:00:00 CET",
            "2026-01-31 18:00:00+99",
            "2026-01-31 18:00:00 +00:00 UTC",
            "infinity",
            "26-01-31 18:00:00+00",
            "2026-01-3\u{e9}T18:00:00Z",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
        assert_eq!(time("2026-01-31 18:00:00.123456+00").map(|time| time.timestamp_subsec_micros()), Some(123_456));
    }

    #[test]
    fn excel_rounds_ids_into_scientific_notation() {
        for id in ["1.23457E+15", "1,23457E+15", "1E+12", "9e+10"] {
            assert!(is_scientific(id), "{id}");
        }
        for id in ["1.23457E15x", "A1E+15", "1E5", "12345", "E+5", "1.E+5", "1e+"] {
            assert!(!is_scientific(id), "{id}");
        }
    }

    #[test]
    fn emoji_keep_what_belongs_to_them() {
        assert_eq!(clean(" \u{feff}\u{200b}A-1\u{200d}\u{a0}\u{202c}"), "A-1");
        assert_eq!(clean("\u{2764}\u{fe0f}"), "\u{2764}\u{fe0f}");
    }
}
