//! Collects the unknown and the unreadable fields of a message into one JSON text for `jsonb`.
//!
//! The reply's JSON is copied, not parsed into a tree: that keeps every digit of every number and takes about as many
//! bytes as the reply. Names are sorted, so that the same fields always give the same text. A field that PostgreSQL
//! would refuse becomes a string with its JSON text, and the message is marked as altered.

use std::fmt;

use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::object::{self, Field};
use crate::connect::text;
use crate::domain::Extra;

/// Deeper values stay text: each level is scanned once more than the one around it.
const MAX_DEPTH: usize = 16;

/// The range of 64-bit floats. `jsonb` writes numbers without exponents: larger ones would expand when they are read.
const MAX_EXPONENT: u32 = 308;

/// Longer numbers stay text: `numeric` has limits, and no real number comes near them.
const MAX_NUMBER_BYTES: usize = 1_000;

/// Returns these fields as an object, and whether a value had to be replaced. `None` without fields.
pub(super) fn collect(fields: Vec<Field<'_>>) -> (Option<Extra>, bool) {
    if fields.is_empty() {
        return (None, false);
    }
    let size = fields.iter().map(|(name, raw)| name.len() + raw.get().len() + r#""":,"#.len()).sum::<usize>();
    let mut writer = Writer { json: Vec::with_capacity(size + "{}".len()), is_altered: false };
    writer.json.push(b'{');
    for (name, raw) in in_order(fields) {
        writer.name(&name);
        let start = writer.json.len();
        if depth(raw.get()) > MAX_DEPTH || writer.value(raw.get()).is_err() {
            writer.json.truncate(start);
            writer.is_altered = true;
            writer.string(raw.get());
        }
    }
    writer.json.push(b'}');
    let json = String::from_utf8(writer.json).expect("made of texts");
    let object = RawValue::from_string(json).expect("made of JSON");
    (Some(Extra::new(object)), writer.is_altered)
}

/// Sorts by name and keeps the last of a repeated one.
fn in_order(mut fields: Vec<Field<'_>>) -> Vec<Field<'_>> {
    fields.reverse();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields.dedup_by(|(one, _), (other, _)| one == other);
    fields
}

/// Returns how deep lists and objects are nested in a value.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_text => depth -= 1,
            _ => {}
        }
    }
    deepest
}

/// PostgreSQL would refuse the value, or checking it would take too long.
struct Unstorable;

struct Writer {
    json: Vec<u8>,
    is_altered: bool,
}

impl Writer {
    fn value(&mut self, json: &str) -> Result<(), Unstorable> {
        match json.as_bytes() {
            [b'{', ..] => {
                self.json.push(b'{');
                for (name, raw) in in_order(object::fields(json).map_err(|_| Unstorable)?) {
                    self.name(&name);
                    self.value(raw.get())?;
                }
                self.json.push(b'}');
            }
            [b'[', ..] => {
                self.json.push(b'[');
                let elements = Elements(self);
                serde_json::Deserializer::from_str(json).deserialize_seq(elements).map_err(|_| Unstorable)?;
                self.json.push(b']');
            }
            [b'"', ..] if json.contains('\\') => {
                let text = text::decode(json).ok_or(Unstorable)?;
                self.is_altered |= text.is_altered;
                self.string(&text.text);
            }
            [b'-' | b'0'..=b'9', ..] if !is_storable_number(json) => return Err(Unstorable),
            _ => self.json.extend_from_slice(json.as_bytes()),
        }
        Ok(())
    }

    fn name(&mut self, name: &str) {
        self.comma();
        // U+FFFD was most likely a lone surrogate.
        if name.contains(['\0', '\u{FFFD}']) {
            self.is_altered = true;
            self.string(&name.replace('\0', "\u{FFFD}"));
        } else {
            self.string(name);
        }
        self.json.push(b':');
    }

    fn comma(&mut self) {
        if !self.json.ends_with(b"{") && !self.json.ends_with(b"[") {
            self.json.push(b',');
        }
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.json, text).expect("a string always serializes");
    }
}

/// Writes the elements of a list one by one, so that their number takes no memory.
struct Elements<'a>(&'a mut Writer);

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element::<&'de RawValue>()? {
            self.0.comma();
            self.0.value(element.get()).map_err(|_| A::Error::custom("cannot be stored"))?;
        }
        Ok(())
    }
}

fn is_storable_number(json: &str) -> bool {
    let exponent = json.split_once(['e', 'E']).map_or("0", |(_, exponent)| exponent);
    json.len() <= MAX_NUMBER_BYTES
        && exponent.trim_start_matches(['+', '-']).parse().is_ok_and(|exponent: u32| exponent <= MAX_EXPONENT)
        && json.parse().is_ok_and(f64::is_finite)
}
