//! Tells order ids from other lines: frames, totals, messages, dates.

use super::column::Column;
use super::values::is_absent;

/// What the plain ids of a feed have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    /// Their length, if an id without a digit must have it too.
    length: Option<usize>,
}

impl Shape {
    /// Learns from the first lines. Among random ids some have no digit by chance; among others a line without one is a
    /// word: `Killed`, `Done`.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let (mut length, mut all, mut words) = (None, 0_usize, 0_usize);
        for line in lines.filter(|line| is_id(line)) {
            all += 1;
            if has_digit(line) {
                length.get_or_insert_with(|| line.chars().count());
            } else {
                words += 1;
            }
        }
        Self { length: length.filter(|_| words <= 2.max(all / 50)) }
    }

    /// Returns whether a line is a single id.
    pub(super) fn fits(self, line: &str) -> bool {
        is_id(line) && self.length.is_none_or(|length| has_digit(line) || line.chars().count() == length)
    }
}

pub(super) fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Returns whether a line can be nothing but an id: one word, and nothing that has another meaning. An id that is
/// rejected by mistake is reported, and `--format plain` accepts it; a line that is accepted by mistake is not noticed.
pub(super) fn is_id(text: &str) -> bool {
    let is_foreign = |c: char| {
        c.is_whitespace()
            || is_quote(c)
            || matches!(c, '\u{2016}'..='\u{2027}' | '\u{2030}'..='\u{205e}')
            || matches!(c, ',' | ';' | '|' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '\\')
    };
    !text.contains(is_foreign)
        // A path, a comment, a changed line of a diff, an end of a line made visible.
        && !text.starts_with(['/', '.', '#', '+', '-'])
        && !text.ends_with(['^', '.'])
        // Only base64 ends with it; a place of grep, an address and an amount have the others.
        && !text.trim_end_matches('=').contains(['=', ':', '@', '$'])
        && !is_grouped(text)
        && !is_absent(text)
        && !is_setting(text)
        && Column::of_name(text).is_none()
        && !is_other(text)
}

/// Returns whether a text that should be an id is something else: a row of another kind of file, a frame, a message.
pub(super) fn is_other(text: &str) -> bool {
    text.starts_with(is_quote)
        || text.starts_with(['{', '[', '<'])
        || text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("sep="))
        || !text.contains(is_of_a_word)
        || ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
        || is_date(text)
        || is_address(text)
        || is_frame(text)
        || is_footer(text)
        || is_total(text)
        || is_prose(text)
}

/// Returns whether a text is a number with separators for thousands: `1.001.234`.
fn is_grouped(text: &str) -> bool {
    let mut groups = text.split('.');
    let first = groups.next().unwrap_or_default();
    let are_digits = |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    let rest: Vec<&str> = groups.collect();
    rest.len() > 1
        && first.len() <= 3
        && are_digits(first)
        && rest.iter().all(|group| group.len() == 3 && are_digits(group))
}

/// Returns whether a text is an address of mail: personal data, and no id.
fn is_address(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains(['@', ' ']))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '\u{ab}' | '\u{bb}' | '\u{2018}'..='\u{201f}')
}

/// Returns whether a character belongs to words: no punctuation.
fn is_of_a_word(c: char) -> bool {
    !c.is_ascii_punctuation() && !c.is_whitespace() && !matches!(c, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}')
}

/// Returns whether a text is a date or a time of the day: `2026-01-31`, `2026-01-31T18:00:00Z`, `1/31/2026`, `18:00`.
fn is_date(text: &str) -> bool {
    // Most ids end here.
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.contains([':', '-', '/', '.']) {
        return false;
    }
    let is_rest = |c: char| {
        c.is_ascii_digit() || matches!(c, ':' | '.' | '+' | '-' | 'T' | 'Z' | 'U' | 'C' | ' ' | 'A' | 'P' | 'M')
    };
    let (date, clock) = text.find(['T', ' ']).map_or((text, ""), |place| text.split_at(place));
    let parts: Vec<Option<u32>> = date.split(['-', '/', '.']).map(|part| part.parse().ok()).collect();
    let is_day = |one, other| (1..=31).contains(&one) && (1..=12).contains(&other);
    let is_year = |year| (1970..=2100).contains(&year);
    match parts[..] {
        [Some(year), Some(month), Some(day)] if is_year(year) => is_day(day, month) && clock.chars().all(is_rest),
        [Some(day), Some(month), Some(year)] if is_year(year) => {
            (is_day(day, month) || is_day(month, day)) && clock.chars().all(is_rest)
        }
        _ => is_time_of_day(text),
    }
}

