//! One measurement, and the median of several.

use serde::Serialize;

/// One measured phase. A number that is unknown is `None`, and blank in the table.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) orders: u32,
    pub(crate) messages: u64,
    pub(crate) wall_seconds: f64,
    /// Processor time of all workers, or of the load generator.
    pub(crate) worker_cpu_seconds: Option<f64>,
    pub(crate) server_cpu_seconds: Option<f64>,
    pub(crate) postgres_cpu_seconds: Option<f64>,
    /// Peak of the largest worker.
    pub(crate) peak_resident_bytes: Option<f64>,
    /// Statements that the worker sent, including BEGIN and COMMIT.
    pub(crate) statements: Option<f64>,
    /// Everything written to the write-ahead log during the phase.
    pub(crate) wal_bytes: Option<f64>,
    /// Written by the worker's statements on `sync.order_queue`.
    pub(crate) queue_wal_bytes: Option<f64>,
    /// Written by the worker's other statements.
    pub(crate) other_wal_bytes: Option<f64>,
    /// Dead rows left in `chat` and `sync`.
    pub(crate) dead_rows: Option<f64>,
    /// Rows of `chat` added.
    pub(crate) chat_rows_inserted: Option<f64>,
    /// Rows of `chat` updated or deleted.
    pub(crate) chat_rows_rewritten: Option<f64>,
    /// Autovacuum's runs on the tables: they take time and remove dead rows.
    pub(crate) autovacuums: Option<f64>,
    /// The API's latency as measured by its client.
    pub(crate) mean_latency_ms: Option<f64>,
    /// The worker's statements that took the most time.
    pub(crate) costliest: Vec<Statement>,
}

/// A statement in `pg_stat_statements`.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) calls: i64,
    pub(crate) total_ms: f64,
    pub(crate) rows: i64,
    pub(crate) wal_bytes: i64,
}

/// All repetitions of a phase.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    /// `sizes`, `latency`, `two-workers` or `growth`.
    pub(crate) series: &'static str,
    /// What distinguishes it within its series: the number of orders, or of earlier orders.
    pub(crate) size: u32,
    pub(crate) name: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// A column of [`Sample`].
pub(crate) type Column = fn(&Sample) -> Option<f64>;

impl Sample {
    /// Clears what concerns the tables of `chat` and `sync`, and workers.
    pub(crate) fn elsewhere(self) -> Self {
        Self {
            statements: None,
            queue_wal_bytes: None,
            other_wal_bytes: None,
            dead_rows: None,
            chat_rows_inserted: None,
            chat_rows_rewritten: None,
            autovacuums: None,
            costliest: Vec::new(),
            ..self
        }
    }

    pub(crate) fn orders_per_second(&self) -> f64 {
        f64::from(self.orders) / self.wall_seconds
    }

    #[expect(clippy::cast_precision_loss, reason = "far from 2^52")]
    pub(crate) fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.wall_seconds
    }
}

impl Phase {
    /// Returns the median of a column, if it is known.
    pub(crate) fn median(&self, column: Column) -> Option<f64> {
        median(self.samples.iter().filter_map(column).collect())
    }

    /// Returns the same per order.
    pub(crate) fn median_per_order(&self, column: Column) -> Option<f64> {
        let orders = self.samples.first()?.orders;
        Some(self.median(column)? / f64::from(orders))
    }
}

/// The phases measured so far.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) phases: Vec<Phase>,
}

impl Results {
    /// Adds a repetition, and prints it to standard error.
    pub(crate) fn add(&mut self, series: &'static str, size: u32, name: &'static str, sample: Sample) {
        let per_second = sample.orders_per_second();
        eprintln!("{series} {size} {name}: {:.2} s, {per_second:.0} orders/s", sample.wall_seconds);
        let known = |phase: &&mut Phase| (phase.series, phase.size, phase.name) == (series, size, name);
        match self.phases.iter_mut().find(known) {
            Some(phase) => phase.samples.push(sample),
            None => self.phases.push(Phase { series, size, name, samples: vec![sample] }),
        }
    }

    pub(crate) fn find(&self, series: &str, size: u32, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| (phase.series, phase.size, phase.name) == (series, size, name))
    }

    /// Returns the median, over the repetitions, of how many times as fast one phase was as another.
    pub(crate) fn paired_ratio(&self, series: &str, size: u32, one: &str, other: &str) -> Option<f64> {
        let (one, other) = (self.find(series, size, one)?, self.find(series, size, other)?);
        let pairs = one.samples.iter().zip(&other.samples);
        median(pairs.map(|(one, other)| one.orders_per_second() / other.orders_per_second()).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, values[middle]))
    } else {
        values.get(middle).copied()
    }
}
