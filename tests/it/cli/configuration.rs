//! Wrong settings and unreachable databases: everything is reported together with hints, and no secret shows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::{assert_hides, with_empty_database, write_file};
use crate::support::{Finished, Lab, tests};

tests!(
    all_problems_are_reported_together_with_key_origin_and_hint,
    missing_credentials_are_asked_for_by_name_and_only_by_commands_that_need_them,
    an_unknown_key_in_the_file_is_named_with_the_likely_one,
    a_file_that_is_missing_or_no_toml_is_a_configuration_error,
    the_file_yields_to_the_environment,
    the_first_file_in_a_usual_place_is_read,
    a_variable_with_single_underscores_is_refused_and_those_of_kubernetes_are_not,
    what_is_set_but_cannot_be_read_leads_to_no_other_database,
    of_two_database_urls_the_unused_one_is_named,
    unknown_flags_and_commands_are_usage_errors,
    every_command_explains_itself,
    an_unreachable_database_is_reported_without_its_password,
    a_refused_password_is_reported_without_showing_it,
    a_working_password_shows_at_no_log_level,
    a_database_without_tables_asks_for_migrate_unless_it_is_automatic,
);

const SECRET: &str = "hunter2-swordfish";

/// An API that is never asked.
const NOWHERE: &str = "http://127.0.0.1:1";

const COMMANDS: [&str; 8] = ["migrate", "enqueue", "sync", "run", "status", "retry", "demo", "simulate"];

async fn all_problems_are_reported_together_with_key_origin_and_hint(lab: Arc<Lab>) -> anyhow::Result<()> {
    write_file(
        &lab,
        "bad.toml",
        "[api]\nbase_url = 'ftp://connect.example.com'\ntimout = '5s'\n[schedule]\ncron = 'nightly'\n",
    )?;
    let mut command = careless(lab.command(&["--config", "bad.toml", "sync"]));
    command
        .env("DATABASE_URL", format!("mysql://chatsync:{SECRET}@db.example.com/chatsync"))
        .env("CHATSYNC__AUTH__TOKEN", SECRET)
        .env("CHATSYNC__QUEUE__LEASE", "soon");
    let finished = Finished::of(command).await?.expect_code(2);
    assert_eq!(finished.stdout, "");
    assert_hides(&finished.stderr, [SECRET, "panicked", "stack backtrace"]);
    assert!(finished.stderr.starts_with("error: the configuration has 7 problems:\n"), "{}", finished.stderr);
    for (key, origin, hint) in [
        ("api.timout", "bad.toml", "did you mean api.timeout?"),
        ("api.base_url", "bad.toml", "write it like https://connect.instacart.com"),
        ("auth.client_id", "the defaults", "CHATSYNC__AUTH__CLIENT_ID"),
        ("auth.client_secret", "the defaults", "CHATSYNC__AUTH__CLIENT_SECRET"),
        ("database.url", "DATABASE_URL", "write postgres://user:password@host:5432/name"),
        ("queue.lease", "CHATSYNC__QUEUE__LEASE", "write 500ms, 30s, 5m, 6h or 7d"),
        ("schedule.cron", "bad.toml", "write second, minute, hour,"),
    ] {
        assert_reported(&finished, key, origin, hint);
    }
    Ok(())
}

async fn missing_credentials_are_asked_for_by_name_and_only_by_commands_that_need_them(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    for command in ["sync", "run"] {
        let finished = Finished::of(lab.with_database(&[command])).await?.expect_code(2);
        assert_reported(&finished, "auth.client_id", "the defaults", "CHATSYNC__AUTH__CLIENT_ID");
        assert_reported(&finished, "auth.client_secret", "the defaults", "CHATSYNC__AUTH__CLIENT_SECRET");
    }
    let mut token_mode = lab.with_database(&["sync"]);
    token_mode.env("CHATSYNC__AUTH__MODE", "static_token");
    let finished = Finished::of(token_mode).await?.expect_code(2);
    assert_reported(&finished, "auth.token", "the defaults", "CHATSYNC__AUTH__TOKEN");
    for arguments in [&["migrate"][..], &["enqueue"], &["status"], &["retry", "--dead"]] {
        Finished::of(lab.with_database(arguments)).await?.expect_code(0);
    }
    Ok(())
}

