//! A part of a reply that could not be understood.
//!
//! Made where a reply is read, kept in `sync.rejects`. However large the part is, only its beginning is ever copied:
//! a reply of megabytes that is nonsense from end to end costs no more memory than a good one.

use std::fmt;

use serde::Serialize;

/// A part of a reply that could not be understood. It goes to `sync.rejects`.
///
/// Its serialized form holds chat text, as a conversation's does: for `sync.rejects` only.
#[derive(Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Fault {
    /// `JSONPath` of the offending value, such as `$.chat_messages[3].created_at`.
    pub path: String,
    /// What was expected and what kind of thing was found; never the value itself.
    pub reason: String,
    body: String,
    body_bytes: usize,
}

impl Fault {
    /// Longest text kept of a part, in bytes. Enough to see what it is; a flood of large ones does not fill the disk.
    pub const MAX_BODY_BYTES: usize = 64 * 1024;

    /// A fault of `part`, which is what was left out: JSON text, or bytes of any kind.
    #[must_use]
    pub fn new(path: impl Into<String>, reason: impl Into<String>, part: &[u8]) -> Self {
        Self { path: path.into(), reason: reason.into(), body: beginning(part), body_bytes: part.len() }
    }

    /// The part that was left out, as a text for people: bytes that are not UTF-8, and NUL, are written as `\xNN`. Cut
    /// at [`MAX_BODY_BYTES`](Self::MAX_BODY_BYTES).
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Forgets the part itself, which cannot be stored.
    pub fn drop_body(&mut self) {
        self.body = String::new();
    }

    /// Size of the part as it came, in bytes.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }
}

/// Without the body, which is chat text.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("path", &self.path).field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// As much of `part` as fits, escaped. Whole characters and whole escapes only.
fn beginning(part: &[u8]) -> String {
    use fmt::Write;
    const MAX: usize = Fault::MAX_BODY_BYTES;
    // Escaping makes nothing shorter. The few bytes more keep a character at the cut from looking broken.
    let part = &part[..part.len().min(MAX + 4)];
    let mut text = String::with_capacity(part.len().min(MAX));
    for chunk in part.utf8_chunks() {
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

    fn body(part: &[u8]) -> String {
        Fault::new("$", "no reason", part).body().to_owned()
    }

    #[test]
    fn escaped_bytes_can_be_told_from_text() {
        assert_eq!(body(b"a\x00\xff\xe9z"), r"a\x00\xff\xe9z");
        assert_eq!(body("é".as_bytes()), "é");
        assert_eq!(body(b""), "");
    }

    #[test]
    fn a_large_part_is_cut_between_characters_and_its_size_is_told() {
        const MAX: usize = Fault::MAX_BODY_BYTES;
        for unit in ["a", "é", "☃", "😀", "\0", "a😀"] {
            for offset in 0..4 {
                let part = format!("{}{}", "x".repeat(offset), unit.repeat(MAX));
                let fault = Fault::new("$", "too large", part.as_bytes());
                assert!((MAX - 4..=MAX).contains(&fault.body().len()), "{unit:?}: {}", fault.body().len());
                assert!(part.replace('\0', r"\x00").starts_with(fault.body()), "{unit:?}");
                assert_eq!(fault.body_bytes(), part.len());
            }
        }
        let binary = vec![0xff; 3 * MAX];
        assert_eq!(body(&binary), r"\xff".repeat(MAX / 4));
        let fitting = "é".repeat(MAX / 2);
        assert_eq!(body(fitting.as_bytes()), fitting);
    }

    #[test]
    fn a_fault_shows_nothing_of_its_part() {
        let fault = Fault::new("$.chat_messages[0]", "no id", b"SECRET");
        assert!(!format!("{fault:?} {fault}").contains("SECRET"));
    }
}
