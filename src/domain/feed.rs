//! Reads orders out of a text in one of three formats, line by line: plain ids, CSV with a header, or NDJSON.
//!
//! `enqueue` feeds it a file or standard input. Memory is bounded by the longest line accepted, whatever the size of
//! the text; a bad line is reported with its number and costs nothing but itself.

use std::io::{self, BufRead, Read};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::order::checked_id;
use super::{NewOrder, OrderId};

/// The longest line read, in bytes. Far above any sensible one; keeps a file without line breaks out of memory.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

const COLUMNS: &str = "order_id, connect_user_id, completed_at, retailer_id, ids_internal, priority";

/// A line that gave no order.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Line number, from 1.
    pub line: u64,
    /// What is wrong and how to mend it; never the line itself.
    pub reason: String,
}

/// A text that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The file or pipe failed.
    #[error("reading failed at line {line}: {source}")]
    Read {
        /// Line number, from 1.
        line: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A CSV header with a column that chatsync does not know, or without `order_id`.
    #[error("the CSV header on line {line} {problem}; known columns: {COLUMNS}")]
    Header {
        /// Line number, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
}

/// The orders of a text, as an iterator. What a line does not say is taken from `template`.
pub struct Feed<R> {
    input: R,
    template: NewOrder,
    format: Option<Format>,
    line: u64,
    buffer: Vec<u8>,
}

enum Format {
    Plain,
    Csv(Vec<Column>),
    Ndjson,
}

#[derive(Clone, Copy, PartialEq)]
enum Column {
    OrderId,
    ConnectUserId,
    CompletedAt,
    RetailerId,
    IdsInternal,
    Priority,
}

/// One NDJSON line, or one CSV row by its column names.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    order_id: String,
    connect_user_id: Option<String>,
    completed_at: Option<String>,
    retailer_id: Option<String>,
    ids_internal: Option<bool>,
    priority: Option<i16>,
}

impl<R: BufRead> Feed<R> {
    /// Reads from `input`; the first line that is not blank decides the format.
    pub fn new(input: R, template: NewOrder) -> Self {
        Self { input, template, format: None, line: 0, buffer: Vec::new() }
    }

    /// The next line as text without its line break, `None` at the end, an inner error for a line to reject.
    fn next_line(&mut self) -> Result<Option<Result<String, String>>, FeedError> {
        self.buffer.clear();
        self.line += 1;
        let failed = |line| move |source| FeedError::Read { line, source };
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer).map_err(failed(self.line))?;
        if read == 0 {
            return Ok(None);
        }
        if self.buffer.len() > MAX_LINE_BYTES {
            self.skip_rest_of_line().map_err(failed(self.line))?;
            return Ok(Some(Err(format!("the line is longer than {MAX_LINE_BYTES} bytes"))));
        }
        match std::str::from_utf8(&self.buffer) {
            // A byte order mark starts a file; files that were joined have more of them.
            Ok(text) => Ok(Some(Ok(text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}').to_owned()))),
            Err(error) => Ok(Some(Err(format!("it is not UTF-8 from byte {} on", error.valid_up_to() + 1)))),
        }
    }

    fn skip_rest_of_line(&mut self) -> io::Result<()> {
        while !self.buffer.ends_with(b"\n") {
            self.buffer.clear();
            if self.input.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut self.buffer)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn parse(&self, text: &str) -> Result<NewOrder, String> {
        let row = match &self.format {
            Some(Format::Csv(columns)) => csv_row(columns, text)?,
            // serde would take the values of a list for fields in order.
            Some(Format::Ndjson) if text.starts_with('[') => return Err("it is a list, not an object".to_owned()),
            Some(Format::Ndjson) => serde_json::from_str(text).map_err(|error| json_problem(&error))?,
            Some(Format::Plain) | None => Row { order_id: text.to_owned(), ..Row::default() },
        };
        self.order(row)
    }

    fn order(&self, row: Row) -> Result<NewOrder, String> {
        let optional_id =
            |name: &str, value: Option<String>, default: &Option<String>| match value.filter(|id| !id.is_empty()) {
                Some(id) => checked_id(&id).map(Some).map_err(|problem| format!("bad {name}: {problem}")),
                None => Ok(default.clone()),
            };
        Ok(NewOrder {
            order_id: OrderId::new(row.order_id).map_err(|problem| format!("bad order id: {problem}"))?,
            connect_user_id: optional_id("connect_user_id", row.connect_user_id, &self.template.connect_user_id)?,
            retailer_id: optional_id("retailer_id", row.retailer_id, &self.template.retailer_id)?
                .map(|id| if id.is_ascii() { Ok(id) } else { Err("bad retailer_id: use ASCII characters".to_owned()) })
                .transpose()?,
            ids_internal: row.ids_internal.or(self.template.ids_internal),
            priority: row.priority.unwrap_or(self.template.priority),
            completed_at: row.completed_at.filter(|time| !time.is_empty()).map(|time| rfc3339(&time)).transpose()?,
        })
    }
}

impl<R: BufRead> Iterator for Feed<R> {
    type Item = Result<Result<NewOrder, BadLine>, FeedError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let text = match self.next_line() {
                Err(error) => return Some(Err(error)),
                Ok(None) => return None,
                Ok(Some(Err(reason))) => return Some(Ok(Err(BadLine { line: self.line, reason }))),
                Ok(Some(Ok(text))) => text,
            };
            if text.is_empty() {
                continue;
            }
            if self.format.is_none() {
                match detect(&text, self.line) {
                    Err(error) => return Some(Err(error)),
                    Ok(format) => {
                        let is_header = matches!(format, Format::Csv(_));
                        self.format = Some(format);
                        if is_header {
                            continue;
                        }
                    }
                }
            }
            let order = self.parse(&text).map_err(|reason| BadLine { line: self.line, reason });
            return Some(Ok(order));
        }
    }
}

