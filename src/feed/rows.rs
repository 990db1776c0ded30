//! Rows with named columns, from CSV or JSON, and the orders they describe.

use std::ops::RangeInclusive;

use chrono::Datelike as _;

use super::column::{COLUMNS, Cells, Column};
use super::error::NotAList;
use super::lines::{Shape, is_other, is_word};
use super::values::{self, clean, is_absent, is_spreadsheet_error};
use crate::domain::{InvalidId, NewOrder, OrderId, checked_id};

/// Years of orders. Other programs write 0001, 1899, 1970 or 9999 for "not known".
const YEARS: RangeInclusive<i32> = 2000..=2100;

/// The columns of a CSV feed, and their separator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    separator: u8,
    columns: Vec<Column>,
}

impl Header {
    /// Reads a line that may be a header. Returns `None` if it has no column `order_id`; fails if it is a header with
    /// unknown columns.
    pub(super) fn detect(line: &str, separator: Option<u8>, number: u64) -> Result<Option<Self>, NotAList> {
        let separators: &[u8] = separator.as_ref().map_or(b",;\t", std::slice::from_ref);
        for separator in separators {
            let Ok(fields) = csv_fields(line, *separator) else { continue };
            let names: Vec<Option<Column>> = fields.iter().map(Column::of_name).collect();
            if names.contains(&Some(Column::OrderId)) {
                return Self::of(&names, *separator, number).map(Some);
            }
        }
        Ok(None)
    }

    fn of(names: &[Option<Column>], separator: u8, number: u64) -> Result<Self, NotAList> {
        let mut columns: Vec<Column> = Vec::new();
        for (place, column) in (1..).zip(names) {
            let wrong = match column {
                None => "that is not known",
                Some(column) if columns.contains(column) => "that was named before",
                Some(column) => {
                    columns.push(*column);
                    continue;
                }
            };
            let what = format!("the header on line {number} has a column {wrong}, number {place}");
            return Err(NotAList::new(what, format!("leave it out; known columns: {COLUMNS}")));
        }
        Ok(Self { separator, columns })
    }

    /// Reads a later line that may be a header. The inner result fails if its columns are unknown or `order_id` is
    /// missing.
    pub(super) fn again(line: &str, number: u64) -> Option<Result<Self, NotAList>> {
        let fields = first_fields(line);
        let is_name = |field: &String| {
            let name = clean(field).trim_matches('"');
            !name.is_empty() && name.chars().all(|c| c.is_alphabetic() || matches!(c, '_' | '-' | ' '))
        };
        let are_names = fields.iter().all(is_name);
        let names_a_column = |field: &String| Column::of_name(field).is_some() || is_word(clean(field));
        match Self::detect(line, None, number) {
            Ok(None) if are_names && fields.iter().any(names_a_column) => {
                Some(Err(NotAList::new(format!("line {number} is a header without a column order_id"), "name it")))
            }
            Err(_) if !are_names => None,
            header => header.transpose(),
        }
    }

    /// Reads a row. In a table with one column `shape` tells ids from other lines.
    pub(super) fn cells(&self, line: &str, shape: Shape) -> Result<Cells, String> {
        let fields = csv_fields(line, self.separator)?;
        if fields.len() != self.columns.len() {
            return Err(format!("it has {} fields, the header has {}", fields.len(), self.columns.len()));
        }
        if fields.iter().all(|field| clean(field).is_empty()) {
            return Ok(Cells::default());
        }
        let mut cells = Cells::default();
        for (column, field) in self.columns.iter().zip(&fields) {
            cells[*column as usize] = Some(unwrapped(field));
        }
        let id = cells[Column::OrderId as usize].as_deref().map_or("", clean);
        let is_plain = self.columns.len() == 1 && !line.contains('"');
        if is_other(id) || (is_plain && !shape.fits(id)) {
            return Err("it does not look like a row of this table; JSON accepts any id".to_owned());
        }
        Ok(cells)
    }
}

/// Returns whether the cells are names of columns rather than values.
pub(super) fn are_names(cells: &Cells) -> bool {
    let id = cells[Column::OrderId as usize].as_deref().map_or("", clean);
    is_word(id) || cells.iter().flatten().any(|cell| Column::of_name(cell).is_some())
}

