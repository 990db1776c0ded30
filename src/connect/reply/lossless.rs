//! Reads values of another JSON type than documented, where only one value can be meant.
//!
//! Each function takes the JSON of one value and returns `None` if it would have to guess.

use chrono::{DateTime, Utc};

use crate::connect::text::{self, Text};

/// A larger number with a fraction or an exponent was once a float: its last digits are not exact.
const LARGEST_EXACT_FLOAT: u64 = 1 << 53;

/// Reads a 64-bit integer: a number, or a string of digits as sent by clients without such integers.
pub(super) fn integer(json: &str) -> Option<i64> {
    if !json.starts_with('"') {
        return json.parse().ok().or_else(|| integral(json));
    }
    let text = text::decode(json)?.text;
    let digits = text.trim_ascii();
    // A string with an exponent may be no number at all: 12e4 is also an id in base 16.
    let is_plain = !digits.contains(['e', 'E']);
    digits.parse().ok().or_else(|| is_plain.then(|| integral(digits)).flatten())
}

/// Reads an integer that has a fraction of zeros or an exponent.
fn integral(number: &str) -> Option<i64> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let places = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let digits: i64 = format!("{whole}{fraction}").parse().ok()?;
    let value = digits.checked_mul(10_i64.checked_pow(u32::try_from(places).ok()?)?)?;
    (value.unsigned_abs() <= LARGEST_EXACT_FLOAT).then_some(value)
}

/// Reads a boolean, also 1 and 0, and the usual words.
pub(super) fn boolean(json: &str) -> Option<bool> {
    match json {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ if json.starts_with('"') => match &*text::decode(json)?.text.trim_ascii().to_ascii_lowercase() {
            "true" | "t" | "yes" | "y" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a text: a string, or a number as it is written.
pub(super) fn words(json: &str) -> Option<Text<'_>> {
    match json.as_bytes() {
        [b'-' | b'0'..=b'9', ..] => Some(Text { text: json.into(), is_altered: false }),
        _ => text::decode(json),
    }
}

/// Reads a time with its zone: RFC 3339, and the variants that other libraries write. Without a zone the moment is
/// unknown, and a bare number has no unit.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let rfc3339 = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc));
    rfc3339(text).or_else(|| rfc3339(&in_full(text.trim_ascii())?))
}

/// Rewrites `2026-01-31 18:00 +00` as `2026-01-31T18:00:00+00:00`. Does not check whether the result is a time.
fn in_full(text: &str) -> Option<String> {
    let (date, rest) = text.split_at_checked("2026-01-31".len())?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, zone) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && !":.,".contains(c))?);
    let seconds = if clock.len() == "18:00".len() { ":00" } else { "" };
    let zone = match zone.trim_ascii_start() {
        zone if ["Z", "UTC", "GMT"].iter().any(|utc| zone.eq_ignore_ascii_case(utc)) => "Z".to_owned(),
        zone if zone.len() == "+00".len() => format!("{zone}:00"),
        zone if zone.len() == "+0000".len() => format!("{}:{}", zone.get(..3)?, zone.get(3..)?),
        zone => zone.to_owned(),
    };
    Some(format!("{date}T{}{seconds}{zone}", clock.replace(',', ".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_where_one_integer_can_be_meant() {
        for (json, expected) in [
            ("9007199254740993", 9_007_199_254_740_993),
            ("-0", 0),
            ("\"9007199254740993\"", 9_007_199_254_740_993),
            ("\"-9223372036854775808\"", i64::MIN),
            ("\" 5 \"", 5),
            ("\"+5\"", 5),
            ("\"007\"", 7),
            (r#""\u0035""#, 5),
            ("5.0", 5),
            ("-5.000", -5),
            ("\"5.0\"", 5),
            ("1.5e1", 15),
            ("5E0", 5),
            ("9007199254740992.0", 9_007_199_254_740_992),
        ] {
            assert_eq!(integer(json), Some(expected), "{json}");
        }
    }

    #[test]
    fn ids_are_not_guessed() {
        for json in [
            "9223372036854775808",
            "\"9223372036854775808\"",
            "9007199254740993.0",
            "1.2e18",
            "5.5",
            "5.00000000000000000000001",
            "1e999999999999",
            "5e-1",
            "\"1e3\"",
            "\"0x10\"",
            "\"1,000\"",
            "\"1_000\"",
            "\"5 6\"",
            "\"٥\"",
            "\"five\"",
            "\"\"",
            "true",
            "null",
            "[5]",
            "{}",
        ] {
            assert_eq!(integer(json), None, "{json}");
        }
    }

    #[test]
    fn booleans_are_read_in_their_usual_spellings() {
        for json in ["true", "1", "\"true\"", "\" TRUE\"", "\"1\"", "\"yes\"", "\"T\""] {
            assert_eq!(boolean(json), Some(true), "{json}");
        }
        for json in ["false", "0", "\"False\"", "\"0\"", "\"no\"", "\"f\""] {
            assert_eq!(boolean(json), Some(false), "{json}");
        }
        for json in ["2", "-1", "0.5", "\"\"", "\"maybe\"", "\"null\"", "[]", "{}", "[true]"] {
            assert_eq!(boolean(json), None, "{json}");
        }
    }

    #[test]
    fn texts_may_be_numbers_and_nothing_else() {
        for (json, expected) in [("5", "5"), ("-1.50", "-1.50"), ("1e400", "1e400"), ("\"5\"", "5")] {
            assert_eq!(words(json).map(|text| text.text.into_owned()).as_deref(), Some(expected), "{json}");
        }
        for json in ["true", "null", "[]", "{}"] {
            assert_eq!(words(json), None, "{json}");
        }
    }

    #[test]
    fn times_are_read_where_one_moment_can_be_meant() {
        let expected = DateTime::from_timestamp(1_769_882_400, 0);
        for text in [
            "2026-01-31T18:00:00Z",
            "2026-01-31t18:00:00z",
            "2026-01-31 18:00:00Z",
            "2026-01-31T18:00:00+0000",
            "2026-01-31T18:00:00+00",
            "2026-01-31 18:00:00+00",
            "2026-01-31 18:00:00 +0000",
            "2026-01-31 18:00:00 UTC",
            "2026-01-31 18:00:00.000 GMT",
            "2026-01-31T18:00:00,000Z",
            "2026-01-31T18:00Z",
            "2026-01-31T13:30:00-0430",
            "2026-01-31T23:00:00 +05:00",
            " 2026-01-31T18:00:00-0000 ",
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_not_guessed() {
        for text in [
            "2026-01-31T18:00:00",
            "2026-01-31 18:00:00",
            "2026-01-31",
            "1769882400",
            "1769882400000",
            "2026-02-30T18:00:00Z",
            "2026-01-31T25:00:00Z",
            "2026-01-31T18:00:00 CET",
            "2026-01-31T18:00:00+9999",
            "12026-01-31T18:00:00Z",
            "31.01.2026 18:00:00 UTC",
            "Sat, 31 Jan 2026 18:00:00 GMT",
            "2026-01-31T18:00:00é",
            "2026-01-3é 18:00:00Z",
            "",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