/// A first line that starts an object is NDJSON; one that names a column `order_id` is a CSV header.
fn detect(first: &str, line: u64) -> Result<Format, FeedError> {
    if first.starts_with('{') {
        return Ok(Format::Ndjson);
    }
    let fields = csv_fields(first).unwrap_or_default();
    let names: Vec<String> = fields.iter().map(|name| name.trim().to_lowercase()).collect();
    let header = |problem| FeedError::Header { line, problem };
    if !names.iter().any(|name| name == "order_id") {
        // Read as plain ids, a table with other separators or without the one column would fill the queue with rubbish.
        let looks_like_a_header = first
            .split([',', ';', '\t', '|', '\r'])
            .any(|name| COLUMNS.split(", ").any(|column| name.trim().trim_matches('"').eq_ignore_ascii_case(column)));
        if looks_like_a_header {
            let problem = if first.contains('\r') {
                "ends in a carriage return alone: end lines with line feeds"
            } else {
                "has no column order_id, or is not separated by commas"
            };
            return Err(header(problem.to_owned()));
        }
        return Ok(Format::Plain);
    }
    let mut columns = Vec::new();
    for name in names {
        let column = match name.as_str() {
            "order_id" => Column::OrderId,
            "connect_user_id" => Column::ConnectUserId,
            "completed_at" => Column::CompletedAt,
            "retailer_id" => Column::RetailerId,
            "ids_internal" => Column::IdsInternal,
            "priority" => Column::Priority,
            _ => return Err(header(format!("has an unknown column, number {}", columns.len() + 1))),
        };
        if columns.contains(&column) {
            return Err(header(format!("names {name} twice")));
        }
        columns.push(column);
    }
    Ok(Format::Csv(columns))
}

/// One line of CSV. Quoted fields may hold commas and quotes; an id cannot hold a line break, so a field need not.
fn csv_fields(text: &str) -> Result<csv::StringRecord, String> {
    let quoted_field_is_open = text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
    if quoted_field_is_open {
        return Err("a quoted field is not closed on this line".to_owned());
    }
    if text.contains('\r') {
        // The reader would take it for the end of the record, and the rest would be lost without a word.
        return Err("it contains a carriage return that is no line break".to_owned());
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).map_err(|_| "it is not CSV".to_owned())?;
    Ok(record)
}

fn csv_row(columns: &[Column], text: &str) -> Result<Row, String> {
    let record = csv_fields(text)?;
    if record.len() != columns.len() {
        return Err(format!("it has {} fields, the header has {}", record.len(), columns.len()));
    }
    let mut row = Row::default();
    for (column, field) in columns.iter().zip(&record) {
        let field = field.trim();
        match column {
            Column::OrderId => field.clone_into(&mut row.order_id),
            Column::ConnectUserId => row.connect_user_id = Some(field.to_owned()),
            Column::CompletedAt => row.completed_at = Some(field.to_owned()),
            Column::RetailerId => row.retailer_id = Some(field.to_owned()),
            Column::IdsInternal | Column::Priority if field.is_empty() => {}
            Column::IdsInternal => {
                row.ids_internal = Some(field.parse().map_err(|_| "bad ids_internal: write true or false".to_owned())?);
            }
            Column::Priority => {
                row.priority =
                    Some(field.parse().map_err(|_| "bad priority: write a number from -32768 to 32767".to_owned())?);
            }
        }
    }
    Ok(row)
}

fn json_problem(error: &serde_json::Error) -> String {
    // serde_json's text may quote the value; category and column say enough.
    match error.classify() {
        serde_json::error::Category::Data => {
            format!("wrong fields at column {}: an object with order_id and, if need be, {COLUMNS}", error.column())
        }
        _ => format!("it is not JSON from column {} on", error.column()),
    }
}

