//! The latest runs, one line each. Runs in which nothing was due are grouped, so that a failed run stays in view.

use crate::cli::table::{WIDTH, wrapped};
use crate::cli::times::minute;
use crate::db::runs::{IdleRuns, Run};

const HEADER: [&str; 8] = ["started", "trigger", "status", "fetched", "closed", "failed", "lost", "messages"];

/// Number of text columns; the others are numbers.
const WORDS: usize = 3;

/// Most lines of an error; `--json` prints all of it.
const ERROR_LINES: usize = 3;

pub(super) fn text(runs: &[Run], idle_runs: &[IdleRuns]) -> String {
    let rows: Vec<[String; 8]> = runs.iter().map(row).collect();
    let header = HEADER.map(str::to_owned);
    let mut widths = [0; 8];
    for row in std::iter::once(&header).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    // Large numbers use the space between the columns.
    let gap = if widths.iter().sum::<usize>() + 2 * (widths.len() - 1) <= WIDTH { "  " } else { " " };
    let mut lines = vec![line(&header, &widths, gap)];
    for place in 0..=runs.len() {
        let newer = i64::try_from(place).unwrap_or(i64::MAX);
        lines.extend(idle_runs.iter().filter(|idle| idle.newer == newer).map(folded));
        if let (Some(run), Some(row)) = (runs.get(place), rows.get(place)) {
            lines.push(line(row, &widths, gap));
            lines.extend(error_lines(run));
        }
    }
    if runs.is_empty() && idle_runs.is_empty() {
        lines.push("no run yet".to_owned());
    }
    lines.join("\n")
}

fn row(run: &Run) -> [String; 8] {
    [
        minute(run.started_at),
        run.trigger.as_str().to_owned(),
        run.status.as_str().to_owned(),
        run.counters.fetched.to_string(),
        run.counters.closed.to_string(),
        (run.counters.failed + run.counters.dead).to_string(),
        run.counters.lost.to_string(),
        run.counters.messages_inserted.to_string(),
    ]
}

fn line(cells: &[String; 8], widths: &[usize; 8], gap: &str) -> String {
    let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        if column < WORDS { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    cells.collect::<Vec<_>>().join(gap).trim_end().to_owned()
}

fn folded(idle: &IdleRuns) -> String {
    let runs = if idle.runs == 1 { "1 run".to_owned() } else { format!("{} runs", idle.runs) };
    format!("{}  {runs} in which nothing was due", minute(idle.last_started_at))
}

fn error_lines(run: &Run) -> Vec<String> {
    let Some(error) = &run.error else { return Vec::new() };
    let mut lines = wrapped(&format!("    {error}"), WIDTH, "    ");
    if lines.len() > ERROR_LINES {
        lines.truncate(ERROR_LINES);
        if let Some(last) = lines.last_mut() {
            *last = format!("{} …", last.chars().take(WIDTH - 2).collect::<String>());
        }
    }
    lines
}
