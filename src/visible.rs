//! Escapes characters that a terminal would act on, or that are invisible.
//!
//! Order ids and texts of servers may hold them: C1 control characters move the cursor, bidirectional overrides
//! reverse text, invisible characters make two ids look alike. Every output passes through here once: `cli::output`
//! for what it prints, `telemetry` for log lines.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a character is a control character, or invisible without being a space: formats, fillers, tags.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || is_invisible(c)
        || matches!(c,
            '\u{2028}' | '\u{2029}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Returns whether a character has no width and no glyph and belongs to no other: byte order marks, soft hyphens,
/// joiners, direction marks. False for the variation selectors and tags of emoji.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}')
}

/// Escapes text in lines: hidden characters, except line breaks and tabs, become `\u{9b}`. The joiner within an emoji
/// stays.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// Escapes a log line, without its line break. With colours, escape sequences stay: the formatter escapes those within
/// values.
#[must_use]
pub fn visible_line(line: &str, has_colours: bool) -> Cow<'_, str> {
    escaped(line, |c| c == '\u{1b}' && has_colours)
}

/// Escapes JSON. Hidden characters occur only within strings and become `\u009b`, which means the same.
#[must_use]
pub fn visible_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_hidden) {
        return json.into();
    }
    let mut visible = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(visible, "\\u{unit:04x}").expect("a string"));
        } else {
            visible.push(c);
        }
    }
    visible.into()
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_hidden(c) && !stays(c)) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len());
    let mut previous = ' ';
    for c in text.chars() {
        if is_hidden(c) && !stays(c) && !(c == '\u{200d}' && is_joined(previous)) {
            visible.extend(c.escape_unicode());
        } else {
            visible.push(c);
        }
        previous = c;
    }
    visible.into()
}

/// Returns whether a character may belong to an emoji of several characters.
fn is_joined(c: char) -> bool {
    matches!(c, '\u{fe0f}' | '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_and_invisible_characters_are_escaped() {
        assert_eq!(
            visible("a\u{9b}31mb\u{202e}c\u{2066}\u{200b}d\r\u{1b}[0m"),
            "a\\u{9b}31mb\\u{202e}c\\u{2066}\\u{200b}d\\u{d}\\u{1b}[0m"
        );
        assert_eq!(visible("a\u{200d}b \u{e0041}"), "a\\u{200d}b \\u{e0041}");
        for plain in [
            "",
            "two\n\tlines",
            "Zoë 東京 नमस्ते",
            "👩\u{200d}🌾 🏳\u{fe0f}\u{200d}🌈 ❤\u{fe0f}",
            "nbsp\u{a0}",
            "\u{1f9d1}\u{1f3fe}",
        ] {
            assert!(matches!(visible(plain), Cow::Borrowed(_)) || visible(plain) == plain, "{plain}");
        }
    }

    #[test]
    fn a_log_line_is_one_line_and_keeps_only_its_colours() {
        assert_eq!(visible_line("\u{1b}[32mINFO\u{1b}[0m x\ny\t", true), "\u{1b}[32mINFO\u{1b}[0m x\\u{a}y\\u{9}");
        assert_eq!(visible_line("\u{1b}[32m", false), "\\u{1b}[32m");
    }

    #[test]
    fn escaped_json_means_the_same_and_is_visible() {
        let text: String = ('\0'..='\u{10ffff}').filter(|c| is_hidden(*c)).chain("é🥑\"\\".chars()).collect();
        let json = serde_json::to_string(&text).expect("JSON");
        let seen = visible_json(&json);
        assert!(!seen.chars().any(is_hidden) && seen.contains("é🥑"));
        assert_eq!(serde_json::from_str::<String>(&seen).expect("JSON"), text);
    }
}
