//! Splits JSON objects and lists one level at a time; errors carry a `JSONPath`.
//!
//! The content of a field stays text until it is requested, and what is never requested is never built. So a reply
//! takes memory for what is read from it, not for what it contains. The scan for a value's end does not recurse, so no
//! nesting can overflow the stack.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::lossless;
use crate::connect::text::{self, says_nothing};
use crate::domain::Fault;

/// Most fields of an object. The API sends eleven. Each takes 40 bytes here, however short it is in the reply.
pub(super) const MAX_FIELDS: usize = 1_000;

pub(super) struct Malformed {
    pub(super) path: String,
    pub(super) reason: String,
}

/// A field's name and the JSON of its value.
pub(super) type Field<'a> = (Cow<'a, str>, &'a RawValue);

/// A JSON object split into fields. The last of a repeated name counts, as in most parsers.
pub(super) struct Object<'a> {
    path: String,
    fields: Vec<Field<'a>>,
}

impl<'a> Object<'a> {
    pub(super) fn read(json: &'a str, path: &str) -> Result<Self, Malformed> {
        let wrong = |reason: String| Malformed { path: path.to_owned(), reason };
        if !json.starts_with('{') {
            return Err(wrong(format!("expected an object, found {}", kind(json))));
        }
        // The text is valid JSON: only the limit can fail.
        let fields = fields(json).map_err(|_| wrong(format!("more than {MAX_FIELDS} fields")))?;
        Ok(Self { path: path.to_owned(), fields })
    }

    /// Makes an object without a path, so its errors name none. The caller limits the fields to [`MAX_FIELDS`].
    pub(super) fn new(fields: Vec<Field<'a>>) -> Self {
        Self { path: String::new(), fields }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// Returns whether a name holds the replacement for bytes that are not UTF-8.
    pub(super) fn has_damaged_name(&self) -> bool {
        self.fields.iter().any(|(name, _)| name.contains(char::REPLACEMENT_CHARACTER))
    }

    /// Returns whether all fields are null, or there are none.
    pub(super) fn says_nothing(&self) -> bool {
        self.fields.iter().all(|(_, raw)| raw.get() == "null")
    }

    /// Returns the value's JSON; `None` if it is absent or null.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let (_, raw) = self.fields.iter().rev().find(|(field, _)| field == name)?;
        Some(*raw).filter(|raw| raw.get() != "null")
    }

    /// Returns the fields with other names than these.
    pub(super) fn others(&self, known: &[&str]) -> Vec<Field<'a>> {
        self.fields.iter().filter(|(name, _)| !known.contains(&&**name)).cloned().collect()
    }

    pub(super) fn wrong(&self, name: &str, reason: &str) -> Malformed {
        Malformed { path: format!("{}.{name}", self.path), reason: reason.to_owned() }
    }

    fn expected(&self, name: &str, what: &str, found: &str) -> Malformed {
        self.wrong(name, &format!("expected {what}, found {}", kind(found)))
    }

    /// Parses the field's value. `what` names the expected type in the error.
    fn value<T>(
        &self,
        name: &str,
        what: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        self.raw(name).map(|raw| parse(raw.get()).ok_or_else(|| self.expected(name, what, raw.get()))).transpose()
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Malformed> {
        self.value(name, "a 64-bit integer", lossless::integer)
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Malformed> {
        self.value(name, "true or false", lossless::boolean)
    }

    pub(super) fn words(&self, name: &str) -> Result<Option<text::Text<'a>>, Malformed> {
        self.value(name, "a string", lossless::words)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<text::Text<'a>>, Malformed> {
        self.value(name, "a string", text::decode)
    }

    /// Returns the field's object. An empty list or string counts as none: some languages write an object without
    /// fields that way.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Malformed> {
        let raw = self.raw(name).filter(|raw| !says_nothing(raw.get().as_bytes()));
        raw.map(|raw| Self::read(raw.get(), &format!("{}.{name}", self.path))).transpose()
    }

    /// Returns the elements of a list, at most `limit`; none if it is absent.
    pub(super) fn list(&self, name: &str, limit: usize) -> Result<Vec<&'a RawValue>, Malformed> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        if !raw.get().starts_with('[') {
            return Err(self.expected(name, "a list", raw.get()));
        }
        // The text is valid JSON: only the limit can fail.
        serde_json::Deserializer::from_str(raw.get())
            .deserialize_seq(Elements { limit })
            .map_err(|_| self.wrong(name, &format!("more than {limit} entries")))
    }
}

/// Returns the good value, or adds the bad one to the faults with its JSON text.
pub(super) fn keep<T>(result: Result<T, Malformed>, raw: Option<&RawValue>, faults: &mut Vec<Fault>) -> Option<T> {
    result
        .map_err(|wrong| {
            let json = raw.map_or("", RawValue::get);
            faults.push(Fault::new(wrong.path, wrong.reason, json.as_bytes()));
        })
        .ok()
}

/// Returns which kind of JSON value a text starts with.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) => "a number that does not fit",
        None => "nothing",
    }
}

/// Splits `json`, which must be an object, into fields. Fails if there are more than [`MAX_FIELDS`].
pub(super) fn fields(json: &str) -> Result<Vec<Field<'_>>, serde_json::Error> {
    serde_json::Deserializer::from_str(json).deserialize_map(InOrder)
}

struct InOrder;

/// A name, borrowed from the reply unless it has escapes.
#[derive(Deserialize)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Like [`Name`], but lone surrogates become U+FFFD, so that such a name does not lose the other fields.
struct AnyName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for AnyName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(NameBytes)
    }
}

struct NameBytes;

impl<'de> Visitor<'de> for NameBytes {
    type Value = AnyName<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_bytes<E>(self, name: &'de [u8]) -> Result<Self::Value, E> {
        Ok(AnyName(String::from_utf8_lossy(name)))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(AnyName(String::from_utf8_lossy(name).into_owned().into()))
    }
}

impl<'de> Visitor<'de> for InOrder {
    type Value = Vec<Field<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(12);
        while let Some((AnyName(name), raw)) = map.next_entry()? {
            if fields.len() == MAX_FIELDS {
                return Err(A::Error::custom("too many fields"));
            }
            fields.push((name, raw));
        }
        Ok(fields)
    }
}

struct Elements {
    limit: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == self.limit {
                return Err(A::Error::custom("too many elements"));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}
