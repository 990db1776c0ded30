//! A value in a reply that could not be read.
//!
//! `connect` makes faults, and `sync.rejects` keeps them. Only the beginning of a value is ever copied, however large it
//! is: a reply of megabytes that makes no sense takes no more memory than a good one.

use std::fmt;

use serde::Serialize;

/// A value in a reply that could not be read.
///
/// Its serialized form holds chat text, like a conversation's: it is for `sync.rejects` only.
#[derive(Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Fault {
    /// `JSONPath` of the offending value, such as `$.chat_messages[3].created_at`.
    pub path: String,
    /// What was expected and which kind of value was found; never the value itself.
    pub reason: String,
    body: String,
    body_bytes: usize,
}

impl Fault {
    /// Longest text kept of a value, in bytes: enough to see what it is, too little to fill the disk.
    pub const MAX_BODY_BYTES: usize = 64 * 1024;

    /// Makes a fault of `value`, the JSON text or bytes that were left out.
    #[must_use]
    pub fn new(path: impl Into<String>, reason: impl Into<String>, value: &[u8]) -> Self {
        Self { path: path.into(), reason: reason.into(), body: beginning(value), body_bytes: value.len() }
    }

    /// Returns the value as text, cut at [`MAX_BODY_BYTES`](Self::MAX_BODY_BYTES). Bytes that are not UTF-8, and NUL,
    /// are written as `\xNN`.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Drops the value, which cannot be stored.
    pub fn drop_body(&mut self) {
        self.body = String::new();
    }

    /// Returns the size of the whole value, in bytes.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }
}

/// Leaves out the body, which is chat text.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("path", &self.path).field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Escapes the beginning of `value`, in whole characters and whole escapes only.
fn beginning(value: &[u8]) -> String {
    use fmt::Write;
    const MAX: usize = Fault::MAX_BODY_BYTES;
    // Escaping makes nothing shorter. The few extra bytes keep a character at the cut whole.
    let value = &value[..value.len().min(MAX + 4)];
    let mut text = String::with_capacity(value.len().min(MAX));
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let (size, is_nul) = (character.len_utf8(), character == '\0');
            if text.len() + if is_nul { r"\x00".len() } else { size } > MAX {
                return text;
            }
            if is_nul {
                text.push_str(r"\x00");
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            if text.len() + r"\xNN".len() > MAX {
                return text;
            }
            write!(text, "\\x{byte:02x}").expect("writing to a String does not fail");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: &[u8]) -> String {
        Fault::new("$", "no reason", value).body().to_owned()
    }

    #[test]
    fn escaped_bytes_differ_from_text() {
        assert_eq!(body(b"a\x00\xff\xe9z"), r"a\x00\xff\xe9z");
        assert_eq!(body("é".as_bytes()), "é");
        assert_eq!(body(b""), "");
    }

    #[test]
    fn a_large_value_is_cut_between_characters_and_keeps_its_size() {
        const MAX: usize = Fault::MAX_BODY_BYTES;
        for unit in ["a", "é", "☃", "😀", "\0", "a😀"] {
            for offset in 0..4 {
                let value = format!("{}{}", "x".repeat(offset), unit.repeat(MAX));
                let fault = Fault::new("$", "too large", value.as_bytes());
                assert!((MAX - 4..=MAX).contains(&fault.body().len()), "{unit:?}: {}", fault.body().len());
                assert!(value.replace('\0', r"\x00").starts_with(fault.body()), "{unit:?}");
                assert_eq!(fault.body_bytes(), value.len());
            }
        }
        let binary = vec![0xff; 3 * MAX];
        assert_eq!(body(&binary), r"\xff".repeat(MAX / 4));
        let fitting = "é".repeat(MAX / 2);
        assert_eq!(body(fitting.as_bytes()), fitting);
    }

    #[test]
    fn a_fault_does_not_show_its_value() {
        let fault = Fault::new("$.chat_messages[0]", "no id", b"SECRET");
        assert!(!format!("{fault:?} {fault}").contains("SECRET"));
    }
}
