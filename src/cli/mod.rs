//! The command line: one file per command, and shared helpers.
//!
//! [`main`] sets up logging and signals, runs the command, and converts its end to an exit code. Data goes to standard
//! output; logs, progress and errors to standard error.

mod confirm;
mod database;
mod demo;
mod enqueue;
mod environment;
mod failure;
mod migrate;
mod output;
mod plan;
mod progress;
mod psql;
mod retry;
mod run;
mod simulate;
mod status;
mod stderr;
mod sync;
mod table;
mod times;
mod variables;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::config::{Problems, Sources};
use crate::connect::NoClient;
use crate::feed::FeedError;
use crate::shutdown::Shutdown;
use crate::visible::visible;
use environment::{End, Environment};
use output::note;
pub use variables::leave_out_empty_variables;

/// Copies the conversations of Instacart Connect orders into PostgreSQL before the API deletes them.
///
/// Exit codes: 0 every due order is up to date; 1 it could not proceed; 2 usage or configuration; 3 it finished, but
/// some orders (or lines) failed, are held back, or were found lost.
#[derive(Debug, Parser)]
#[command(version, propagate_version = false, color = stderr::colour_choice())]
pub struct Cli {
    /// Configuration file (TOML); default: the first of config/local.toml, ~/.config/chatsync/chatsync.toml and
    /// /etc/chatsync/chatsync.toml that exists
    #[arg(long, value_name = "FILE", global = true, help_heading = "Global options")]
    config: Option<PathBuf>,

    /// Directory of the embedded PostgreSQL; default: chatsync in your data directory, for root /var/lib/chatsync
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global options")]
    data_dir: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply the migrations to the database
    Migrate,
    /// Add order ids to the queue
    Enqueue(enqueue::Args),
    /// Fetch everything that is due, once
    Sync(sync::Args),
    /// Stay and fetch on schedule
    Run,
    /// Show the queue and the latest runs
    Status(status::Args),
    /// Explain one order: what was done, what is known, what comes next
    Why(why::Args),
    /// Predict a run that starts now: orders, requests, time, missed deadlines
    Plan(plan::Args),
    /// Put orders back into the queue
    Retry(retry::Args),
    /// Accept results that the storm guard holds back
    Confirm(confirm::Args),
    /// Open psql on the configured database
    Psql(psql::Args),
    /// Try everything at once: embedded PostgreSQL, simulated API, a sync, a look at the tables
    Demo(demo::Args),
    /// Serve a simulated Connect API
    Simulate(simulate::Args),
}

/// Parses the arguments of the process. Help and version exit here. Usage errors are printed; the result is the exit
/// code.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // Clap quotes arguments unescaped, between colour codes. Parsing escaped arguments again gives the same message
        // about these.
        let shown = std::env::args_os().map(|argument| visible(&argument.to_string_lossy()).into_owned());
        if let Err(shown) = Cli::try_parse_from(shown) {
            shown.exit();
        }
        note(error.render().to_string().trim_end());
        stderr::flush();
        ExitCode::from(2)
    })
}

/// Runs the command and returns its exit code.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        // Spawned, so that it shares threads with its tasks: waking another thread for every fetched order took a
        // quarter of the kernel time of a run.
        .and_then(|runtime| {
            runtime.block_on(runtime.spawn(dispatch(cli))).context("a bug: the command ended abnormally")?
        });
    let code = match result {
        Ok(end) => end.into(),
        Err(error) => {
            note(format!("error: {}", failure::report(&error)));
            let is_usage = error.is::<Problems>()
                || matches!(error.downcast_ref(), Some(FeedError::Refused(_)))
                || matches!(error.downcast_ref(), Some(NoClient::Proxy { .. }));
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    };
    stderr::flush();
    code
}

async fn dispatch(cli: Cli) -> anyhow::Result<End> {
    let environment = Environment {
        sources: Sources::of_process(cli.config),
        data_dir: cli.data_dir,
        shutdown: Shutdown::on_signals().context("cannot listen for signals")?,
    };
    let is_interactive = matches!(cli.command, Command::Psql(_));
    let command = async {
        match cli.command {
            Command::Migrate => environment.unless_stopped(migrate::migrate(&environment)).await,
            Command::Enqueue(args) => enqueue::enqueue(&environment, args).await,
            Command::Sync(args) => sync::sync(&environment, args).await,
            Command::Run => run::run(&environment).await,
            Command::Status(args) => environment.unless_stopped(status::status(&environment, args)).await,
            Command::Why(args) => environment.unless_stopped(why::why(&environment, args)).await,
            Command::Plan(args) => environment.unless_stopped(plan::plan(&environment, args)).await,
            Command::Retry(args) => environment.unless_stopped(retry::retry(&environment, args)).await,
            Command::Confirm(args) => environment.unless_stopped(confirm::confirm(&environment, args)).await,
            Command::Psql(args) => psql::psql(&environment, args).await,
            Command::Demo(args) => demo::demo(&environment, args).await,
            Command::Simulate(args) => simulate::simulate(&environment, args).await,
        }
    };
    if is_interactive {
        // The program that it runs handles the signals.
        return command.await;
    }
    // Dropping the command stops an embedded PostgreSQL.
    match environment.shutdown.hard.run_until_cancelled(Box::pin(command)).await {
        Some(end) => end,
        None => anyhow::bail!("aborted by a second signal; orders that were held come free when their leases end"),
    }
}
