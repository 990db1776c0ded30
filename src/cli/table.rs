//! Tables for people, aware of the width of emoji and other scripts.

use comfy_table::{ContentArrangement, LineStyle, Table, presets};

use crate::visible::visible;

/// Width that every terminal has.
pub(super) const WIDTH: usize = 80;

/// Width if standard output is not a terminal.
const DEFAULT_WIDTH: u16 = 100;

/// A table with a header, as wide as its content or the terminal.
pub(super) fn table<R, C>(header: &[&str], rows: R) -> Table
where
    R: IntoIterator<Item = C>,
    C: IntoIterator<Item = String>,
{
    let terminal = console::Term::stdout();
    let width = if terminal.is_term() { terminal.size().1 } else { DEFAULT_WIDTH };
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    table
}

/// Lists named facts, one per line.
pub(super) fn facts(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, value)| format!("{name:<13}{value}")).collect::<Vec<_>>().join("\n")
}

/// Text from outside on one line, escaped as it will be shown, so that tables know its width.
pub(super) fn one_line(text: &str) -> String {
    visible(&text.replace(['\n', '\r', '\t'], " ")).into_owned()
}

/// Cuts a text to `most` characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Wraps a text to lines of at most `width` characters; all but the first begin with `indent`. Splits words that are
/// too long for a line.
pub(super) fn wrapped(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = one_line(text).chars().collect();
    while rest.len() > width {
        let from = indent.len() + 1;
        let cut = rest[..=width].iter().rposition(|c| *c == ' ').filter(|cut| *cut >= from).unwrap_or(width);
        let tail = rest.split_off(cut);
        lines.push(rest.into_iter().collect::<String>().trim_end().to_owned());
        rest = indent.chars().chain(tail.into_iter().skip_while(|c| *c == ' ')).collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_wrapped_between_words_and_a_long_word_is_cut() {
        assert_eq!(wrapped("one two three", 8, "  "), ["one two", "  three"]);
        assert_eq!(wrapped("short", 8, "  "), ["short"]);
        for width in [10, 20, 80] {
            let text = format!("    a {} b {}", "x".repeat(100), "yz ".repeat(40));
            let lines = wrapped(&text, width, "    ");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').count();
            assert_eq!(lines.iter().map(|line| letters(line)).sum::<usize>(), letters(&text));
        }
    }
}
