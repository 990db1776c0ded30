//! JSON in a feed: one object per line, or arrays of objects or ids.

use std::fmt;
use std::io::{self, BufRead};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::column::{COLUMNS, Cells, Column};
use super::error::NotAList;
use super::format::Format;
use super::input::MAX_LINE_BYTES;
use super::rows::{order, order_id};
use crate::domain::NewOrder;

/// Detects which of the two forms a text has, if any.
pub(super) fn detect(sample: &str, first: &str, rest: &[&str], is_whole: bool) -> Result<Format, NotAList> {
    if first.starts_with('[') {
        let is_row = |line: &&str| {
            let values = serde_json::from_str::<Vec<Box<RawValue>>>(line).unwrap_or_default();
            values.len() > 1 && values.iter().all(|value| scalar(value.get()).is_some())
        };
        if is_row(&first) && rest.first().is_some_and(is_row) {
            return Err(NotAList::new("each line is an array of several values", "write objects with order_id"));
        }
        return check_array(sample, is_whole).map(|()| Format::Array);
    }
    let is_complete = is_whole || !rest.is_empty();
    let is_cut = |line: &str| serde_json::from_str::<Box<RawValue>>(line).is_err_and(|error| error.is_eof());
    if is_complete && is_cut(first) {
        let hint = "write one object per line (jq -c), or an array";
        return Err(NotAList::new("it is a JSON object over several lines", hint));
    }
    let has_order = |line: &str| {
        serde_json::from_str::<Object>(line)
            .is_ok_and(|object| object.0.iter().any(|(name, _)| Column::of_name(name) == Some(Column::OrderId)))
    };
    if is_complete && !has_order(first) && !rest.iter().any(|line| has_order(line)) {
        let hint = format!("known names: {COLUMNS}; take orders out of another object with jq -c '.NAME[]'");
        return Err(NotAList::new("no line is a JSON object with order_id", hint));
    }
    Ok(Format::Ndjson)
}

/// Checks the beginning of an array. Refuses one without an order, and one that is not closed although the file ends.
fn check_array(sample: &str, is_whole: bool) -> Result<(), NotAList> {
    const HINT: &str = "write an array of objects with order_id, or of ids";
    let (mut walk, mut input, mut element) = (Walk::default(), sample.as_bytes(), Vec::new());
    let (mut line, mut next_line, mut elements, mut orders) = (1, 1, 0_u64, 0_u64);
    loop {
        // Reading from memory does not fail.
        match walk.step(&mut input, &mut element, &mut line, &mut next_line).unwrap_or(Step::End) {
            Step::Element => {
                elements += 1;
                let text = String::from_utf8_lossy(&element);
                orders += u64::from(self::element(super::values::clean(&text)).is_ok());
            }
            Step::TooLong => elements += 1,
            Step::Outside => {
                return Err(NotAList::new(format!("line {next_line} has something outside the JSON array"), HINT));
            }
            Step::Torn if is_whole => {
                let hint = "it is not complete: export it again";
                return Err(NotAList::new(format!("line {next_line} ends within a JSON array"), hint));
            }
            Step::Torn | Step::End if elements > 0 && orders == 0 => {
                return Err(NotAList::new("no element of the JSON array is an order", HINT));
            }
            Step::Torn | Step::End => return Ok(()),
        }
    }
}

