//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::load::Load;

/// Measures chatsync against the limits of this machine, in one run, interleaved.
///
/// Every measurement is a run of the real program, from the start of its process to its end, against a mock API and a
/// durable PostgreSQL that exist for the benchmark alone. Variables `CHATSYNC__…` are passed on to it and win.
#[derive(Debug, Parser)]
#[command(name = "just bench")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,

    #[command(flatten)]
    pub(crate) plan: Plan,

    /// Where to write all measurements, as JSON
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench/sync.json"))]
    pub(crate) json: PathBuf,

    /// Once over 2,000 orders, to see that it works
    #[arg(long, conflicts_with_all = ["sizes", "repetitions", "series", "before"])]
    quick: bool,

    /// Set by Cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// The roles in which the benchmark starts itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The mock API
    #[command(hide = true)]
    Serve,
    /// The load generator
    #[command(hide = true)]
    Load(Load),
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Orders per run of the series `sizes`
    #[arg(long, value_delimiter = ',', default_value = "2000,20000,100000", value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(crate) sizes: Vec<u32>,

    /// Repetitions of each measurement [default: 7, but 3 of long ones]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repetitions: Option<u32>,

    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = SeriesName::value_variants().to_vec(), value_enum)]
    pub(crate) series: Vec<SeriesName>,

    /// Orders in the tables before the series `growth` measures
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000", value_parser = clap::value_parser!(u32).range(10..=5_000_000))]
    pub(crate) before: Vec<u32>,

    /// `pace.max_in_flight` and the load generator's connections where the API has no latency
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) max_in_flight: u32,
}

/// A series of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeriesName {
    /// New, unchanged and changed orders, with the machine's limits
    #[value(alias = "first")]
    Sizes,
    /// An API that takes 50 ms
    Latency,
    /// One worker and two, where that API is the limit
    TwoWorkers,
    /// More and more orders in the tables
    Growth,
}

impl Arguments {
    /// Reads the command line. Without Cargo's flag for benchmarks, `cargo test --benches` started it, and a quick run
    /// is enough.
    pub(crate) fn read() -> Self {
        let mut this = Self::parse();
        if this.quick || (this.role.is_none() && !this.bench) {
            this.plan.sizes = vec![2_000];
            this.plan.repetitions = Some(1);
            this.plan.series = vec![SeriesName::Sizes];
        }
        this
    }
}

impl Plan {
    pub(crate) fn includes(&self, series: SeriesName) -> bool {
        self.series.contains(&series)
    }

    /// Returns the repetitions of a measurement that takes long.
    pub(crate) fn few_repetitions(&self) -> u32 {
        self.repetitions.unwrap_or(3)
    }

    /// Returns the repetitions of a run over this many orders.
    pub(crate) fn repetitions_of(&self, orders: u32) -> u32 {
        self.repetitions.unwrap_or(if orders > 20_000 { 3 } else { 7 })
    }
}