async fn an_unknown_key_in_the_file_is_named_with_the_likely_one(lab: Arc<Lab>) -> anyhow::Result<()> {
    let content = format!("[auth]\nclient_secrets = '{SECRET}'\n");
    let given = write_file(&lab, "typo.toml", &content)?;
    let finished = Finished::of(lab.with_database(&["--config", &given, "status"])).await?.expect_code(2);
    assert_reported(&finished, "auth.client_secrets", &given, "did you mean auth.client_secret?");
    assert_hides(&finished.stderr, [SECRET]);

    write_file(&lab, "config/local.toml", &content)?;
    let finished = Finished::of(lab.with_database(&["status"])).await?.expect_code(2);
    assert_reported(&finished, "auth.client_secrets", "config/local.toml", "did you mean auth.client_secret?");
    Ok(())
}

async fn a_file_that_is_missing_or_no_toml_is_a_configuration_error(lab: Arc<Lab>) -> anyhow::Result<()> {
    let finished = Finished::of(lab.with_database(&["--config", "absent.toml", "status"])).await?.expect_code(2);
    assert!(finished.stderr.contains("absent.toml"), "{}", finished.stderr);

    let path = write_file(&lab, "broken.toml", format!("[auth]\nclient_secret = \"{SECRET}\n"))?;
    let finished = Finished::of(lab.with_database(&["--config", &path, "status"])).await?.expect_code(2);
    assert!(finished.stderr.contains("not TOML") && finished.stderr.contains("line 2"), "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("(from {path})")), "{}", finished.stderr);
    assert_hides(&finished.stderr, [SECRET]);
    Ok(())
}

async fn the_file_yields_to_the_environment(lab: Arc<Lab>) -> anyhow::Result<()> {
    let nowhere = "[database]\nurl = 'postgres://chatsync@127.0.0.1:1/chatsync'\n";
    let file = write_file(&lab, "nowhere.toml", nowhere)?;
    Finished::of(lab.command(&["--config", &file, "status"])).await?.expect_code(1);
    Finished::of(lab.with_database(&["--config", &file, "status"])).await?.expect_code(0);
    Ok(())
}

async fn the_first_file_in_a_usual_place_is_read(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Each file has its own mistake, so that the error shows which was read.
    let marked = |name: &str| format!("[auth]\n{name} = 'x'\n");
    write_file(&lab, ".config/chatsync/chatsync.toml", marked("of_home"))?;
    let of_user = Finished::of(lab.with_database(&["status"])).await?.expect_code(2);
    assert_reported(
        &of_user,
        "auth.of_home",
        &lab.home.path().join(".config/chatsync/chatsync.toml").display().to_string(),
        "",
    );
    let elsewhere = write_file(&lab, "elsewhere/chatsync/chatsync.toml", marked("of_xdg"))?;
    let mut command = lab.with_database(&["status"]);
    command.env("XDG_CONFIG_HOME", lab.home.path().join("elsewhere"));
    assert_reported(&Finished::of(command).await?.expect_code(2), "auth.of_xdg", &elsewhere, "");
    write_file(&lab, "config/local.toml", marked("of_here"))?;
    let local = Finished::of(lab.with_database(&["status"])).await?.expect_code(2);
    assert_reported(&local, "auth.of_here", "config/local.toml", "");
    assert!(!local.stderr.contains("of_home"), "{}", local.stderr);
    let good = write_file(&lab, "good.toml", "")?;
    Finished::of(lab.with_database(&["--config", &good, "status"])).await?.expect_code(0);
    Ok(())
}

async fn a_variable_with_single_underscores_is_refused_and_those_of_kubernetes_are_not(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    let mut command = lab.with_database(&["status"]);
    command.env("CHATSYNC_PORT", "tcp://10.0.0.1:80").env("CHATSYNC_SERVICE_HOST", "10.0.0.1");
    Finished::of(command).await?.expect_code(0);
    let mut command = lab.command(&["status"]);
    command.env("CHATSYNC_DATABASE_URL", format!("postgres://chatsync:{SECRET}@db.example.com/chatsync"));
    let finished = Finished::of(command).await?.expect_code(2);
    assert_reported(&finished, "database.url", "CHATSYNC_DATABASE_URL", "write CHATSYNC__DATABASE__URL");
    assert_hides(&finished.stderr, [SECRET]);
    Ok(())
}

async fn what_is_set_but_cannot_be_read_leads_to_no_other_database(lab: Arc<Lab>) -> anyhow::Result<()> {
    let bytes = OsStr::from_bytes(b"postgres://u:p\xe4ss@localhost/other");
    for name in ["DATABASE_URL", "CHATSYNC__DATABASE__URL", "PGPASSWORD"] {
        let mut command = lab.with_database(&["status"]);
        let refused = Finished::of({
            command.env(name, bytes);
            command
        })
        .await?
        .expect_code(2);
        assert!(refused.stderr.contains(name) && refused.stderr.contains("is not UTF-8"), "{}", refused.stderr);
    }
    let file = lab.home.path().join("config/local.toml");
    std::fs::create_dir_all(&file)?;
    Finished::of(lab.command(&["enqueue"])).await?.expect_code(2);
    std::fs::remove_dir(&file)?;
    std::os::unix::fs::symlink("missing", &file)?;
    let refused = Finished::of(lab.command(&["enqueue"])).await?.expect_code(2);
    assert!(refused.stderr.contains("config/local.toml"), "{}", refused.stderr);
    Ok(())
}

async fn of_two_database_urls_the_unused_one_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    let warning = "CHATSYNC__DATABASE__URL is used; DATABASE_URL, which says something else, is not";
    let other = format!("postgres://chatsync:{SECRET}@127.0.0.1:1/chatsync");
    for (platform, warnings) in [(other.as_str(), 1), (lab.url(), 0), ("", 0)] {
        let mut command = lab.command(&["status"]);
        command.env("DATABASE_URL", platform).env("CHATSYNC__DATABASE__URL", lab.url());
        let finished = Finished::of(command).await?.expect_code(0);
        assert_eq!(finished.stderr.matches(warning).count(), warnings, "{}", finished.stderr);
        assert_hides(&finished.stderr, [SECRET, lab.url()]);
    }
    Ok(())
}

