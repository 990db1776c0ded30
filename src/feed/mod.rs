//! Reads orders from a file or pipe: plain ids, CSV with a header, NDJSON or JSON arrays; UTF-8 or UTF-16; gzip or
//! not.
//!
//! `cli::enqueue` reads a [`Feed`] to its end. The first 64 KiB decide the format, or that the feed is refused, before
//! any order is returned. `input` converts bytes to text, `detect` finds the format, `lines` tells ids from other
//! lines, `rows` and `json` read a line each, `values` single values. Memory is bounded by the longest line accepted.
//! Malformed lines are reported by line number and skipped.

mod column;
mod detect;
mod error;
mod format;
mod input;
mod json;
mod lines;
mod rows;
mod values;

use std::io::{self, BufRead, Read};

use crate::domain::NewOrder;
use format::Format;
use json::{Step, Walk};
use lines::Shape;
use rows::Header;
use values::unbroken;

pub use error::{FeedError, NotAList};
pub use format::Choice;
pub use input::MAX_LINE_BYTES;
pub(crate) use rows::id;

/// A line that was rejected.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Line number, from 1.
    pub line: u64,
    /// What is wrong and how to fix it; never the line itself.
    pub reason: String,
}

/// An iterator over the orders of a feed.
pub struct Feed {
    input: Box<dyn BufRead + Send>,
    format: Format,
    shape: Shape,
    /// Number of lines before the first order.
    header_lines: u64,
    /// The lines where the latest item begins and ends.
    line: u64,
    next_line: u64,
    walk: Walk,
    buffer: Vec<u8>,
    rounded: Option<Rounded>,
    has_failed: bool,
}

/// Ids that were rounded, such as `1.23457E+15`: spreadsheets write long numbers this way and lose the last digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rounded {
    /// Number of such ids.
    pub ids: u64,
    /// The first one, and its line.
    pub example: (String, u64),
}

impl Feed {
    /// Reads the beginning of `input` and decides its format. Blocks. Fails if it is no list of orders.
    pub fn open(input: impl Read + Send + 'static, choice: Choice) -> Result<Self, FeedError> {
        let text = input::open(input)?;
        let sample = String::from_utf8_lossy(&text.sample);
        let (format, header_lines) = detect::detect(&sample, text.is_whole, choice)?;
        let first_ids = (1..).zip(sample.lines()).filter(|(number, _)| *number > header_lines);
        let shape = Shape::of(first_ids.map(|(_, line)| values::clean(line)));
        Ok(Self {
            input: text.input,
            format,
            shape,
            header_lines,
            line: 0,
            next_line: 1,
            walk: Walk::default(),
            buffer: Vec::new(),
            rounded: None,
            has_failed: false,
        })
    }

    /// Returns the ids so far that may have been rounded.
    #[must_use]
    pub fn rounded(&self) -> Option<&Rounded> {
        self.rounded.as_ref()
    }

    /// Returns the line of the latest item, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    fn next_order(&mut self) -> Result<Option<Result<NewOrder, String>>, FeedError> {
        loop {
            let text = match self.next_text()? {
                None => return Ok(None),
                Some(Err(reason)) => return Ok(Some(Err(reason))),
                Some(Ok(text)) => text,
            };
            if values::clean(&text).is_empty() || self.line <= self.header_lines {
                continue;
            }
            match self.read(&text) {
                // A row of separators only, as spreadsheets write empty lines.
                Ok(None) => {}
                Ok(Some(order)) => return Ok(Some(Ok(order))),
                Err(reason) => return Ok(Some(Err(reason))),
            }
        }
    }

    /// Returns the next line or array element as text, `None` at the end, or an inner error for a line to reject.
    fn next_text(&mut self) -> Result<Option<Result<String, String>>, FeedError> {
        let line = self.next_line;
        let failed = |source| FeedError::Read { line, source };
        if matches!(self.format, Format::Array) {
            let walk = &mut self.walk;
            match walk.step(&mut self.input, &mut self.buffer, &mut self.line, &mut self.next_line).map_err(failed)? {
                Step::Element => {}
                Step::TooLong => return Ok(Some(Err(too_long()))),
                Step::End => return Ok(None),
                Step::Torn => {
                    let problem = "ends within a JSON array: the file is not complete";
                    return Err(FeedError::Torn { line: self.next_line, problem });
                }
                Step::Outside => {
                    let problem = "has something after the JSON array, which was not read";
                    return Err(FeedError::Torn { line: self.next_line, problem });
                }
            }
        } else {
            self.line = self.next_line;
            self.next_line += 1;
            self.buffer.clear();
            let limit = MAX_LINE_BYTES as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer).map_err(failed)?;
            if read == 0 {
                return Ok(None);
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                self.skip_rest_of_line().map_err(failed)?;
                return Ok(Some(Err(too_long())));
            }
        }
        if self.buffer.contains(&0) {
            return Ok(Some(Err(
                "it holds NUL bytes: a part of the file is in another encoding, such as UTF-16".to_owned()
            )));
        }
        Ok(Some(match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(unbroken(text).to_owned()),
            Err(error) => Err(format!("it is not UTF-8 from byte {} on", error.valid_up_to() + 1)),
        }))
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

    fn read(&mut self, text: &str) -> Result<Option<NewOrder>, String> {
        let order = match &mut self.format {
            Format::Plain { is_certain } => {
                let text = values::clean(text);
                let order = rows::order_id(text).map(NewOrder::new);
                if order.is_ok() && !*is_certain && !self.shape.fits(text) {
                    return Err("it does not look like an id; --format plain accepts it".to_owned());
                }
                order
            }
            Format::Csv(header) => {
                let cells =
                    header.as_ref().map_or(Err(BELOW_UNKNOWN.to_owned()), |header| header.cells(text, self.shape));
                if cells.as_ref().map_or(true, rows::are_names)
                    && let Some(again) = Header::again(text, self.line)
                {
                    // The header of a concatenated file. Its columns may be others, or in another order: without it
                    // the following rows would be misread.
                    let reason = again.as_ref().map_or_else(ToString::to_string, |_| ANOTHER_HEADER.to_owned());
                    *header = again.ok();
                    return Err(reason);
                }
                let cells = cells?;
                if cells.iter().all(Option::is_none) {
                    return Ok(None);
                }
                rows::order(cells)
            }
            Format::Ndjson => json::object(values::clean(text)),
            Format::Array => json::element(values::clean(text)),
        }?;
        if values::is_rounded(order.order_id.as_str()) {
            let example = (order.order_id.to_string(), self.line);
            self.rounded.get_or_insert(Rounded { ids: 0, example }).ids += 1;
        }
        Ok(Some(order))
    }
}

impl Iterator for Feed {
    type Item = Result<Result<NewOrder, BadLine>, FeedError>;

    /// Ends after an error: the rest cannot be read.
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let order = self.next_order().transpose()?;
        self.has_failed = order.is_err();
        Some(order.map(|order| order.map_err(|reason| BadLine { line: self.line, reason })))
    }
}

const ANOTHER_HEADER: &str = "it is another header, which applies to the rows after it";
const BELOW_UNKNOWN: &str = "it is below a header with unknown columns";

fn too_long() -> String {
    format!("the line is longer than {MAX_LINE_BYTES} bytes")
}

#[cfg(test)]
mod tests;
