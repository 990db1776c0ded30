//! `chatsync enqueue`: adds order ids from a file or standard input to the queue.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::database::{Database, Migrations};
use super::environment::{End, Environment};
use super::output::{note, print};
use crate::config::{AuthMode, Needs};
use crate::db::Store;
use crate::db::queue::{self, Defaults, Feeding};
use crate::domain::NewOrder;
use crate::feed::{self, BadLine, Choice, Feed, Rounded};

const BATCH: usize = 5_000;

/// Add order ids to the queue. Known orders keep their values; missing ones are filled in.
///
/// Reads one id per line; CSV with a header (`order_id`, and if needed `connect_user_id`, `completed_at`,
/// `retailer_id`, `ids_internal`, `priority`), also with tabs or semicolons; and JSON with the same names, as one
/// object per line or in an array. UTF-8 or UTF-16, gzip or not. The first 64 KiB decide the format; a file that is no
/// list of orders is refused before anything is added.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to read; "-" or nothing: standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// How to read it
    #[arg(long, value_enum, default_value_t)]
    format: Choice,

    /// Connect user whose token may read the orders, for lines that name none
    #[arg(long, value_name = "USER", value_parser = user)]
    user_id: Option<String>,

    /// The ids are Instacart's internal ones
    #[arg(long)]
    internal_ids: bool,

    /// Higher is fetched first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,

    /// Fetch known orders again, whatever their state
    #[arg(long)]
    reopen: bool,
}

/// Lines that the reading thread sends.
#[derive(Default)]
struct Batch {
    orders: Vec<NewOrder>,
    bad: Vec<BadLine>,
    /// Number of the last line in it.
    line: u64,
    /// Ids so far that a spreadsheet may have rounded.
    rounded: Option<Rounded>,
    is_last: bool,
}

/// Counts of all lines so far.
#[derive(Default)]
struct Summary {
    orders: u64,
    added: u64,
    updated: u64,
    rejected: u64,
    lacks_users: bool,
    /// All orders up to this line are in the queue.
    line: u64,
}

pub(super) async fn enqueue(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    let stop = &environment.shutdown.soft;
    let file = args.file.filter(|file| file != Path::new("-"));
    let feeding = Feeding {
        reopen: args.reopen,
        defaults: Defaults {
            connect_user_id: args.user_id.filter(|user| !user.is_empty()),
            ids_internal: args.internal_ids.then_some(true),
            retailer_id: None,
            priority: args.priority,
        },
        ..Feeding::of(file.as_ref().map_or_else(|| "stdin".to_owned(), |file| file.display().to_string()))
    };
    let mut batches = start_reading(file, args.format);
    // Read first: a refused file needs no database.
    let Some(first) = stop.run_until_cancelled(batches.recv()).await else {
        anyhow::bail!("stopped by a signal before anything was read");
    };
    first.context("reading ended abnormally")??;
    let database = Database::open(environment, &settings.database, Migrations::AsConfigured).await?;
    let mut summary = Summary::default();
    let ended = add_all(&database.store, &feeding, &mut batches, &mut summary, stop).await;
    let Summary { orders, added, updated, rejected, lacks_users, line } = summary;
    let known = orders - added - updated;
    let updated = if args.reopen { format!("{updated} put back") } else { format!("{updated} updated") };
    print(format!("{added} added, {updated}, {known} already known, {rejected} rejected"))?;
    // Another line, or the queue, may know the user.
    if lacks_users
        && settings.auth_mode == AuthMode::UserAssertion
        && let Ok(without_user) = queue::count_without_user(&database.store).await
        && without_user > 0
    {
        note(format!(
            "warning: {without_user} orders in the queue have no user, and auth.mode = user_assertion needs one: add a column connect_user_id, or --user-id"
        ));
    }
    let rounded =
        ended.with_context(|| format!("{orders} orders, up to line {line}, are in the queue; feed the rest again"))?;
    if let Some(Rounded { ids, example: (id, line) }) = rounded {
        note(format!(
            "warning: {ids} ids are in scientific notation, such as {id} on line {line}: a spreadsheet may have cut off digits; format the column as text and export it again"
        ));
    }
    database.close().await?;
    Ok(if rejected > 0 { End::Partial } else { End::Good })
}

