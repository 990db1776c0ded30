//! Reads single values as databases and spreadsheets export them, if they are unambiguous.

use chrono::{DateTime, Utc};

use crate::visible::is_invisible;

/// Trims blanks and invisible characters, which copied ids often have.
pub(super) fn clean(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c) || matches!(c, '\u{34f}' | '\u{2800}'))
}

/// Removes the line break, and the byte order mark of a concatenated file. Keeps tabs at the ends, which may be
/// separators.
pub(super) fn unbroken(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n']).trim_start_matches('\u{feff}')
}

/// Returns whether a field stands for no value: empty, or the null of a database, pandas or a spreadsheet.
pub(super) fn is_absent(text: &str) -> bool {
    const NULLS: [&str; 9] = ["null", "(null)", "none", "nan", "<na>", "n/a", "#n/a", "nil", "undefined"];
    text.is_empty() || text == r"\N" || NULLS.iter().any(|null| text.eq_ignore_ascii_case(null))
}

/// Returns whether a spreadsheet could not compute the field (`#REF!`) or not display it (`####`).
pub(super) fn is_spreadsheet_error(text: &str) -> bool {
    text.starts_with('#') && (text.ends_with(['!', '?']) || (text.len() > 1 && text.bytes().all(|byte| byte == b'#')))
}

/// Reads the booleans of PostgreSQL, MySQL and Excel.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a time with a zone: RFC 3339, or as PostgreSQL (`2026-01-31 18:00:00+00`), BigQuery (`… 18:00:00 UTC`) and
/// Snowflake (`… 18:00:00.000 +0000`) write it. A time without a zone is ambiguous.
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
    // Java omits seconds that are zero.
    let forms = ["%Y-%m-%d %H:%M:%S%.f %#z", "%Y-%m-%d %H:%M %#z"];
    let time = forms.iter().find_map(|form| DateTime::parse_from_str(&text, form).ok())?;
    Some(time.with_timezone(&Utc))
}

/// Returns whether a spreadsheet or pandas may have rounded this id: a number in scientific notation, or with a
/// fraction of zero.
pub(super) fn is_rounded(id: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = id.strip_prefix('-').unwrap_or(id);
    let (mantissa, exponent) = id.split_once(['e', 'E']).map_or((id, None), |(mantissa, rest)| (mantissa, Some(rest)));
    let (whole, fraction) =
        mantissa.split_once(['.', ',']).map_or((mantissa, None), |(whole, rest)| (whole, Some(rest)));
    if !is_digits(whole) || !fraction.is_none_or(is_digits) {
        return false;
    }
    match (fraction, exponent) {
        (Some(fraction), None) => fraction.bytes().all(|byte| byte == b'0') && mantissa.contains('.'),
        // 12e34 may be an id in hexadecimal.
        (fraction, Some(exponent)) => {
            let power = exponent.strip_prefix('+');
            (fraction.is_some() || power.is_some()) && is_digits(power.unwrap_or(exponent))
        }
        (None, None) => false,
    }
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
            "2026-01-31T18:00Z",
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
    fn rounded_numbers_are_distinguished_from_ids() {
        for id in ["1.23457E+15", "1,23457E+15", "1E+12", "9e+10", "1.23457E15", "-1.2E+15", "1001.0", "7.00"] {
            assert!(is_rounded(id), "{id}");
        }
        for id in ["1.23457E15x", "A1E+15", "1E5", "12e34", "12345", "E+5", "1.E+5", "1e+", "1.5", "1.0.0", "1,0"] {
            assert!(!is_rounded(id), "{id}");
        }
    }

    #[test]
    fn emoji_keep_what_belongs_to_them() {
        assert_eq!(clean(" \u{feff}\u{200b}A-1\u{200d}\u{a0}\u{202c}"), "A-1");
        assert_eq!(clean("\u{2764}\u{fe0f}"), "\u{2764}\u{fe0f}");
    }
}
