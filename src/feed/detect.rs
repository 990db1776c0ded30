//! Detects the format of a feed by its first 64 KiB, or why it is no list of orders.
//!
//! Refuses what would otherwise fill the queue with garbage: whole rows, frames and titles as order ids.

use super::rows::{Column, Header, first_fields};
use super::values::clean;
use super::{Choice, Refusal, json, unbroken};

/// The format of a feed.
pub(super) enum Format {
    /// One id per line; without `is_certain` a line that looks like something else is rejected.
    Plain { is_certain: bool },
    /// CSV with this header; `None` after a later header with unknown columns.
    Csv(Option<Header>),
    /// One JSON object per line.
    Ndjson,
    /// JSON arrays of objects, or of ids.
    Array,
}

const CSV: &str = "write CSV with a header such as order_id,connect_user_id,completed_at";
const FORCE: &str = "with --format plain every line is an id";
const UNFRAMED: &str = "use psql --csv, mysql --batch, or sqlite3 -csv -header";

/// Decides by the beginning of a feed. Returns the format, and the number of lines before the first order.
pub(super) fn detect(sample: &str, is_whole: bool, choice: Choice) -> Result<(Format, u64), Refusal> {
    if choice == Choice::Plain {
        return Ok((Format::Plain { is_certain: true }, 0));
    }
    let mut lines = (1..).zip(sample.lines().map(unbroken)).filter(|(_, line)| !clean(line).is_empty());
    let Some((mut number, mut first)) = lines.next() else { return Ok((Format::Plain { is_certain: false }, 0)) };
    let mut separator = None;
    if let Some(named) = first.get(..4).filter(|word| word.eq_ignore_ascii_case("sep=")).map(|_| &first[4..])
        && let [byte] = named.trim_matches('"').as_bytes()
    {
        separator = Some(*byte);
        (number, first) = lines.next().ok_or_else(|| Refusal::new("it ends after its line \"sep=\"", CSV))?;
    }
    let rest: Vec<&str> = lines.map(|(_, line)| clean(line)).collect();
    // Keep the tabs at its ends: they are separators.
    let raw = first;
    let first = clean(first);
    if first.starts_with(['{', '[']) {
        return json::detect(sample, first, &rest, is_whole).map(|format| (format, 0));
    }
    refuse_markup(first)?;
    if std::iter::once(&first).chain(rest.iter().take(2)).any(|line| is_frame(line)) {
        return Err(Refusal::new("it is a table with frames, formatted for people", UNFRAMED));
    }
    if first.contains('\r') && rest.is_empty() {
        return Err(Refusal::new(
            format!("line {number} has a carriage return that ends no line"),
            "end lines with line feeds",
        ));
    }
    if let Some(header) = Header::detect(raw, separator, number)? {
        return Ok((Format::Csv(Some(header)), number));
    }
    if separator.is_some() {
        return Err(Refusal::new(format!("line {number} is no header with a column order_id"), CSV));
    }
    refuse_other_than_ids(first, &rest, number)?;
    Ok((Format::Plain { is_certain: false }, 0))
}

fn refuse_markup(first: &str) -> Result<(), Refusal> {
    let begins = |words: &[&str]| {
        words.iter().any(|word| first.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
    };
    if first.starts_with('<') {
        return Err(Refusal::new("it is HTML or XML", CSV));
    }
    if begins(&["-- ", "/*", "insert into ", "copy ", "select ", "create ", "begin;", "set "]) {
        return Err(Refusal::new("it is SQL", "run it with psql, or export its rows with psql --csv"));
    }
    if begins(&["\\begin{", ".ts", ".lp", "#!", "version https://"]) {
        return Err(Refusal::new("it is a document or a script", CSV));
    }
    if begins(&["error:", "error ", "(error)", "psql:", "curl:", "mysql:", "traceback "]) {
        return Err(Refusal::new("it is the error message of another program", "see what that program was to export"));
    }
    Ok(())
}

/// Refuses tables without a known header, and other texts whose lines are no ids.
fn refuse_other_than_ids(first: &str, rest: &[&str], number: u64) -> Result<(), Refusal> {
    let line = |what: &str| format!("line {number} {what}");
    if first.contains('|') {
        return Err(Refusal::new(line("has columns separated by \"|\""), UNFRAMED));
    }
    if let Some(place) = first.find(['=', ':'])
        && Column::of_name(&first[..place]).is_some()
    {
        return Err(Refusal::new(line("is a name with its value"), CSV));
    }
    if first.starts_with(['"', '\'']) {
        return Err(Refusal::new(line("is an id in quotes"), format!("use jq -r, or no quotes; {FORCE}")));
    }
    let has_separators = |text: &str| text.contains([',', ';', '\t']) || text.contains("  ");
    if has_separators(first) {
        let what = "has separators, but no column order_id";
        return Err(Refusal::new(line(what), format!("{CSV}; {FORCE}")));
    }
    let is_header = |text: &&&str| first_fields(text).iter().any(|name| Column::of_name(name) == Some(Column::OrderId));
    if rest.iter().take(10).find(is_header).is_some() {
        return Err(Refusal::new(line("is above the header"), "remove the lines that do not belong to the table"));
    }
    if is_prose(first) || is_setting(first) {
        return Err(Refusal::new(line("looks like a sentence, a list or a setting"), format!("{CSV}; {FORCE}")));
    }
    let has_digits = |line: &str| line.contains(|c: char| c.is_ascii_digit());
    // Among ids of equal length, some have no digits by chance.
    let is_number = |line: &str| line.bytes().all(|byte| byte.is_ascii_digit());
    let is_like_no_other = !has_digits(first)
        && rest.len() >= 3
        && rest
            .iter()
            .all(|line| is_number(line) || (has_digits(line) && line.chars().count() != first.chars().count()));
    if is_like_no_other || (is_word(first) && rest.iter().any(|line| has_digits(line))) {
        return Err(Refusal::new(line("looks like the name of a column"), format!("name it order_id; {FORCE}")));
    }
    if rest.iter().filter(|line| has_separators(line)).count() * 2 > rest.len() {
        return Err(Refusal::new("most lines have separators, but no header names a column order_id", CSV));
    }
    Ok(())
}

/// Returns whether a line that should be an id is something else: a row of another kind of file, a frame, a message.
pub(super) fn is_other(text: &str) -> bool {
    text.starts_with(['"', '\'', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}'])
        || text.starts_with(['{', '[', '<'])
        || text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("sep="))
        || is_frame(text)
        || is_footer(text)
        || is_total(text)
        || is_prose(text)
}

/// Returns whether a text begins like a message: `ERROR: …`, `bash: …`.
fn is_message(text: &str) -> bool {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    !rest.is_empty() && (first.ends_with(':') || matches!(first, "ERROR" | "Error" | "error" | "(error)"))
}

/// Returns whether a text is a sentence, a log line, or an item of a list. Ids have three words at most.
fn is_prose(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).take(4).collect();
    let first = words.first().copied().unwrap_or_default();
    let is_item = matches!(first, "-" | "*" | "#" | "\u{2022}")
        || first.strip_suffix(['.', ')']).is_some_and(|count| count.bytes().all(|byte| byte.is_ascii_digit()));
    words.len() > 3 || (words.len() > 1 && (is_item || text.ends_with('.'))) || text.ends_with(':') || is_message(text)
}

/// Returns whether a text sets a variable: `DATABASE_URL=…`.
fn is_setting(text: &str) -> bool {
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