async fn unknown_flags_and_commands_are_usage_errors(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (arguments, named) in [
        (&["sync", "--fast"][..], "--fast"),
        (&["synchronise"], "synchronise"),
        (&["sync", "--limit", "many"], "many"),
        (&["enqueue", "--priority", "40000"], "40000"),
        (&[], "Usage: chatsync"),
    ] {
        let finished = Finished::of(careless(lab.with_database(arguments))).await?.expect_code(2);
        assert!(finished.stderr.contains(named), "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
        assert_hides(&finished.stderr, ["panicked"]);
    }
    Ok(())
}

async fn every_command_explains_itself(lab: Arc<Lab>) -> anyhow::Result<()> {
    let version = Finished::of(lab.command(&["--version"])).await?.expect_code(0);
    assert_eq!(version.stdout, concat!("chatsync ", env!("CARGO_PKG_VERSION"), "\n"));
    let overview = Finished::of(lab.command(&["--help"])).await?.expect_code(0);
    for command in COMMANDS {
        let is_listed = overview.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{command} ")));
        assert!(is_listed, "{command} in {}", overview.stdout);
        let help = Finished::of(lab.command(&[command, "--help"])).await?.expect_code(0);
        assert!(help.stdout.contains(&format!("Usage: chatsync {command}")), "{}", help.stdout);
    }
    Ok(())
}

async fn an_unreachable_database_is_reported_without_its_password(lab: Arc<Lab>) -> anyhow::Result<()> {
    // Bound for a moment to find a port without a listener.
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let mut command = careless(lab.command(&["status"]));
    command.env("CHATSYNC__DATABASE__WAIT_AT_START", "0s");
    command.env("DATABASE_URL", format!("postgres://chatsync:{SECRET}@127.0.0.1:{port}/chatsync"));
    let finished = Finished::of(command).await?.expect_code(1);
    let shown = format!("error: cannot connect to the database at 127.0.0.1:{port}: ");
    assert!(finished.stderr.contains(&shown), "{}", finished.stderr);
    assert!(finished.stderr.contains("refused"), "{}", finished.stderr);
    assert_hides(&finished.stderr, [SECRET, "panicked", "stack backtrace"]);

    let mut command = careless(lab.command(&["status"]));
    command.env("DATABASE_URL", format!("postgres://chatsync:{SECRET}@127.0.0.1:port/chatsync"));
    let finished = Finished::of(command).await?.expect_code(2);
    assert_reported(&finished, "database.url", "DATABASE_URL", "write postgres://");
    assert_hides(&finished.stderr, [SECRET]);
    Ok(())
}

async fn a_refused_password_is_reported_without_showing_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        refuse_password(stream).await
    });
    let mut command = careless(lab.command(&["status"]));
    command.env("DATABASE_URL", format!("postgres://chatsync:{SECRET}@127.0.0.1:{port}/chatsync"));
    let finished = Finished::of(command).await?.expect_code(1);
    assert_eq!(server.await??, SECRET, "the password was sent");
    let shown = format!(
        "error: cannot connect to the database at 127.0.0.1:{port}: password authentication failed for user \"chatsync\" \
         (SQLSTATE 28P01); hint: check user, password and database in database.url\n"
    );
    assert!(finished.stderr.ends_with(&shown), "{}", finished.stderr);
    assert_hides(&finished.stderr, [SECRET, "panicked", "stack backtrace"]);
    Ok(())
}

