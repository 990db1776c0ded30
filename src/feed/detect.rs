//! Detects the format of a feed by its first 64 KiB, or why it is no list of orders.
//!
//! Refuses what would otherwise fill the queue with garbage: whole rows, frames and titles as order ids.

use super::column::Column;
use super::error::NotAList;
use super::format::{Choice, Format};
use super::json;
use super::lines::{has_digit, is_frame, is_id, is_prose, is_setting, is_word};
use super::rows::{Header, first_fields};
use super::values::{clean, unbroken};

const CSV: &str = "write CSV with a header such as order_id,connect_user_id,completed_at";
const FORCE: &str = "with --format plain every line is an id";
const ONE_PER_LINE: &str = "write one id per line, or CSV with a header such as order_id,connect_user_id,completed_at";
const UNFRAMED: &str = "use psql --csv, mysql --batch, or sqlite3 -csv -header";

/// Decides by the beginning of a feed. Returns the format, and the number of lines before the first order.
pub(super) fn detect(sample: &str, is_whole: bool, choice: Choice) -> Result<(Format, u64), NotAList> {
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
        (number, first) = lines.next().ok_or_else(|| NotAList::new("it ends after its line \"sep=\"", CSV))?;
    }
    let rest: Vec<&str> = lines.map(|(_, line)| clean(line)).collect();
    // Keep the tabs at its ends: they are separators.
    let raw = first;
    let first = clean(first);
    if first.starts_with(['{', '[']) {
        return json::detect(sample, first, &rest, is_whole).map(|format| (format, 0));
    }
    refuse_markup(first)?;
    let is_yaml = |line: &str| line.starts_with("- ") || line.ends_with(':') || line.contains(": ");
    if first == "---" && rest.first().is_some_and(|line| is_yaml(line)) {
        return Err(NotAList::new("it is YAML", ONE_PER_LINE));
    }
    if std::iter::once(&first).chain(rest.iter().take(2)).any(|line| is_frame(line)) {
        return Err(NotAList::new("it is a table with frames, formatted for people", UNFRAMED));
    }
    if first.contains('\r') {
        return Err(NotAList::new(
            format!("line {number} has a carriage return that ends no line"),
            "end lines with line feeds",
        ));
    }
    if let Some(header) = Header::detect(raw, separator, number)? {
        return Ok((Format::Csv(Some(header)), number));
    }
    if separator.is_some() {
        return Err(NotAList::new(format!("line {number} is no header with a column order_id"), CSV));
    }
    refuse_other_than_ids(first, &rest, number)?;
    Ok((Format::Plain { is_certain: false }, 0))
}

fn refuse_markup(first: &str) -> Result<(), NotAList> {
    let begins = |words: &[&str]| {
        words.iter().any(|word| first.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
    };
    if first.starts_with('<') {
        return Err(NotAList::new("it is HTML or XML", CSV));
    }
    if begins(&["-- ", "/*", "insert into ", "copy ", "select ", "create ", "begin;", "set "]) {
        return Err(NotAList::new("it is SQL", "run it with psql, or export its rows with psql --csv"));
    }
    if begins(&["\\begin{", ".ts", ".lp", "#!", "version https://"]) {
        return Err(NotAList::new("it is a document or a script", CSV));
    }
    if begins(&["error:", "error ", "(error)", "psql:", "curl:", "mysql:", "traceback "]) {
        return Err(NotAList::new("it is the error message of another program", "see what that program was to export"));
    }
    Ok(())
}

/// Refuses tables without a known header, and other texts whose lines are no ids.
fn refuse_other_than_ids(first: &str, rest: &[&str], number: u64) -> Result<(), NotAList> {
    let line = |what: &str| format!("line {number} {what}");
    if first.contains('|') {
        return Err(NotAList::new(line("has columns separated by \"|\""), UNFRAMED));
    }
    if let Some(place) = first.find(['=', ':'])
        && Column::of_name(&first[..place]).is_some()
    {
        return Err(NotAList::new(line("is a name with its value"), CSV));
    }
    if first.starts_with(['"', '\'']) {
        return Err(NotAList::new(line("is an id in quotes"), format!("use jq -r, or no quotes; {FORCE}")));
    }
    let has_separators = |text: &str| text.contains([',', ';', '\t']) || text.contains("  ");
    if has_separators(first) {
        let what = "has separators, but no column order_id";
        return Err(NotAList::new(line(what), format!("{CSV}; {FORCE}")));
    }
    let is_header = |text: &&&str| first_fields(text).iter().any(|name| Column::of_name(name) == Some(Column::OrderId));
    if rest.iter().take(10).find(is_header).is_some() {
        return Err(NotAList::new(line("is above the header"), "remove the lines that do not belong to the table"));
    }
    if is_prose(first) || is_setting(first) {
        return Err(NotAList::new(line("looks like a sentence, a list or a setting"), format!("{CSV}; {FORCE}")));
    }
    // Among ids of equal length, some have no digits by chance.
    let is_number = |line: &str| line.bytes().all(|byte| byte.is_ascii_digit());
    let is_like_no_other = !has_digit(first)
        && rest.len() >= 3
        && rest
            .iter()
            .all(|line| is_number(line) || (has_digit(line) && line.chars().count() != first.chars().count()));
    let is_above_numbers = rest.len() >= 2 && !is_number(first) && rest.iter().all(|line| is_number(line));
    if is_like_no_other || is_above_numbers || (is_word(first) && rest.iter().any(|line| has_digit(line))) {
        return Err(NotAList::new(line("looks like the name of a column"), format!("name it order_id; {FORCE}")));
    }
    if rest.iter().filter(|line| has_separators(line)).count() * 2 > rest.len() {
        return Err(NotAList::new("most lines have separators, but no header names a column order_id", CSV));
    }
    if first.contains(char::is_whitespace) {
        return Err(NotAList::new(line("has several words"), format!("{ONE_PER_LINE}; {FORCE}")));
    }
    if !is_id(first) {
        return Err(NotAList::new(line("does not look like an id"), format!("{ONE_PER_LINE}; {FORCE}")));
    }
    if rest.len() > 2 && rest.iter().filter(|line| !is_id(line)).count() * 2 > rest.len() {
        return Err(NotAList::new("most lines do not look like ids", format!("{ONE_PER_LINE}; {FORCE}")));
    }
    Ok(())
}
