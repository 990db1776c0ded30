//! The results, as tables for people and as JSON with every repetition.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;

use crate::acceptance::{Bound, Criterion};
use crate::arguments::Plan;
use crate::machine::Machine;
use crate::sample::{Column, Phase, Results};

const MICROS: f64 = 1e6;
const MEBIBYTE: f64 = 1_048_576.0;

/// A column of the table.
struct Shown {
    header: &'static str,
    column: Column,
    per_order: bool,
    /// The size of a unit in the table.
    unit: f64,
    decimals: usize,
}

impl Shown {
    const fn new(header: &'static str, column: Column) -> Self {
        Self { header, column, per_order: false, unit: 1.0, decimals: 0 }
    }

    const fn per_order(header: &'static str, column: Column) -> Self {
        Self { per_order: true, ..Self::new(header, column) }
    }

    const fn unit(self, unit: f64) -> Self {
        Self { unit, ..self }
    }

    const fn decimals(self, decimals: usize) -> Self {
        Self { decimals, ..self }
    }

    fn cell(&self, phase: &Phase) -> String {
        let value = if self.per_order { phase.median_per_order(self.column) } else { phase.median(self.column) };
        value.map_or_else(String::new, |value| format!("{:.*}", self.decimals, value / self.unit))
    }
}

const COLUMNS: [Shown; 15] = [
    Shown::new("wall\ns", |sample| Some(sample.wall_seconds)).decimals(2),
    Shown::new("orders\n/s", |sample| Some(sample.orders_per_second())),
    Shown::new("messages\n/s", |sample| Some(sample.messages_per_second())),
    Shown::per_order("µs CPU\nworker", |sample| sample.worker_cpu_seconds).unit(1.0 / MICROS).decimals(1),
    Shown::per_order("µs CPU\nserver", |sample| sample.server_cpu_seconds).unit(1.0 / MICROS).decimals(1),
    Shown::per_order("µs CPU\nPostgres", |sample| sample.postgres_cpu_seconds).unit(1.0 / MICROS).decimals(1),
    Shown::new("peak\nMiB", |sample| sample.peak_resident_bytes).unit(MEBIBYTE).decimals(1),
    Shown::per_order("state-\nments", |sample| sample.statements).decimals(3),
    Shown::per_order("WAL B\nall", |sample| sample.wal_bytes),
    Shown::per_order("WAL B\nqueue", |sample| sample.queue_wal_bytes),
    Shown::per_order("WAL B\nothers", |sample| sample.other_wal_bytes),
    Shown::per_order("dead\nrows", |sample| sample.dead_rows).decimals(2),
    Shown::new("chat rows\nadded", |sample| sample.chat_rows_inserted),
    Shown::new("chat rows\nrewritten", |sample| sample.chat_rows_rewritten),
    Shown::new("latency\nms", |sample| sample.mean_latency_ms).decimals(1),
];

/// Prints all results for people. µs, statements, WAL and dead rows are per order.
pub(crate) fn print(machine: &Machine, results: &Results, criteria: &[Criterion]) {
    println!("{}\n", machine.lines());
    println!(
        "Medians. Processor time, statements, WAL and dead rows per order; worker is the load generator in limit_fetch."
    );
    println!("{}\n", table(results));
    for criterion in criteria {
        let (sign, limit) = match criterion.bound {
            Bound::AtLeast(least) => ('≥', least),
            Bound::AtMost(most) => ('≤', most),
        };
        let measured = criterion.measured.map_or_else(|| "-".to_owned(), |measured| format!("{measured:.2}"));
        let word = match criterion.is_kept {
            Some(true) => "ok",
            Some(false) => "missed",
            None => "not measured",
        };
        println!("{word:<13}{measured:>9}  {sign} {limit:<5} {}", criterion.text);
    }
}

fn table(results: &Results) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["series", "size", "phase", "n"].into_iter().chain(COLUMNS.iter().map(|shown| shown.header)));
    for phase in &results.phases {
        let what = [phase.series.to_owned(), phase.size.to_string(), phase.name.to_owned()];
        let cells = COLUMNS.iter().map(|shown| shown.cell(phase));
        table.add_row(what.into_iter().chain([phase.samples.len().to_string()]).chain(cells));
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Writes everything, including each repetition.
pub(crate) fn write(
    path: &Path,
    machine: &Machine,
    plan: &Plan,
    results: &Results,
    criteria: &[Criterion],
) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&json!({
        "machine": machine,
        "max_in_flight": plan.max_in_flight,
        "overrides": overrides(),
        "phases": results.phases,
        "acceptance": criteria,
    }))?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Returns the variables that were passed to the worker: only the names if a value may be secret.
fn overrides() -> Vec<String> {
    std::env::vars()
        .filter(|(name, _)| name.starts_with("CHATSYNC__"))
        .map(|(name, value)| if name.starts_with("CHATSYNC__AUTH__") { name } else { format!("{name}={value}") })
        .collect()
}
