//! `chatsync demo`: all of chatsync in one command, without installation or configuration.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat};
use secrecy::SecretString;

use super::database::Database;
use super::environment::{End, Environment};
use super::output::print;
use super::table::{one_line, table};
use super::{status, stderr, sync};
use crate::config::{self, Auth, ClientCredentials, Needs, Secret, Settings, Sources};
use crate::db::queue::{self, Feeding};
use crate::db::report::{self, demo};
use crate::db::runs::Trigger;
use crate::db::{self, Store};
use crate::domain::{NewOrder, OrderId};
use crate::embedded::{self, DataDir};
use crate::simulator::{self, Options};
use crate::sync::Request;

/// Try everything at once: an embedded PostgreSQL, a simulated API, a sync, a look at the tables.
///
/// Needs no configuration, ignores an existing one, and leaves nothing behind.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many orders to sync
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    orders: u64,

    /// Keep the database, and print commands to look at it
    #[arg(long)]
    keep: bool,
}

pub(super) async fn demo(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let mut settings = config::load(&Sources::built_in(), Needs::Database)?;
    // Losses are explained below.
    settings.log.level = format!("warn,{}=off", crate::sync::LOSSES);
    crate::telemetry::init(&settings.log, stderr::log, stderr::has_colours());

    print("Starting PostgreSQL and a simulated Instacart Connect API …")?;
    let database = Database::start(data_dir(environment, args.keep)?, &settings.database, &environment.shutdown.soft);
    let database = environment.unless_stopped(database).await?;
    // Some orders are unknown to the API, some have expired. Each order has its own Connect user and so its own token.
    // A little latency, to have something to watch.
    let options = Options { orders: args.orders, latency: std::time::Duration::from_millis(40), ..Options::default() };
    let api = simulator::start((Ipv4Addr::LOCALHOST, 0).into(), options.clone()).await?;
    point_at(&mut settings, &api.base_url())?;
    let embedded = database.embedded().map(embedded::Embedded::description).unwrap_or_default();
    print(format!("  database   {embedded}\n  API        {}\n", api.base_url()))?;

    let result = show(environment, &settings, &database, &options).await;

    let look = database.embedded().map(|embedded| (embedded.data_dir().to_owned(), embedded.look_commands()));
    api.stop().await;
    database.close().await?;
    let end = result?;
    match look {
        Some((directory, look)) if args.keep => print(format!(
            "The database is kept in {}. To look at it:\n  {}\n  {}\n  {}",
            directory.display(),
            look.start,
            look.psql,
            look.stop,
        ))?,
        _ => print("Everything was removed; with --keep the database stays for you to look at.")?,
    }
    Ok(end)
}

async fn show(
    environment: &Environment,
    settings: &Settings,
    database: &Database,
    options: &Options,
) -> anyhow::Result<End> {
    let store = &database.store;
    store.run("migrate", |mut transaction| async move { db::migrate(&mut transaction).await }).await?;
    let added = enqueue(database, options).await?;
    print(format!("{added} orders enqueued. Syncing:\n"))?;
    let worker = sync::worker(settings, database)?;
    let request = Request::all(Trigger::Manual);
    let report = sync::run_with_progress(environment, &worker, &request).await?;

    print("What an operator sees\n")?;
    print(sync::summary(&report.run))?;
    if report.run.counters.lost > 0 {
        print(format!(
            "  The simulated API had forgotten {} orders before the first read, to show what that\n  \
             looks like. In real life that is a loss, and `chatsync sync` would exit with 3.",
            report.run.counters.lost
        ))?;
    }
    let rows = report::status::status(store, 0, DateTime::UNIX_EPOCH).await?;
    print(status::queue_text(&rows.overview))?;

    print("\nWhat an analyst sees\n")?;
    let coverage = rows.coverage.into_iter().map(|(coverage, orders)| [coverage, orders.to_string()]);
    print(table(&["coverage (chat.orders)", "orders"], coverage))?;
    if let Some(order_id) = demo::lively_order(store).await? {
        print(format!("\nOne conversation (chat.messages, chat.users), order {}", one_line(&order_id)))?;
        print(conversation(store, &order_id).await?)?;
    }
    let prompt = demo::promptest_shoppers(store, 5).await?.into_iter().map(|shopper| {
        let name = shopper.name.as_deref().map_or_else(|| "unnamed".to_owned(), one_line);
        [name, shopper.answers.to_string(), format!("{:.0} s", shopper.median_seconds)]
    });
    print("\nWho answers customers fastest")?;
    print(table(&["shopper", "answers", "median time to answer"], prompt))?;
    print("")?;
    // A failure remains a failure; losses are expected in the demo.
    Ok(match sync::end_of(report) {
        End::Partial => End::Good,
        end => end,
    })
}

async fn conversation(store: &Store, order_id: &str) -> anyhow::Result<comfy_table::Table> {
    let lines = demo::conversation(store, order_id).await?.into_iter().map(|line| {
        let text = match (line.body, line.image_url) {
            (Some(body), Some(_)) if !body.is_empty() => format!("{} [image]", one_line(&body)),
            (Some(body), None) => one_line(&body),
            _ => "[image]".to_owned(),
        };
        let sender = line.sender_name.or(line.sender_type).unwrap_or_default();
        [
            line.created_at.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default(),
            one_line(&sender),
            text,
            if line.is_read == Some(true) { "✓".to_owned() } else { String::new() },
        ]
    });
    Ok(table(&["time", "sender", "message", "read"], lines))
}

async fn enqueue(database: &Database, options: &Options) -> anyhow::Result<u64> {
    let feeding = Feeding::of("demo");
    let mut added = 0;
    let mut listed = simulator::orders(options);
    loop {
        let batch: Vec<NewOrder> = listed
            .by_ref()
            .take(5_000)
            .map(|order| {
                let user = Some(order.connect_user_id);
                OrderId::new(order.order_id).map(|id| NewOrder { connect_user_id: user, ..NewOrder::new(id) })
            })
            .collect::<Result<_, _>>()?;
        if batch.is_empty() {
            return Ok(added);
        }
        added += queue::enqueue(&database.store, &batch, &feeding).await?.added;
    }
}

fn data_dir(environment: &Environment, keep: bool) -> anyhow::Result<DataDir> {
    if !keep {
        return Ok(DataDir::ThrowAway);
    }
    let data_dir: PathBuf = match &environment.data_dir {
        Some(data_dir) => data_dir.clone(),
        None => embedded::default_data_dir()?.join("demo"),
    };
    Ok(DataDir::Kept(data_dir))
}

/// Points the default settings at the simulator, with a high pace.
fn point_at(settings: &mut Settings, base_url: &str) -> anyhow::Result<()> {
    settings.api.base_url = base_url.parse()?;
    settings.auth = Some(Auth::UserAssertion(ClientCredentials {
        client_id: simulator::CLIENT_ID.to_owned(),
        client_secret: Secret::fixed(SecretString::from(simulator::CLIENT_SECRET)),
        scope: "connect:post_checkout".to_owned(),
        client_scope: "connect:post_checkout".to_owned(),
    }));
    settings.pace.initial_requests_per_second = 400.0;
    Ok(())
}