async fn a_working_password_shows_at_no_log_level(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut url = url::Url::parse(lab.url())?;
    if url.password().is_none() {
        // A server that trusts its clients accepts any password.
        url.set_password(Some(SECRET)).ok().context("a URL with a host")?;
    }
    let password = url.password().context("just set")?.to_owned();
    for level in ["trace", "trace,sqlx=trace"] {
        let mut command = careless(lab.command(&["enqueue"]));
        command.env("DATABASE_URL", url.as_str()).env("CHATSYNC__LOG__LEVEL", level);
        let finished = Finished::of_input(command, b"order").await?.expect_code(0);
        assert_hides(&finished.stderr, [&*password]);
        assert_hides(&finished.stdout, [&*password]);
    }
    Ok(())
}

async fn a_database_without_tables_asks_for_migrate_unless_it_is_automatic(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_empty_database(&lab, async |url| {
        let by_hand = [("database.url", url), ("database.auto_migrate", "false")];
        for command in ["sync", "status", "enqueue"] {
            let finished = Finished::of(lab.configured(&[command], NOWHERE, &by_hand)).await?.expect_code(1);
            assert!(finished.stderr.contains("run `chatsync migrate`"), "{}", finished.stderr);
        }
        Finished::of(lab.configured(&["migrate"], NOWHERE, &by_hand)).await?.expect_code(0);
        Finished::of(lab.configured(&["status"], NOWHERE, &by_hand)).await?.expect_code(0);
        Ok(())
    })
    .await
}

/// As a developer's shell is set up: errors must stay readable even so.
fn careless(mut command: Command) -> Command {
    command.env("RUST_BACKTRACE", "1");
    command
}

/// Expects one problem with key, origin and hint.
fn assert_reported(finished: &Finished, key: &str, origin: &str, hint: &str) {
    let mut lines = finished.stderr.lines();
    let problem = lines.find(|line| line.trim_start().starts_with(&format!("{key} ")));
    let problem = problem.unwrap_or_else(|| panic!("nothing about {key} in {}", finished.stderr));
    assert!(problem.ends_with(&format!("(from {origin})")), "{problem}");
    let advice = lines.next().unwrap_or_default();
    assert!(advice.trim_start().starts_with("hint: ") && advice.contains(hint), "{advice}");
}

/// Speaks just enough of the PostgreSQL protocol to ask for a clear-text password and refuse it. Returns the password.
async fn refuse_password(mut stream: TcpStream) -> anyhow::Result<String> {
    const SSL_REQUEST: u32 = 80_877_103;
    loop {
        let length = stream.read_u32().await?;
        let code = stream.read_u32().await?;
        let mut rest = vec![0; usize::try_from(length)? - 8];
        stream.read_exact(&mut rest).await?;
        if code != SSL_REQUEST {
            break;
        }
        stream.write_all(b"N").await?;
    }
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await?;
    anyhow::ensure!(stream.read_u8().await? == b'p', "a password was expected");
    let mut password = vec![0; usize::try_from(stream.read_u32().await?)? - 4];
    stream.read_exact(&mut password).await?;
    password.pop();

    let fields = "SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"chatsync\"\0\0";
    stream.write_u8(b'E').await?;
    stream.write_u32(u32::try_from(fields.len() + 4)?).await?;
    stream.write_all(fields.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(String::from_utf8(password)?)
}
