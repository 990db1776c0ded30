//! Which format a feed has, by its first 64 KiB; or why it is no list of orders.
//!
//! What is refused here would otherwise become rubbish in the queue: whole rows, frames and titles as order ids.

use super::rows::{Column, Header, first_fields};
use super::values::clean;
use super::{Choice, Refusal, json};

/// How the lines of a feed are read.
pub(super) enum Format {
    /// One id per line; without `is_certain` a line that looks like something else is rejected.
    Plain { is_certain: bool },
    /// CSV by this header; none after a later one that is not known.
    Csv(Option<Header>),
    /// One JSON object per line.
    Ndjson,
    /// JSON arrays of objects, or of ids.
    Array,
}

const CSV: &str = "write CSV with a header such as order_id,connect_user_id,completed_at";
const FORCE: &str = "with --format plain every line is taken for an id";
const UNFRAMED: &str = "use psql --csv, mysql --batch, or sqlite3 -csv -header";

/// Decides by the beginning of a feed; returns the format, and the lines that belong to it alone.
pub(super) fn detect(sample: &str, is_whole: bool, choice: Choice) -> Result<(Format, u64), Refusal> {
    if choice == Choice::Plain {
        return Ok((Format::Plain { is_certain: true }, 0));
    }
    let mut lines = (1..).zip(sample.lines().map(clean)).filter(|(_, line)| !line.is_empty());
    let Some((mut number, mut first)) = lines.next() else { return Ok((Format::Plain { is_certain: false }, 0)) };
    let mut separator = None;
    if let Some(named) = first.strip_prefix("sep=").map(|rest| rest.trim_matches('"'))
        && let [byte] = named.as_bytes()
    {
        separator = Some(*byte);
        (number, first) = lines.next().ok_or_else(|| Refusal::new("it ends after its line \"sep=\"", CSV))?;
    } else if first == "sep=" {
        // The tab was taken for a blank at its end.
        separator = Some(b'\t');
        (number, first) = lines.next().ok_or_else(|| Refusal::new("it ends after its line \"sep=\"", CSV))?;
    }
    let rest: Vec<&str> = lines.map(|(_, line)| line).collect();
    if first.starts_with(['{', '[']) {
        return json::detect(first, &rest, is_whole || !rest.is_empty()).map(|format| (format, 0));
    }
    refuse_markup(first)?;
    if std::iter::once(&first).chain(rest.iter().take(2)).any(|line| is_frame(line)) {
        return Err(Refusal::new("it is a table with frames, made for people", UNFRAMED));
    }
    if first.contains('\r') && rest.is_empty() {
        return Err(Refusal::new(
            format!("line {number} has a carriage return that ends no line"),
            "end lines with line feeds",
        ));
    }
    if let Some(header) = Header::detect(first, separator, number)? {
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
    if begins(&["--", "/*", "insert into ", "copy ", "select ", "create ", "begin;", "set "]) {
        return Err(Refusal::new("it is SQL", "run it with psql, or export its rows with psql --csv"));
    }
    if begins(&["error:", "psql:", "curl:", "mysql:", "traceback "]) {
        return Err(Refusal::new("it is the error message of another program", "see what that program was to export"));
    }
    Ok(())
}

/// Refuses tables without a header that is known, and other texts whose lines are no ids.
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
        let what = "has separators, but names no column order_id";
        return Err(Refusal::new(line(what), format!("{CSV}; {FORCE}")));
    }
    let is_header = |text: &&&str| first_fields(text).iter().any(|name| Column::of_name(name) == Some(Column::OrderId));
    if rest.iter().take(10).find(is_header).is_some() {
        return Err(Refusal::new(line("stands above the header"), "remove what is not part of the table"));
    }
    if is_word(first) && rest.iter().any(|line| line.contains(|c: char| c.is_ascii_digit())) {
        return Err(Refusal::new(line("looks like the name of a column"), format!("name it order_id; {FORCE}")));
    }
    if rest.iter().filter(|line| has_separators(line)).count() * 2 > rest.len() {
        return Err(Refusal::new("most lines have separators, but no header names a column order_id", CSV));
    }
    Ok(())
}

/// A line of a table's frame: dashes, crosses, bars.
pub(super) fn is_frame(line: &str) -> bool {
    let is_drawn = |c: char| matches!(c, '-' | '+' | '|' | '=' | ' ' | ':' | '\u{2500}'..='\u{257f}');
    let dashes = line.chars().filter(|c| matches!(c, '-' | '=' | '\u{2500}' | '\u{2550}')).count();
    (dashes >= 2 && line.chars().all(is_drawn))
        || line.starts_with(|c: char| ('\u{2500}'..='\u{257f}').contains(&c))
        || line.starts_with("-[ RECORD ")
        || (line.starts_with('|') && line.ends_with('|') && line.len() > 1)
        || (line.starts_with("****") && line.ends_with("****"))
}

/// The last line of psql's and other programs' tables: `(2 rows)`.
pub(super) fn is_footer(line: &str) -> bool {
    let text = line.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(line);
    let Some((count, rows)) = text.split_once(' ') else { return false };
    let is_count = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    is_count
        && (rows == "row"
            || rows == "rows"
            || rows.starts_with("rows in set")
            || rows.starts_with("row in set")
            || rows.starts_with("rows selected"))
}

/// Whether a text is what people call a column of ids, such as "Order number" or "externalId".
fn is_word(text: &str) -> bool {
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
        for line in ["(2 rows)", "(1 row)", "2 rows in set (0.00 sec)"] {
            assert!(is_footer(line), "{line}");
        }
        assert!(!is_frame("A-1") && !is_frame("-") && !is_footer("2 rowsX") && !is_footer("x rows"));
    }
}
