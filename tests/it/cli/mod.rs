//! The real binary as its users see it: output, exit codes, and behaviour under failures.
//!
//! One file per group of commands; shared helpers are at the bottom.

mod configuration;
mod demo;
mod enqueue;
mod exports;
mod feed;
mod losses;
mod maintenance;
mod own;
mod plan;
mod servers;
mod status;
mod sync;
mod terminal;
mod upgrade;
mod why;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio::process::Child;

use crate::support::{Finished, Lab, Labs};

pub(crate) fn tests(labs: &Arc<Labs>) -> Vec<Trial> {
    let groups = [
        configuration::tests,
        demo::tests,
        enqueue::tests,
        exports::tests,
        feed::tests,
        losses::tests,
        maintenance::tests,
        own::tests,
        plan::tests,
        servers::tests,
        status::tests,
        sync::tests,
        terminal::tests,
        upgrade::tests,
        why::tests,
    ];
    groups.iter().flat_map(|tests| tests(labs)).collect()
}

/// Sends a signal to a running command.
fn send(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let id = child.id().context("it has ended already")?;
    Ok(kill(Pid::from_raw(id.try_into()?), signal)?)
}

/// Parses standard output, which must be one JSON object.
fn only_json(finished: &Finished) -> anyhow::Result<Value> {
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
    let value: Value = serde_json::from_str(&finished.stdout)?;
    assert!(value.is_object(), "{value}");
    Ok(value)
}

/// Fails if `text` contains any of `secrets`.
fn assert_hides<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret:?} shows in:\n{text}");
    }
}

/// Creates a second, empty database, and drops it after `test` in any case.
pub(crate) async fn with_empty_database(
    lab: &Lab,
    test: impl AsyncFnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    with_database(lab, "", test).await
}

/// As above, created with these options.
async fn with_database(
    lab: &Lab,
    options: &str,
    test: impl AsyncFnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut url = url::Url::parse(lab.url())?;
    let name = format!("{}_empty", url.path().trim_start_matches('/'));
    url.set_path(&name);
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name} {options}"))).execute(&lab.pool).await?;
    let result = AssertUnwindSafe(test(url.as_str())).catch_unwind().await;
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&lab.pool).await?;
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// `chatsync migrate` of the database at `url`.
async fn migrate(lab: &Lab, url: &str) -> anyhow::Result<Finished> {
    let mut command = lab.command(&["migrate"]);
    command.env("DATABASE_URL", url);
    Finished::of(command).await
}

/// Writes a file in the home directory of the lab. Returns its path as an argument.
pub(crate) fn write_file(lab: &Lab, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<String> {
    let path = lab.home.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    std::fs::write(&path, content)?;
    path.into_os_string().into_string().ok().context("a path in UTF-8")
}
