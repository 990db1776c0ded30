//! Small tables for people, aware of the width of emoji and other scripts.

use comfy_table::{ContentArrangement, LineStyle, Table, presets};

/// Width where standard output is not a terminal.
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

/// Named facts, a line each.
pub(super) fn facts(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, value)| format!("{name:<13}{value}")).collect::<Vec<_>>().join("\n")
}

/// Text from a chat on one line, without what a terminal would act on.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
