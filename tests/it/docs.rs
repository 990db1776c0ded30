//! The examples in README and docs work: shell blocks run one after the other with the real binary, SQL and TOML blocks
//! unchanged.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use chatsync::config::{self, ConfigFile, Needs, Sources};
use chatsync::domain::{FailureKind, Then};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::{Finished, Lab, tests};

tests!(
    the_examples_work,
    the_pages_name_what_exists,
    the_two_commands_are_the_ones_that_ci_runs,
    the_documented_policy_is_the_one_in_force,
);

const README: &str = include_str!("../../README.md");

/// In the order in which their examples depend on each other.
const PAGES: [&str; 8] = [
    README,
    include_str!("../../docs/operating.md"),
    include_str!("../../docs/data.md"),
    include_str!("../../docs/configuration.md"),
    include_str!("../../docs/feeds.md"),
    include_str!("../../docs/running.md"),
    include_str!("../../docs/postgresql.md"),
    include_str!("../../docs/policy.md"),
];

async fn the_examples_work(lab: Arc<Lab>) -> anyhow::Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut script = String::from("set -eu\n");
    for block in all_blocks("sh") {
        script.push_str(&block);
        script.push('\n');
    }
    // The port of the example may be in use here, and a script cannot see when the simulated API is up.
    let start = script.lines().find(|line| line.starts_with("chatsync simulate &")).context("the simulator's line")?;
    let wait = format!(
        "chatsync simulate --listen 127.0.0.1:{port} > simulator.log &\n\
         trap \"kill $! ; wait\" EXIT\n\
         until grep -q listens simulator.log; do :; done"
    );
    let script = script.replace(start, &wait).replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));

    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_chatsync")).parent().context("a directory")?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = tokio::process::Command::new("bash");
    shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear();
    shell.current_dir(lab.home.path()).env("PATH", path).env("HOME", lab.home.path()).env("DATABASE_URL", lab.url());
    let run = Finished::of(shell).await?.expect_code(0);
    assert!(run.stdout.contains("500 added, 0 updated, 0 already known, 0 rejected"), "{}", run.stdout);
    assert!(run.stdout.contains("2 added"), "{}", run.stdout);
    assert!(run.stdout.contains("found lost"), "{}", run.stdout);

    let sql = all_blocks("sql");
    assert!(sql.len() >= 5);
    for block in sql {
        lab.pool.execute(AssertSqlSafe(block.clone())).await.with_context(|| block)?;
    }
    assert_eq!(lab.count("SELECT count(*) FROM sync.order_queue WHERE order_id LIKE 'C-%'").await?, 2);
    Ok(())
}

async fn the_pages_name_what_exists(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Configuration examples are valid, except for the files that they name.
    for (number, block) in all_blocks("toml").into_iter().enumerate() {
        let file = lab.home.path().join(format!("{number}.toml"));
        let secret = lab.home.path().join("secret");
        std::fs::write(&secret, "postgres://somewhere/db")?;
        let block = block
            .lines()
            .map(|line| match line.split_once(" = \"/run/secrets/") {
                Some((key, _)) => format!("{key} = \"{}\"\n", secret.display()),
                None => format!("{line}\n"),
            })
            .collect::<String>();
        std::fs::write(&file, block)?;
        let sources = Sources { file: ConfigFile::Given(file), ..Sources::built_in() };
        config::load(&sources, Needs::Credentials)?;
    }
    // Every mentioned key and table exists.
    let known = known_keys();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('sync', 'chat')")
            .fetch_all(&lab.pool)
            .await?;
    let sections =
        ["api", "auth", "pace", "database", "queue", "rejects", "breaker", "guard", "schedule", "admin", "log"];
    let mut mentioned = 0;
    let words = PAGES.iter().flat_map(|page| page.lines()).filter(|line| !line.starts_with("```"));
    for word in words.flat_map(|line| line.split('`').skip(1).step_by(2)) {
        let Some((first, rest)) = word.split_once('.') else { continue };
        let plain = rest.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if sections.contains(&first) && plain {
            assert!(known.contains(word), "{word} is no setting");
            mentioned += 1;
        } else if ["sync", "chat"].contains(&first) && plain {
            assert!(tables.iter().any(|table| table == word), "{word} is no table");
            mentioned += 1;
        }
    }
    assert!(mentioned > 10, "{mentioned}");
    Ok(())
}

async fn the_two_commands_are_the_ones_that_ci_runs(_lab: Arc<Lab>) -> anyhow::Result<()> {
    let first = blocks(README, "console").into_iter().next().context("the two commands")?;
    assert_eq!(first, "cargo run --release -- demo\ncargo test\n");
    let ci = include_str!("../../.ci/run");
    assert!(ci.contains("cargo test --locked") && ci.contains("chatsync\" demo"), "ci runs something else");
    Ok(())
}

async fn the_documented_policy_is_the_one_in_force(_lab: Arc<Lab>) -> anyhow::Result<()> {
    let page = include_str!("../../docs/policy.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .map(|line| line.split('|').map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.len() == 7)
        .collect();
    // The header, its line, and one row each.
    assert_eq!(rows.len(), FailureKind::ALL.len() + 2);
    let yes = |is_so| if is_so { "yes" } else { "no" };
    for kind in FailureKind::ALL {
        let name = format!("`{}`", kind.as_str());
        let row = rows.iter().find(|row| row[2] == name).with_context(|| name.clone())?;
        let policy = kind.policy();
        let then = match policy.then {
            Then::Later => "later",
            Then::LaterCounted => "later, counted",
            Then::Dead => "dead",
        };
        assert_eq!(row[3..6], [yes(policy.is_retried_at_once), then, yes(policy.hints_at_outage)], "{name}");
    }
    Ok(())
}

fn all_blocks(language: &str) -> Vec<String> {
    PAGES.iter().flat_map(|page| blocks(page, language)).collect()
}

/// Returns the fenced blocks of a page in one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if found == language {
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}

/// Returns the dotted keys of the defaults.
fn known_keys() -> BTreeSet<String> {
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in config::DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}