/// An object with its names in order, including repeated ones.
struct Object(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Makes an order from an object.
pub(super) fn object(text: &str) -> Result<NewOrder, String> {
    let object: Object = serde_json::from_str(text).map_err(|error| problem(&error))?;
    let mut cells = Cells::default();
    for (place, (name, value)) in (1..).zip(object.0) {
        let Some(column) = Column::of_name(&name) else {
            return Err(format!("it has an unknown name, number {place}; known names: {COLUMNS}"));
        };
        let cell = &mut cells[column as usize];
        if cell.is_some() {
            return Err(format!("it has a name twice, number {place}"));
        }
        let value = scalar(value.get()).filter(|_| column == Column::IdsInternal || !is_truth(value.get()));
        *cell = Some(value.ok_or_else(|| format!("the value of name number {place} is not a string"))?);
    }
    order(cells)
}

/// Makes an order from an element of an array.
pub(super) fn element(text: &str) -> Result<NewOrder, String> {
    if text.starts_with('{') {
        return object(text);
    }
    match scalar(text).as_deref().map(super::values::clean) {
        Some(id) if !is_truth(text) && !super::values::is_absent(id) && Column::of_name(id).is_none() => {
            Ok(NewOrder::new(order_id(id)?))
        }
        _ => Err("it is neither an object nor an id".to_owned()),
    }
}

fn is_truth(json: &str) -> bool {
    matches!(json, "true" | "false")
}

/// Returns a string, or a whole number, boolean or null as written.
fn scalar(json: &str) -> Option<String> {
    let digits = json.strip_prefix('-').unwrap_or(json);
    // The original of 12.0 or 1e3 is unknown.
    let is_whole_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if json.starts_with('"') {
        serde_json::from_str(json).ok()
    } else {
        (is_whole_number || is_truth(json) || json == "null").then(|| json.to_owned())
    }
}

fn problem(error: &serde_json::Error) -> String {
    // Do not use serde_json's text: it may quote the value.
    match error.classify() {
        serde_json::error::Category::Data => "it is not an object".to_owned(),
        _ => format!("it is not JSON from column {} on", error.column()),
    }
}

/// Iterates over arrays in any layout. Does not check the text between elements, but checks that the last array is
/// closed.
#[derive(Default)]
pub(super) struct Walk {
    is_inside: bool,
}

/// The next item of an array.
pub(super) enum Step {
    /// An element; it is in the buffer.
    Element,
    /// An element that is too long.
    TooLong,
    /// Text outside the arrays.
    Outside,
    /// The end of the text within an array.
    Torn,
    End,
}

/// An element that is being read.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "the states are independent")]
struct Element {
    has_begun: bool,
    depth: u32,
    is_text: bool,
    is_escaped: bool,
    is_too_long: bool,
    /// The last byte that is no white space.
    last: u8,
}

impl Walk {
    /// Reads the next element into `buffer`; sets `line` to where it begins and `next_line` to where it ends.
    pub(super) fn step(
        &mut self,
        input: &mut impl BufRead,
        buffer: &mut Vec<u8>,
        line: &mut u64,
        next_line: &mut u64,
    ) -> io::Result<Step> {
        buffer.clear();
        let mut element = Element::default();
        loop {
            let chunk = input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(if self.is_inside || element.has_begun { Step::Torn } else { Step::End });
            }
            for (place, &byte) in chunk.iter().enumerate() {
                if byte == b'\n' {
                    *next_line += 1;
                    // A string ends on its line. One that is not closed spoils only its own element.
                    (element.is_text, element.is_escaped) = (false, false);
                }
                if element.ends_before(byte, buffer) {
                    // The byte is read again.
                    if byte == b'\n' {
                        *next_line -= 1;
                    }
                    input.consume(place);
                    return Ok(element.step());
                }
                if !element.has_begun {
                    match self.passes(byte) {
                        Some(true) => continue,
                        Some(false) => return Ok(Step::Outside),
                        None => (element.has_begun, *line) = (true, *next_line),
                    }
                }
                // A comma may be missing after it.
                if element.ends_with(byte, buffer) {
                    input.consume(place + 1);
                    return Ok(element.step());
                }
            }
            let length = chunk.len();
            input.consume(length);
        }
    }

    /// Reads a byte between elements. Returns whether it may stand there; `None` if an element begins with it.
    fn passes(&mut self, byte: u8) -> Option<bool> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf => {}
            b'[' if !self.is_inside => self.is_inside = true,
            b']' if self.is_inside => self.is_inside = false,
            b',' if self.is_inside => {}
            _ => return if self.is_inside { None } else { Some(false) },
        }
        Some(true)
    }
}

impl Element {
    fn step(&self) -> Step {
        if self.is_too_long { Step::TooLong } else { Step::Element }
    }

    /// Returns whether it ended before this byte: a number, something that is not JSON, or an object that was not
    /// closed, because within an object only a value begins with a brace.
    fn ends_before(&self, byte: u8, buffer: &[u8]) -> bool {
        let is_end = self.has_begun && self.depth == 0 && matches!(byte, b',' | b']' | b'{' | b'[' | b'\n');
        let is_torn =
            self.depth == 1 && buffer.first() == Some(&b'{') && (byte == b']' || (byte == b'{' && self.last != b':'));
        !self.is_text && (is_end || is_torn)
    }

    /// Takes a byte. Returns whether it ends with it.
    fn ends_with(&mut self, byte: u8, buffer: &mut Vec<u8>) -> bool {
        if buffer.len() < MAX_LINE_BYTES {
            buffer.push(byte);
        } else {
            self.is_too_long = true;
        }
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_text => self.is_escaped = true,
            b'"' => {
                self.is_text = !self.is_text;
                return !self.is_text && self.depth == 0;
            }
            b'{' | b'[' if !self.is_text => self.depth += 1,
            b'}' | b']' if !self.is_text => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}
