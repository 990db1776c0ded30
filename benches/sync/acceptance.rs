//! The project's promises, as ratios of medians of one run. Where two phases are close, the median of the ratios of
//! each repetition counts.

use serde::Serialize;

use crate::sample::{Column, Results};
use crate::series::{growth, latency, sizes, two_workers};

/// The number of orders that the promises are about.
const SIZE: u32 = 20_000;
const MEBIBYTE: f64 = 1_048_576.0;

/// A promise, and the measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Criterion {
    pub(crate) text: String,
    pub(crate) bound: Bound,
    /// `None` if it was not measured in this run.
    pub(crate) measured: Option<f64>,
    pub(crate) is_kept: Option<bool>,
}

/// The allowed side of a number.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) fn criteria(results: &Results) -> Vec<Criterion> {
    let of = |name| rate(results, sizes::NAME, SIZE, name);
    let first = of("first");
    let paired = |other| results.paired_ratio(sizes::NAME, SIZE, "first", other);
    let mut criteria = vec![
        criterion("first / first_socket, orders/s, pairs", Bound::AtLeast(0.95), paired("first_socket")),
        criterion("first / limit_upsert, orders/s, pairs", Bound::AtLeast(0.65), paired("limit_upsert")),
        criterion(
            "resync / limit_upsert_again, orders/s",
            Bound::AtLeast(0.6),
            ratio(of("resync"), of("limit_upsert_again")),
        ),
        criterion("resync / first, orders/s", Bound::AtLeast(1.5), ratio(of("resync"), first)),
    ];
    criteria.push(latency(results, first));
    criteria.extend(memory(results));
    criteria.extend(growth(results));
    criteria.extend(resync(results));
    let workers = |name| rate(results, two_workers::NAME, two_workers::ORDERS, name);
    criteria.push(criterion(
        "two workers / one, orders/s, 50 ms of latency",
        Bound::AtLeast(1.5),
        ratio(workers("two_workers"), workers("one_worker")),
    ));
    criteria
}

/// With latency, relative to the limit of requests in flight or to the run without latency, whichever is less.
fn latency(results: &Results, first: Option<f64>) -> Criterion {
    let by_latency = f64::from(latency::IN_FLIGHT) * 1_000.0 / f64::from(latency::LATENCY_MS);
    let measured = rate(results, latency::NAME, latency::ORDERS, "first");
    criterion(
        "50 ms of latency, 200 in flight: orders/s / min(4,000, first)",
        Bound::AtLeast(0.95),
        ratio(measured, first.map(|first| first.min(by_latency))),
    )
}

fn memory(results: &Results) -> [Criterion; 3] {
    let column: Column = |sample| sample.peak_resident_bytes;
    let small = median(results, sizes::NAME, SIZE, "first", column).map(|bytes| bytes / MEBIBYTE);
    let large = median(results, growth::NAME, 1_000_000, "load", column).map(|bytes| bytes / MEBIBYTE);
    [
        criterion("peak memory, 20,000 orders, MiB", Bound::AtMost(64.0), small),
        criterion("peak memory, 1,000,000 orders, MiB", Bound::AtMost(64.0), large),
        criterion("the larger of both / the smaller", Bound::AtMost(1.1), {
            small.zip(large).map(|(small, large)| small.max(large) / small.min(large))
        }),
    ]
}

fn growth(results: &Results) -> [Criterion; 4] {
    let slower = |name| {
        let time = |before| median(results, growth::NAME, before, name, |sample| Some(sample.wall_seconds));
        ratio(time(1_000_000), time(10_000))
    };
    let at_most = |text, name| {
        let text = format!("{text}: time per order with 1,000,000 in the tables / with 10,000");
        criterion(&text, Bound::AtMost(1.25), slower(name))
    };
    let limit = "that of first / that of PostgreSQL's own COPY into the same tables";
    [
        at_most("first, ids that look random", "first"),
        criterion(limit, Bound::AtMost(1.0), ratio(slower("first"), slower("limit_copy"))),
        at_most("first, ids that rise", "first_rising"),
        at_most("resync", "resync"),
    ]
}

fn resync(results: &Results) -> [Criterion; 3] {
    let per_order = |name, column| results.find(sizes::NAME, SIZE, name)?.median_per_order(column);
    let wal: Column = |sample| sample.wal_bytes;
    let beyond_queue: Column = |sample| Some(sample.wal_bytes? - sample.queue_wal_bytes?);
    let beyond_bulk = per_order("resync", wal).zip(per_order("limit_queue", wal)).map(|(resync, queue)| resync - queue);
    let touched: Column = |sample| Some(sample.chat_rows_inserted? + sample.chat_rows_rewritten?);
    [
        criterion(
            "resync: WAL bytes per order, statements on the queue left out",
            Bound::AtMost(200.0),
            per_order("resync", beyond_queue),
        ),
        criterion("resync: WAL bytes per order beyond limit_queue", Bound::AtMost(200.0), beyond_bulk),
        criterion(
            "resync: rows of chat touched",
            Bound::AtMost(0.0),
            median(results, sizes::NAME, SIZE, "resync", touched),
        ),
    ]
}

fn criterion(text: &str, bound: Bound, measured: Option<f64>) -> Criterion {
    let is_kept = measured.map(|measured| match bound {
        Bound::AtLeast(least) => measured >= least,
        Bound::AtMost(most) => measured <= most,
    });
    Criterion { text: text.to_owned(), bound, measured, is_kept }
}

fn rate(results: &Results, series: &str, size: u32, name: &str) -> Option<f64> {
    median(results, series, size, name, |sample| Some(sample.orders_per_second()))
}

fn median(results: &Results, series: &str, size: u32, name: &str, column: Column) -> Option<f64> {
    results.find(series, size, name)?.median(column)
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}