fn is_time_of_day(text: &str) -> bool {
    let text = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts[..], [hour, minute] | [hour, minute, _] if hour.len() <= 2
        && minute.len() == 2
        && hour.parse().is_ok_and(|hour: u32| hour < 24)
        && minute.parse().is_ok_and(|minute: u32| minute < 60)
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')))
}

/// Returns whether a text begins like a message: `ERROR: …`, `bash: …`.
fn is_message(text: &str) -> bool {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    !rest.is_empty() && (first.ends_with(':') || matches!(first, "ERROR" | "Error" | "error" | "(error)"))
}

/// Returns whether a text is a sentence, a log line, or an item of a list. Ids have three words at most.
pub(super) fn is_prose(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).take(4).collect();
    let first = words.first().copied().unwrap_or_default();
    let is_item = matches!(first, "-" | "*" | "#" | "\u{2022}")
        || first.strip_suffix(['.', ')']).is_some_and(|count| count.bytes().all(|byte| byte.is_ascii_digit()));
    words.len() > 3 || (words.len() > 1 && (is_item || text.ends_with('.'))) || text.ends_with(':') || is_message(text)
}

/// Returns whether a text sets a variable: `DATABASE_URL=…`.
pub(super) fn is_setting(text: &str) -> bool {
    let Some((name, _)) = text.strip_prefix("export ").unwrap_or(text).split_once('=') else { return false };
    name.len() > 2 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Returns whether a line belongs to a table's frame: dashes, crosses, bars.
pub(super) fn is_frame(line: &str) -> bool {
    let is_drawn = |c: char| matches!(c, '-' | '+' | '|' | '=' | ' ' | ':' | '\u{2500}'..='\u{257f}');
    let dashes = line.chars().filter(|c| matches!(c, '-' | '=' | '\u{2500}' | '\u{2550}')).count();
    (dashes >= 2 && line.chars().all(is_drawn))
        || line.starts_with(|c: char| ('\u{2500}'..='\u{257f}').contains(&c))
        || line.starts_with("-[ RECORD ")
        || (line.starts_with('|') && line.ends_with('|') && line.len() > 1)
        || (line.starts_with("****") && line.ends_with("****"))
}

const LAST_LINES: [&str; 11] = [
    "total",
    "totals",
    "grand total",
    "subtotal",
    "sub total",
    "sum",
    "count",
    "eof",
    "end",
    "end of file",
    "end of report",
];
const COUNTED: [&str; 11] =
    ["records", "record", "orders", "order", "items", "item", "lines", "line", "entries", "results", "total"];

/// Returns whether a line is the last one of a report or a list: `Grand Total`, `Total: 2`, `2 records`, `EOF`, `-- end --`.
fn is_total(line: &str) -> bool {
    if line.len() > 4 && line.starts_with("--") && line.ends_with("--") {
        return true;
    }
    // Most ids are longer, and need no copy.
    if line.len() > 24 {
        return false;
    }
    let line = line.to_lowercase();
    let is_filler = |c: char| c.is_ascii_digit() || c.is_ascii_whitespace() || matches!(c, ':' | '=' | '.');
    let words = line.trim_end_matches(is_filler);
    // `END42` may be an id.
    let is_alone = !line[words.len()..].starts_with(|c: char| c.is_ascii_digit());
    let (count, what) = line.split_once(' ').unwrap_or((&line, ""));
    (is_alone && LAST_LINES.contains(&words))
        || (COUNTED.contains(&what.trim_start()) && count.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns whether a line is what psql and others write below the rows, in any language: `(2 rows)`, `(2 Zeilen)`,
/// `Time: 3 ms`, `\\.`.
pub(super) fn is_footer(line: &str) -> bool {
    let is_count = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let in_brackets = line.strip_prefix(['(', '[']).and_then(|rest| rest.strip_suffix([')', ']']));
    if let Some((count, word)) = in_brackets.and_then(|text| text.split_once(' ')) {
        return is_count(count) && word.chars().all(|c| c.is_alphanumeric() || c == ' ');
    }
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    let is_tag = matches!(first, "COPY" | "SELECT" | "Time:" | "Elapsed:" | "Fetched") || line.starts_with("Empty set");
    line == r"\." || (is_tag && !rest.is_empty()) || (is_count(first) && rest.to_lowercase().starts_with("row"))
}

/// Returns whether a text looks like a name of a column of ids, such as "Order number" or "externalId".
pub(super) fn is_word(text: &str) -> bool {
    const LAST_WORDS: [&str; 14] =
        ["id", "ids", "order", "orders", "number", "numbers", "no", "no.", "nr", "uuid", "guid", "key", "code", "ref"];
    if is_invented(text) {
        return true;
    }
    if text.contains(|c: char| !c.is_ascii_alphabetic() && !matches!(c, '_' | '-' | ' ' | '.' | '#')) {
        return false;
    }
    let camel = text.char_indices().skip(1).filter(|(place, c)| {
        c.is_ascii_uppercase() && text[..*place].ends_with(|before: char| before.is_ascii_lowercase())
    });
    let start =
        camel.map(|(place, _)| place).chain(text.rmatch_indices(['_', '-', ' ']).map(|(place, _)| place + 1)).max();
    let last = text[start.unwrap_or(0)..].to_ascii_lowercase();
    LAST_WORDS.contains(&last.as_str())
}

/// Returns whether a text is a name that a tool gives to a column without one: `f0_`, `_col0`, `EXPR$0`, `Column1`,
/// `Unnamed: 0`, `?column?`.
fn is_invented(text: &str) -> bool {
    const STEMS: [&str; 9] = ["f", "_col", "_c", "col", "column", "expr$", "field", "unnamed:", "?column?"];
    let text = text.to_ascii_lowercase();
    let stem = text.trim_end_matches('_').trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
    // F12 may be an id.
    let is_numbered = text.ends_with('_') || (stem != "f" && text.ends_with(|c: char| c.is_ascii_digit()));
    STEMS.contains(&stem) && (is_numbered || stem == "?column?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_are_known_by_their_last_word() {
        for name in ["id", "ID", "Order number", "externalId", "order_uuid", "Order No.", "orders"] {
            assert!(is_word(name), "{name}");
        }
        for id in ["A-1", "first", "paid", "ABCDEF", "b7fab7ae-11fc", "grid"] {
            assert!(!is_word(id), "{id}");
        }
    }

    #[test]
    fn frames_and_footers_of_tables_are_no_ids() {
        for line in [
            "+----+",
            "-----",
            "---+---",
            "| a | b |",
            "\u{250c}\u{2500}",
            "-[ RECORD 1 ]--",
            "*** 1. row ***".replace("***", "*****").as_str(),
        ] {
            assert!(is_frame(line), "{line}");
        }
        for line in [
            "(2 rows)",
            "(1 row)",
            "(2 Zeilen)",
            "(2 \u{884c})",
            "[2 rows x 1 columns]",
            "2 rows in set (0.00 sec)",
            "2 Row(s) produced.",
            "COPY 2",
            "Time: 3.5 ms",
            "Empty set (0.00 sec)",
            r"\.",
        ] {
            assert!(is_footer(line), "{line}");
        }
        assert!(!is_frame("A-1") && !is_frame("-") && !is_footer("COPY") && !is_footer("(1)") && !is_footer("x rows"));
    }
}
