//! `chatsync psql`: opens psql on the configured database.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::ExposeSecret;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::environment::{End, Environment};
use crate::config::{DatabaseLocation, Needs, normalise_url};
use crate::embedded::{DataDir, Embedded};

/// Open psql on the configured database.
///
/// Starts an embedded PostgreSQL if it does not run, and stops it afterwards if nothing else uses it. Everything after
/// "--" goes to psql: `chatsync psql -- -c 'SELECT count(*) FROM chat.messages'`. Exits with the code of psql.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Arguments for psql
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

pub(super) async fn psql(environment: &Environment, args: Args) -> anyhow::Result<End> {
    let settings = environment.settings(Needs::Database)?;
    match &settings.database.location {
        DatabaseLocation::Url(url) => run(Path::new("psql"), url.get().expose_secret(), args.arguments).await,
        DatabaseLocation::Embedded => {
            let data_dir = environment.existing_data_dir(&settings.database)?;
            let embedded = Embedded::start(DataDir::Kept(data_dir)).await?;
            let ended = run(&embedded.psql(), embedded.url(), args.arguments).await;
            embedded.stop().await?;
            ended
        }
    }
}

/// Runs psql to its end. Ctrl-C reaches psql directly, because it is in the foreground too; other signals are passed
/// on.
async fn run(program: &Path, url: &str, arguments: Vec<OsString>) -> anyhow::Result<End> {
    let mut terminate = signal(SignalKind::terminate())?;
    let child = Command::new(program).args(arguments).envs(variables(url)?).spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => anyhow::bail!(
            "psql is not installed: install PostgreSQL's client (Debian/Ubuntu: apt-get install postgresql-client; macOS: brew install libpq)"
        ),
        child => child.with_context(|| format!("cannot run {}", program.display()))?,
    };
    let process = child.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw);
    loop {
        tokio::select! {
            ended = child.wait() => {
                let code = ended?.code().and_then(|code| u8::try_from(code).ok());
                return Ok(End::Code(code.unwrap_or(1)));
            }
            Some(()) = terminate.recv() => {
                if let Some(process) = process {
                    // It may have ended already.
                    let _ = kill(process, Signal::SIGTERM);
                }
            }
        }
    }
}

/// Returns the connection as environment variables of psql: other users could see arguments.
fn variables(url: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let url = Url::parse(&normalise_url(url)?)?;
    let mut variables: Vec<(&'static str, String)> = Vec::new();
    for (name, value) in url.query_pairs() {
        let variable = match &*name {
            "host" => "PGHOST",
            "hostaddr" => "PGHOSTADDR",
            "port" => "PGPORT",
            "user" => "PGUSER",
            "password" => "PGPASSWORD",
            "dbname" => "PGDATABASE",
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            "application_name" => "PGAPPNAME",
            "options" => "PGOPTIONS",
            _ => continue,
        };
        variables.push((variable, value.into_owned()));
    }
    Ok(variables)
}