fn rfc3339(time: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(time)
        .map(|time| time.with_timezone(&Utc))
        .map_err(|_| "bad completed_at: write RFC 3339 such as 2026-01-31T18:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Vec<Result<NewOrder, BadLine>> {
        let template = NewOrder {
            connect_user_id: Some("default-user".into()),
            ..NewOrder::new(OrderId::new("template").expect("valid"))
        };
        Feed::new(text.as_ref(), template).map(|line| line.expect("readable")).collect()
    }

    fn ids(orders: &[Result<NewOrder, BadLine>]) -> Vec<String> {
        orders
            .iter()
            .map(|order| match order {
                Ok(order) => order.order_id.to_string(),
                Err(bad) => format!("line {}", bad.line),
            })
            .collect()
    }

    #[test]
    fn plain_lines_are_ids_whatever_is_in_them() {
        let orders = read("\u{feff}first\r\n\n  a,b  \n\"c\"\n\u{feff}d e/f");
        assert_eq!(ids(&orders), ["first", "a,b", "\"c\"", "d e/f"]);
        assert_eq!(orders[0].as_ref().expect("good").connect_user_id.as_deref(), Some("default-user"));
    }

    #[test]
    fn csv_columns_go_by_name_and_empty_fields_by_default() {
        let orders = read("connect_user_id, Order_ID ,completed_at\nu1,\"a,b\",2026-01-31T10:00:00-08:00\n,second,\n");
        let first = orders[0].as_ref().expect("good");
        assert_eq!((first.order_id.as_str(), first.connect_user_id.as_deref()), ("a,b", Some("u1")));
        assert_eq!(first.completed_at.map(|time| time.to_rfc3339()), Some("2026-01-31T18:00:00+00:00".into()));
        let second = orders[1].as_ref().expect("good");
        assert_eq!((second.connect_user_id.as_deref(), second.completed_at), (Some("default-user"), None));
    }

    #[test]
    fn ndjson_lines_are_objects() {
        let orders = read("{\"order_id\":\"a\",\"priority\":7,\"ids_internal\":true}\n{\"order_id\":\"b\"}\n");
        let first = orders[0].as_ref().expect("good");
        assert_eq!((first.priority, first.ids_internal), (7, Some(true)));
        assert_eq!(ids(&orders), ["a", "b"]);
    }

    #[test]
    fn a_bad_line_loses_only_itself_and_is_named() {
        let long = "x".repeat(MAX_LINE_BYTES + 10);
        let mut text = format!("good 1\n{long}\ngood 2\n{}\ngood 3\na\tb\n..\n", "y".repeat(600)).into_bytes();
        text.extend_from_slice(b"\xff\xfe\nlast");
        assert_eq!(
            ids(&read(text)),
            ["good 1", "line 2", "good 2", "line 4", "good 3", "line 6", "line 7", "line 8", "last"]
        );

        let csv = "order_id,priority\n\"open,1\nb,2\nc\nd,high\n,1\n";
        let orders = read(csv);
        assert_eq!(ids(&orders), ["line 2", "b", "line 4", "line 5", "line 6"]);
        let json = "{\"order_id\":\"a\"}\nnonsense\n{\"order_id\":5}\n{\"id\":\"x\"}\n{\"order_id\":\"b\"}";
        assert_eq!(ids(&read(json)), ["a", "line 2", "line 3", "line 4", "b"]);
    }

    #[test]
    fn a_carriage_return_inside_a_line_hides_nothing() {
        assert_eq!(ids(&read("order_id,priority\na,1\rb,2\nc,3\r\n")), ["line 2", "c"]);
        assert_eq!(ids(&read("a\rb\nc\r\n")), ["line 1", "c"]);
        let template = NewOrder::new(OrderId::new("t").expect("valid"));
        let results: Vec<_> = Feed::new("order_id\rA-1\rA-2\r".as_bytes(), template).collect();
        assert!(matches!(results.as_slice(), [Err(FeedError::Header { line: 1, .. })]));
    }

    #[test]
    fn a_list_is_no_object_with_fields() {
        assert_eq!(ids(&read("{\"order_id\":\"a\"}\n[\"b\",null,null,null,null,null]")), ["a", "line 2"]);
    }

    #[test]
    fn a_header_that_is_not_understood_stops_before_anything_is_added() {
        for header in [
            "order_id,colour\n",
            "order_id,order_id\n",
            "order_id;priority\n",
            "id,connect_user_id\n",
            "order_id,\"priority\n",
        ] {
            let feed = Feed::new(header.as_bytes(), NewOrder::new(OrderId::new("t").expect("valid")));
            let results: Vec<_> = feed.collect();
            assert!(matches!(results.as_slice(), [Err(FeedError::Header { line: 1, .. })]), "{header}");
        }
    }
}
