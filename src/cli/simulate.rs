//! `chatsync simulate`: serves only the simulated API.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;

use super::environment::{End, Environment};
use super::output::{print, unless_gone};
use crate::config::{Needs, parse_duration};
use crate::simulator::{self, InjectedFault, Lifecycle, Options, ReplyAge};

/// Serve a simulated Connect API, to try chatsync without credentials and for tests.
///
/// Conversations follow from the seed and the order id, so they are the same at every start. It accepts client id
/// "simulated-client" with secret "simulated-secret", and the static token "simulated-token".
#[derive(Debug, clap::Args)]
#[command(after_long_help = simulator::help())]
pub(super) struct Args {
    /// Where to listen; port 0: any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Print the orders and their users as CSV for `enqueue`, and exit; with a lifecycle, those placed so far
    #[arg(long)]
    list_orders: bool,

    /// Another seed, other orders and conversations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How many orders --list-orders prints
    #[arg(long, value_name = "N", default_value_t = 500)]
    orders: u64,

    /// How many Connect users own the orders; 0: one for every order
    #[arg(long, value_name = "N", default_value_t = 0)]
    users: u64,

    /// Added to each conversation's reply
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    latency: Option<Duration>,

    /// Share of the orders that answer 404
    #[arg(long, value_name = "SHARE", default_value_t = 0.03, value_parser = share)]
    not_found: f64,

    /// Share of the orders that are expired
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    expired: f64,

    /// More requests in a second are answered with 429; 0: no limit
    #[arg(long, value_name = "N")]
    max_requests_per_second: Option<u32>,

    /// How long a token lives
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    token_lifetime: Duration,

    /// Whether replies mark expired conversations (new) or not (old)
    #[arg(long, value_enum, default_value_t = Age::New)]
    reply_age: Age,

    /// Read receipts appear after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    read_after: Option<Duration>,

    /// Orders come and go: each is placed within this time, is completed one to five hours later, and is readable for another
    /// 24 hours; messages appear one by one, and --expired has no meaning
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lifecycle: Option<Duration>,

    /// When the lifecycle begins, such as 2026-01-31T18:00:00Z [default: now]
    #[arg(long, value_name = "TIME", requires = "lifecycle")]
    epoch: Option<DateTime<Utc>>,

    /// Make some requests fail, such as errors=0.3 or latency-spike=0.05:2s; --help lists all (repeatable)
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<InjectedFault>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Age {
    Old,
    New,
}

pub(super) async fn simulate(environment: &Environment, args: Args) -> anyhow::Result<End> {
    environment.settings(Needs::Database)?;
    let (listen, list_orders) = (args.listen, args.list_orders);
    let options = options(&args);
    if list_orders {
        unless_gone(print_orders(&options)).context("cannot print the orders")?;
        return Ok(End::Good);
    }
    let running = simulator::start(listen, options).await.with_context(|| format!("cannot listen on {listen}"))?;
    print(format!("the simulated API listens on {}", running.base_url()))?;
    environment.shutdown.soft.cancelled().await;
    running.stop().await;
    Ok(End::Good)
}

fn options(args: &Args) -> Options {
    Options {
        seed: args.seed,
        orders: args.orders,
        users: args.users,
        latency: args.latency.unwrap_or_default(),
        not_found_share: args.not_found,
        expired_share: args.expired,
        max_requests_per_second: args.max_requests_per_second.filter(|ceiling| *ceiling > 0),
        token_lifetime: args.token_lifetime,
        reply_age: match args.reply_age {
            Age::Old => ReplyAge::Old,
            Age::New => ReplyAge::New,
        },
        read_after: args.read_after,
        faults: args.faults.clone(),
        lifecycle: args.lifecycle.map(|span| Lifecycle { epoch: args.epoch.unwrap_or_else(Utc::now), span }),
        ..Options::default()
    }
}

fn print_orders(options: &Options) -> io::Result<()> {
    // The conversion of csv to an I/O error loses its kind.
    let failed = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    };
    let mut out = csv::Writer::from_writer(io::BufWriter::new(io::stdout().lock()));
    let columns = if options.lifecycle.is_some() { 3 } else { 2 };
    out.write_record(&["order_id", "connect_user_id", "completed_at"][..columns]).map_err(failed)?;
    let now = Utc::now();
    for order in simulator::orders(options).filter(|order| order.is_placed(now)) {
        let completed_at = order.completed_by(now).map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        let fields = [order.order_id, order.connect_user_id, completed_at.unwrap_or_default()];
        out.write_record(&fields[..columns]).map_err(failed)?;
    }
    out.flush()
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("write a share from 0 to 1".to_owned()),
    }
}
