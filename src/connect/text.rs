//! Turns bytes into JSON, and JSON strings into texts that PostgreSQL can store.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Returns the JSON of a body without the byte order mark that some gateways put before it. RFC 8259 lets a reader
/// skip it.
pub(super) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Returns whether a body is blank, null, or an empty string, object or list.
pub(super) fn says_nothing(body: &[u8]) -> bool {
    let body = without_bom(body).trim_ascii();
    matches!(body, b"" | b"null" | b"\"\"")
        || matches!(body, [b'{', inner @ .., b'}'] | [b'[', inner @ .., b']'] if inner.trim_ascii().is_empty())
}

/// A text, and whether characters in it were replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// Borrowed from the JSON if it has no escapes.
    pub(super) text: Cow<'a, str>,
    pub(super) is_altered: bool,
}

/// Decodes a JSON string, quotes included. Replaces NUL, which PostgreSQL cannot store, and lone surrogates, which
/// remain when a text is cut in the middle of an emoji, by U+FFFD. Returns `None` if `json` is not a string.
pub(super) fn decode(json: &str) -> Option<Text<'_>> {
    if let Ok(text) = serde_json::from_str(json) {
        return Some(text);
    }
    let bytes = serde_json::Deserializer::from_str(json).deserialize_bytes(Bytes).ok()?;
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((&byte, tail)) = rest.split_first() {
        // serde_json writes a lone surrogate as the three bytes that UTF-8 forbids: ED A0..BF 80..BF.
        let replaced = match rest {
            [0xED, 0xA0..=0xBF, _, ..] => 3,
            [0, ..] => 1,
            _ => 0,
        };
        if replaced > 0 {
            text.extend_from_slice("\u{FFFD}".as_bytes());
            rest = &rest[replaced..];
        } else {
            text.push(byte);
            rest = tail;
        }
    }
    Some(Text { text: String::from_utf8(text).ok()?.into(), is_altered: true })
}

/// Like [`decode`], but fails instead of replacing characters.
impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_str(Storable)?;
        Ok(Self { text, is_altered: false })
    }
}

struct Storable;

impl<'de> Visitor<'de> for Storable {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string that PostgreSQL can hold")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        // No check for NUL: JSON allows no raw NUL in a string.
        Ok(text.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.contains('\0') { Err(E::custom("NUL")) } else { Ok(text.to_owned().into()) }
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn altered(json: &str) -> (String, bool) {
        let text = decode(json).expect("a string");
        (text.text.into_owned(), text.is_altered)
    }

    #[test]
    fn ordinary_texts_stay_as_they_are() {
        assert_eq!(altered(r#""plain ☃ 👩‍👩‍👧""#), ("plain ☃ 👩‍👩‍👧".into(), false));
        assert_eq!(altered(r#""a\n\"b\" \u00e9 \ud83d\ude00""#), ("a\n\"b\" é 😀".into(), false));
        assert_eq!(altered(r#""\ufffd""#), ("\u{fffd}".into(), false));
        assert_eq!(altered("\"\u{d7ff}\u{e000}\\n\""), ("\u{d7ff}\u{e000}\n".into(), false));
    }

    #[test]
    fn characters_that_cannot_be_stored_are_replaced_and_marked() {
        assert_eq!(altered(r#""a\u0000b""#), ("a\u{fffd}b".into(), true));
        assert_eq!(altered(r#""cut \ud83d""#), ("cut \u{fffd}".into(), true));
        assert_eq!(altered(r#""\udead\ud83d\ude00\ud83dx""#), ("\u{fffd}😀\u{fffd}x".into(), true));
    }

    #[test]
    fn other_values_are_not_texts() {
        for json in ["5", "null", "[]", "{}", "true"] {
            assert_eq!(decode(json), None);
        }
    }
}
