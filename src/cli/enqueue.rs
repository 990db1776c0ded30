//! `chatsync enqueue`: order ids from a file or standard input into the queue.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use super::database::{Database, Migrations};
use super::output::{note, print};
use super::{End, Environment};
use crate::config::Needs;
use crate::db;
use crate::db::queue::{self, Enqueued};
use crate::domain::feed::{BadLine, Feed, FeedError};
use crate::domain::{NewOrder, OrderId};

/// Orders sent to the database at once.
const BATCH: usize = 5_000;

/// Add order ids to the queue. Orders that are known already stay as they are.
///
/// Three formats, told apart by the first line: one id per line; CSV with a header (`order_id`, and if need be
/// `connect_user_id`, `completed_at`, `retailer_id`, `ids_internal`, `priority`); NDJSON with the same names.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to read; "-" or nothing: standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Connect user whose token may read the orders, for lines that name none
    #[arg(long, value_name = "USER")]
    user_id: Option<String>,

    /// The ids are Instacart's internal ones
    #[arg(long)]
    internal_ids: bool,

    /// Higher is fetched first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i16,

    /// Fetch known orders again, whatever their state
    #[arg(long)]
    reopen: bool,
}

/// What the reading task hands over.
struct Batch {
    orders: Vec<NewOrder>,
    bad: Vec<BadLine>,
}

pub(super) async fn enqueue(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let (input, source) = open(args.file.as_deref())?;
    let template = NewOrder {
        connect_user_id: args.user_id.filter(|user| !user.is_empty()),
        ids_internal: args.internal_ids.then_some(true),
        priority: args.priority,
        ..NewOrder::new(OrderId::new("template").expect("a constant, and valid"))
    };
    let database = Database::open(environment, &settings.database, Migrations::AsConfigured).await?;
    // Reading blocks, so it has a thread of its own; two batches at most wait for the database. Not one of the
    // runtime's threads: the end of the program waits for those, and standard input may never end.
    let (out, mut batches) = mpsc::channel(1);
    let (end, reading) = oneshot::channel();
    std::thread::spawn(move || end.send(read(Feed::new(input, template), &out)));
    let stop = &environment.shutdown.soft;
    let mut total = Enqueued::default();
    let (mut lines, mut rejected) = (0_u64, 0_u64);
    while let Some(Batch { orders, bad }) = stop.run_until_cancelled(batches.recv()).await.flatten() {
        for BadLine { line, reason } in &bad {
            note(format!("line {line}: {reason}"));
        }
        rejected += bad.len() as u64;
        lines += orders.len() as u64;
        let (orders, source) = (&orders, &source);
        let add = |mut connection: db::Link| async move {
            queue::enqueue(&mut *connection, orders, source, args.reopen).await
        };
        let enqueued = database.store.run(add).await?;
        total.added += enqueued.added;
        total.updated += enqueued.updated;
    }
    let known = lines - total.added;
    let put_back = if args.reopen { format!(" ({} put back)", total.updated) } else { String::new() };
    print(format!("{} added, {known} already known{put_back}, {rejected} rejected", total.added))?;
    // What was read before is in the queue and was told; now what ended the reading.
    match stop.run_until_cancelled(reading).await {
        Some(end) => end.context("reading ended abnormally")??,
        None => anyhow::bail!("stopped by a signal before the end of the orders; enqueue them again"),
    }
    database.close().await?;
    Ok(if rejected > 0 { End::Partial } else { End::Good })
}

/// Sends batches until the input ends, fails, or nobody wants more.
fn read(mut feed: Feed<Box<dyn BufRead + Send>>, out: &mpsc::Sender<Batch>) -> Result<(), FeedError> {
    loop {
        let mut batch = Batch { orders: Vec::new(), bad: Vec::new() };
        let mut end = None;
        while batch.orders.len() + batch.bad.len() < BATCH && end.is_none() {
            match feed.next() {
                Some(Ok(Ok(order))) => batch.orders.push(order),
                Some(Ok(Err(bad))) => batch.bad.push(bad),
                Some(Err(error)) => end = Some(Err(error)),
                None => end = Some(Ok(())),
            }
        }
        if out.blocking_send(batch).is_err() {
            return Ok(());
        }
        if let Some(end) = end {
            return end;
        }
    }
}

fn open(file: Option<&Path>) -> anyhow::Result<(Box<dyn BufRead + Send>, String)> {
    if let Some(path) = file.filter(|file| *file != Path::new("-")) {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        return Ok((Box::new(BufReader::new(file)), path.display().to_string()));
    }
    if io::stdin().is_terminal() {
        note("reading order ids from standard input, one per line; end with Ctrl-D");
    }
    Ok((Box::new(BufReader::new(io::stdin())), "stdin".to_owned()))
}