/// Adds batches until the last one. Returns the ids that may have been rounded.
async fn add_all(
    store: &Store,
    feeding: &Feeding,
    batches: &mut mpsc::Receiver<anyhow::Result<Batch>>,
    summary: &mut Summary,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Rounded>> {
    loop {
        let Some(batch) = stop.run_until_cancelled(batches.recv()).await else {
            anyhow::bail!("stopped by a signal before the end");
        };
        let Batch { orders, bad, line, rounded, is_last } = batch.context("reading ended abnormally")??;
        for BadLine { line, reason } in &bad {
            note(format!("line {line}: {reason}"));
        }
        summary.rejected += bad.len() as u64;
        let mut refused = 0;
        let mut parts = if orders.is_empty() { Vec::new() } else { vec![orders.as_slice()] };
        while let Some(part) = parts.pop() {
            // Not waited for after a signal. It is then unknown whether these orders were added, so they do not count.
            let Some(enqueued) = stop.run_until_cancelled(queue::enqueue(store, part, feeding)).await else {
                anyhow::bail!("stopped by a signal before the end");
            };
            match enqueued {
                Ok(enqueued) => {
                    summary.added += enqueued.added;
                    summary.updated += enqueued.updated;
                    for order in &enqueued.dropped {
                        note(format!("order {order}: a trigger or rule of the database has dropped or changed it"));
                    }
                    refused += enqueued.dropped.len() as u64;
                }
                // A constraint or trigger refuses one of them: the others are added.
                Err(error) if error.is_about_the_rows() && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) if error.is_about_the_rows() => {
                    note(format!("order {}: {error}", part[0].order_id));
                    refused += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        summary.lacks_users |=
            feeding.defaults.connect_user_id.is_none() && orders.iter().any(|order| order.connect_user_id.is_none());
        summary.orders += orders.len() as u64 - refused;
        summary.rejected += refused;
        summary.line = line;
        if is_last {
            return Ok(rounded);
        }
    }
}

/// Reads on a thread, because reading blocks; at most two batches wait for the database. Not on a thread of the
/// runtime: the program would wait for it at its end, and a pipe may never end or never be opened by a writer.
///
/// The first message is empty and means that the file is a list of orders.
fn start_reading(file: Option<PathBuf>, format: Choice) -> mpsc::Receiver<anyhow::Result<Batch>> {
    let (out, batches) = mpsc::channel(1);
    thread::spawn(move || {
        if let Err(error) = read(file.as_deref(), format, &out) {
            // The receiver is gone after a signal.
            let _ = out.blocking_send(Err(error));
        }
    });
    batches
}

/// Sends batches until the input ends or fails, or the receiver is gone.
fn read(file: Option<&Path>, format: Choice, out: &mpsc::Sender<anyhow::Result<Batch>>) -> anyhow::Result<()> {
    let mut feed = Feed::open(open(file)?, format)?;
    let mut batch = Batch::default();
    let (mut failure, mut line) = (None, 0);
    while !batch.is_last && failure.is_none() {
        if out.blocking_send(Ok(batch)).is_err() {
            return Ok(());
        }
        batch = Batch::default();
        while batch.orders.len() + batch.bad.len() < BATCH && !batch.is_last {
            match feed.next() {
                Some(Ok(Ok(order))) => batch.orders.push(order),
                Some(Ok(Err(bad))) => batch.bad.push(bad),
                Some(Err(error)) => {
                    failure = Some(error);
                    break;
                }
                None => batch.is_last = true,
            }
            line = feed.line();
        }
        batch.line = line;
        batch.rounded = feed.rounded().cloned();
    }
    // First send what was read, so that it is added and reported; then the failure.
    let _ = out.blocking_send(Ok(batch));
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

fn open(file: Option<&Path>) -> anyhow::Result<Box<dyn Read + Send>> {
    if let Some(path) = file {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        return Ok(Box::new(file));
    }
    if io::stdin().is_terminal() {
        note("reading order ids from standard input, one per line; end with Ctrl-D");
    }
    Ok(Box::new(io::stdin()))
}

/// Checks a user id as the column does. Empty means none.
fn user(text: &str) -> Result<String, String> {
    feed::id(text).map(Option::unwrap_or_default)
}