/// Unwraps a field: removes the quotes after a blank, and the form `="00123"` that keeps Excel from rounding.
fn unwrapped(field: &str) -> String {
    let text = clean(field);
    let inner = text.strip_prefix('=').unwrap_or(text).strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.map_or_else(|| field.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// Splits a line that may be a header.
pub(super) fn first_fields(line: &str) -> Vec<String> {
    line.split([',', ';', '\t', '|']).map(str::to_owned).collect()
}

/// Splits one line of CSV. Quoted fields may contain separators and quotes, but no line breaks, as ids contain none.
fn csv_fields(text: &str, separator: u8) -> Result<csv::StringRecord, String> {
    let quoted_field_is_open = text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
    if quoted_field_is_open {
        return Err("a quoted field is not closed on this line".to_owned());
    }
    if has_text_after_quotes(text, separator) {
        return Err("it has text after a closing quote".to_owned());
    }
    if text.contains('\r') {
        // The reader would treat it as the end of the record and silently drop the rest.
        return Err("it contains a carriage return that is no line break".to_owned());
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).map_err(|_| "it is not CSV".to_owned())?;
    Ok(record)
}

/// Returns whether a quoted field goes on after its closing quote, or has a separator although it does not begin with
/// the quote. The reader would join or split what does not belong so.
fn has_text_after_quotes(text: &str, separator: u8) -> bool {
    let mut rest = text;
    while rest.contains('"') {
        let is_blank = |c: char| matches!(c, ' ' | '\t') && c != char::from(separator);
        let field = rest.trim_start_matches(is_blank);
        let field = field.strip_prefix('=').unwrap_or(field);
        let end = if let Some(quoted) = field.strip_prefix('"') {
            let mut quotes = quoted.match_indices('"').map(|(place, _)| place);
            let mut closing = quotes.next();
            // Two quotes stand for one.
            while closing.is_some_and(|place| quoted[place + 1..].starts_with('"')) {
                quotes.next();
                closing = quotes.next();
            }
            let Some(closing) = closing else { return true };
            let after = quoted[closing + 1..].trim_start_matches(is_blank);
            let has_separator = quoted[..closing].contains(char::from(separator));
            if !(after.is_empty() || after.starts_with(char::from(separator)))
                || (has_separator && !rest.starts_with('"'))
            {
                return true;
            }
            after
        } else {
            field.find(char::from(separator)).map_or("", |place| &field[place..])
        };
        rest = end.strip_prefix(char::from(separator)).unwrap_or_default();
    }
    false
}

/// Makes an order from a row.
pub(super) fn order(mut cells: Cells) -> Result<NewOrder, String> {
    let mut take = |column: Column| {
        let text = cells[column as usize].take()?;
        let text = clean(&text);
        (!is_absent(text)).then(|| text.to_owned())
    };
    let order_id = take(Column::OrderId).ok_or("it has no order id")?;
    let id = |name: &str, id: Option<String>| {
        self::id(id.as_deref().unwrap_or_default()).map_err(|problem| format!("bad {name}: {problem}"))
    };
    let retailer_id = id("retailer_id", take(Column::RetailerId))?;
    if retailer_id.as_ref().is_some_and(|id| !id.is_ascii()) {
        return Err("bad retailer_id: use ASCII characters".to_owned());
    }
    let completed_at = take(Column::CompletedAt).map(|text| {
        let hint = "bad completed_at: write a time with its zone, such as 2026-01-31T18:00:00Z";
        match values::time(&text) {
            Some(time) if YEARS.contains(&time.year()) => Ok(time),
            Some(_) => Err("bad completed_at: no order was completed in that year; write nothing if it is not known"),
            None => Err(hint),
        }
    });
    let ids_internal =
        take(Column::IdsInternal).map(|text| values::boolean(&text).ok_or("bad ids_internal: write true or false"));
    let priority = take(Column::Priority)
        .map(|text| text.parse().map_err(|_| "bad priority: write a number from -32768 to 32767"));
    Ok(NewOrder {
        order_id: self::order_id(&order_id)?,
        connect_user_id: id("connect_user_id", take(Column::ConnectUserId))?,
        retailer_id,
        ids_internal: ids_internal.transpose()?,
        priority: priority.transpose()?,
        completed_at: completed_at.transpose()?,
    })
}

/// Checks an order id from a feed.
pub(super) fn order_id(text: &str) -> Result<OrderId, String> {
    check(text)
        .and_then(|()| OrderId::new(text).map_err(|problem| problem.to_string()))
        .map_err(|problem| format!("bad order id: {problem}"))
}

/// Checks the id of a user or retailer from a feed or `--user-id`; returns `None` if it stands for no value.
pub(crate) fn id(text: &str) -> Result<Option<String>, String> {
    let text = clean(text);
    if is_absent(text) {
        return Ok(None);
    }
    check(text)?;
    checked_id(text).map(Some).map_err(|problem| problem.to_string())
}

/// Refuses damaged ids. Stricter than the queue, which accepts what other feeders write.
fn check(id: &str) -> Result<(), String> {
    if id.contains(char::REPLACEMENT_CHARACTER) {
        Err("a character of it was lost (U+FFFD)".to_owned())
    } else if id.chars().any(char::is_control) {
        Err(InvalidId::ControlCharacter.to_string())
    } else if is_spreadsheet_error(id) {
        Err("it is an error message of a spreadsheet".to_owned())
    } else {
        Ok(())
    }
}
