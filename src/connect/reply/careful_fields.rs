//! How the careful decoder reads a field of a message: what cannot be read goes to [`Rest`].

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::lossless;
use super::object::Object;
use crate::connect::text::{self, Text};
use crate::domain::UserType;

/// Types belong to keys: a longer one would exceed the size of an index entry.
const MAX_TYPE_BYTES: usize = 128;

/// What the careful decoder finds beside the values.
#[derive(Default)]
pub(super) struct Rest<'a> {
    /// Documented fields whose value cannot be read.
    pub(super) unreadable: Vec<(&'static str, &'a RawValue)>,
    /// Whether characters of a type were replaced.
    pub(super) is_altered: bool,
}

/// A missing id is reported by the caller.
pub(super) fn id(object: &Object<'_>, name: &'static str, _: &mut Rest<'_>) -> Option<i64> {
    object.raw(name).and_then(|raw| lossless::integer(raw.get()))
}

pub(super) fn integer<'a>(object: &Object<'a>, name: &'static str, rest: &mut Rest<'a>) -> Option<i64> {
    filled(object, name, rest, lossless::integer)
}

pub(super) fn boolean<'a>(object: &Object<'a>, name: &'static str, rest: &mut Rest<'a>) -> Option<bool> {
    filled(object, name, rest, lossless::boolean)
}

pub(super) fn time<'a>(object: &Object<'a>, name: &'static str, rest: &mut Rest<'a>) -> Option<DateTime<Utc>> {
    filled(object, name, rest, |json| lossless::time(&text::decode(json)?.text))
}

pub(super) fn user_type<'a>(object: &Object<'a>, name: &'static str, rest: &mut Rest<'a>) -> Option<UserType> {
    let text = filled(object, name, rest, |json| text::decode(json).filter(is_type))?;
    rest.is_altered |= text.is_altered;
    Some(UserType::new(&text.text))
}

pub(super) fn text<'a>(object: &Object<'a>, name: &'static str, rest: &mut Rest<'a>) -> Option<Text<'a>> {
    filled(object, name, rest, text::decode)
}

/// May be empty.
pub(super) fn words<'a>(object: &Object<'a>, name: &'static str, rest: &mut Rest<'a>) -> Option<Text<'a>> {
    any(object.raw(name)?, name, rest, lossless::words)
}

fn filled<'a, T>(
    object: &Object<'a>,
    name: &'static str,
    rest: &mut Rest<'a>,
    parse: impl FnOnce(&'a str) -> Option<T>,
) -> Option<T> {
    any(object.raw(name).filter(|raw| raw.get() != r#""""#)?, name, rest, parse)
}

fn any<'a, T>(
    raw: &'a RawValue,
    name: &'static str,
    rest: &mut Rest<'a>,
    parse: impl FnOnce(&'a str) -> Option<T>,
) -> Option<T> {
    let value = parse(raw.get());
    if value.is_none() {
        rest.unreadable.push((name, raw));
    }
    value
}

/// Returns whether a text is short enough for a type.
pub(super) fn is_type(text: &Text<'_>) -> bool {
    text.text.len() <= MAX_TYPE_BYTES
}
