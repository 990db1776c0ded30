//! These tests run real PostgreSQL programs, as root or as an ordinary user.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getsid},
};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::*;

/// A directory for a kept database that the server's account can reach.
fn parent() -> TempDir {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    parent
}

async fn start(data_dir: DataDir) -> Embedded {
    Embedded::start(data_dir).await.unwrap()
}

async fn connect(database: &Embedded) -> PgConnection {
    PgConnection::connect(database.url()).await.unwrap()
}

fn pid(root: &Path) -> Option<i32> {
    let bytes = fs::read(root.join("data/postmaster.pid")).ok()?;
    String::from_utf8_lossy(&bytes).lines().next()?.parse().ok()
}

#[tokio::test]
async fn a_throw_away_server_answers_and_is_gone_after_stop() {
    let database = start(DataDir::ThrowAway).await;
    let root = database.data_dir().to_owned();
    let mut connection = connect(&database).await;
    let (one, encoding, fsync): (i32, String, String) =
        sqlx::query_as("SELECT 1, current_setting('server_encoding'), current_setting('fsync')")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!((one, &*encoding, &*fsync), (1, "UTF8", "off"));
    assert!(pid(&root).is_some());
    assert!(database.description().starts_with("PostgreSQL 1"));

    let url = database.url().to_owned();
    database.stop().await.unwrap();
    assert!(!root.exists());
    assert!(PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn the_server_is_out_of_reach_of_the_terminal() {
    let database = start(DataDir::ThrowAway).await;
    let server = Pid::from_raw(pid(database.data_dir()).unwrap());
    assert_eq!(getsid(Some(server)), Ok(server));
    assert_ne!(getsid(Some(server)), getsid(None));
    database.stop().await.unwrap();
}

#[tokio::test]
async fn dropping_the_guard_stops_the_server_and_removes_the_directory() {
    let database = start(DataDir::ThrowAway).await;
    let root = database.data_dir().to_owned();
    let url = database.url().to_owned();
    drop(database);
    assert!(!root.exists());
    assert!(PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn a_dropped_start_is_undone() {
    let parent = parent();
    let root = parent.path().join("kept");
    let mut starting = Box::pin(Embedded::start(DataDir::Kept(root.clone())));
    // Poll until the lock is taken: from then on the start runs to its end.
    while !root.join(locks::START).exists() {
        tokio::select! {
            biased;
            started = &mut starting => panic!("started: {}", started.is_ok()),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(starting);
    // Waits for the lock, and so for the end of the first start.
    let database = start(DataDir::Kept(root.clone())).await;
    connect(&database).await.close().await.unwrap();
    database.stop().await.unwrap();
}

#[tokio::test]
async fn a_kept_directory_keeps_its_data_and_is_durable() {
    let parent = parent();
    let data_dir = DataDir::Kept(parent.path().join("new/kept"));

    let database = start(data_dir.clone()).await;
    let mut connection = connect(&database).await;
    sqlx::query("CREATE TABLE kept AS SELECT current_setting('fsync') AS fsync")
        .execute(&mut connection)
        .await
        .unwrap();
    database.stop().await.unwrap();

    let database = start(data_dir).await;
    let fsync: String =
        sqlx::query_scalar("SELECT fsync FROM kept").fetch_one(&mut connect(&database).await).await.unwrap();
    assert_eq!(fsync, "on");
    database.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_its_data() {
    let parent = parent();
    let database = start(DataDir::Kept(parent.path().join("kept"))).await;
    let mut connection = connect(&database).await;
    sqlx::query("CREATE TABLE kept AS SELECT 1 AS one").execute(&mut connection).await.unwrap();
    let first = pid(database.data_dir()).unwrap();
    assert_eq!(database.revive().await.unwrap(), database.url(), "it runs");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    // The kernel needs some time.
    while state::of(&database.data_dir().join("data")).unwrap() != state::ServerState::Down {
        tokio::task::yield_now().await;
    }
    let url = database.revive().await.unwrap();
    assert_ne!(pid(database.data_dir()), Some(first));
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("SELECT one FROM kept").execute(&mut connection).await.unwrap();
    database.stop().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_server_that_is_still_a_zombie_is_started_again() {
    let parent = parent();
    // As in a container whose process 1 is no init. It applies to all servers of these tests, without harm.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let database = start(DataDir::Kept(parent.path().join("kept"))).await;
    let killed = Pid::from_raw(pid(database.data_dir()).unwrap());
    kill(killed, Signal::SIGKILL).unwrap();
    while state::of(&database.data_dir().join("data")).unwrap() != state::ServerState::Down {
        tokio::task::yield_now().await;
    }
    let url = database.revive().await.unwrap();
    assert_eq!(kill(killed, None), Ok(()), "the zombie is still there");
    PgConnection::connect(&url).await.unwrap().close().await.unwrap();
    database.stop().await.unwrap();
    nix::sys::wait::waitpid(killed, None).unwrap();
}

#[tokio::test]
async fn no_other_account_can_hold_the_locks() {
    let database = start(DataDir::ThrowAway).await;
    for lock in ["start.lock", "users.lock"] {
        assert!(is_private(&database.data_dir().join(lock)), "{lock}");
    }
    database.stop().await.unwrap();
}

#[tokio::test]
async fn the_last_of_two_users_stops_the_server() {
    let parent = parent();
    let data_dir = DataDir::Kept(parent.path().join("kept"));
    let (first, second) = tokio::join!(start(data_dir.clone()), start(data_dir));
    let server = pid(first.data_dir());
    assert_eq!(first.url(), second.url());

    first.stop().await.unwrap();
    assert_eq!(pid(second.data_dir()), server);
    connect(&second).await.close().await.unwrap();

    let root = second.data_dir().to_owned();
    second.stop().await.unwrap();
    assert_eq!(pid(&root), None);
}

#[tokio::test]
async fn a_server_that_was_left_running_is_joined_and_stopped() {
    let parent = parent();
    let data_dir = DataDir::Kept(parent.path().join("kept"));
    let database = start(data_dir.clone()).await;
    let look = database.look_commands();
    let root = database.data_dir().to_owned();
    database.stop().await.unwrap();
    shell(&format!("{} >/dev/null", look.start)).await;
    let left = pid(&root).unwrap();

    let database = start(data_dir).await;
    assert_eq!(pid(&root), Some(left));
    connect(&database).await.close().await.unwrap();
    database.stop().await.unwrap();
    assert_eq!(pid(&root), None);
}

#[tokio::test]
async fn an_interrupted_first_start_begins_again() {
    let parent = parent();
    let root = parent.path().join("kept");
    fs::create_dir_all(root.join("data.new-cut/base")).unwrap();
    let database = start(DataDir::Kept(root.clone())).await;
    connect(&database).await.close().await.unwrap();
    database.stop().await.unwrap();
    assert!(!root.join("data.new-cut").exists());
}

#[tokio::test]
async fn awkward_and_long_paths_work() {
    let parent = parent();
    let awkward = parent.path().join("it's \"a\" $HOME, 100 % `ok`");
    let long = parent.path().join("long".repeat(30));
    let not_utf8 = parent.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    for root in [awkward, long, not_utf8] {
        let database = start(DataDir::Kept(root)).await;
        connect(&database).await.close().await.unwrap();
        let socket = socket_of(&database);
        assert!(is_private(&socket), "{}", socket.display());
        let short = !socket.starts_with(database.data_dir());
        database.stop().await.unwrap();
        assert_eq!(short, !socket.exists());
    }
}

#[tokio::test]
async fn statement_text_never_reaches_the_log() {
    let database = start(DataDir::ThrowAway).await;
    let mut connection = connect(&database).await;
    for statement in
        ["SELECT 'a secret' FROM nowhere", "SELECT 'a secret'::uuid", "DO $$ BEGIN RAISE WARNING 'a secret'; END $$"]
    {
        // Two of them fail on purpose.
        let _outcome = sqlx::query(statement).execute(&mut connection).await;
    }
    let log = fs::read_to_string(database.data_dir().join(root::LOG)).unwrap();
    assert!(log.contains("ready to accept connections"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    database.stop().await.unwrap();
}

#[test]
fn the_version_that_made_the_data_is_known() {
    let parent = parent();
    let data = parent.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let root = Root::open(DataDir::Kept(parent.path().to_owned())).unwrap();
    assert_eq!(root.major_version().unwrap(), Some(9));
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let parent = parent();
    let data_dir = DataDir::Kept(parent.path().join("kept"));
    let database = start(data_dir.clone()).await;
    let settings = database.data_dir().join("data/postgresql.auto.conf");
    database.stop().await.unwrap();

    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + "shared_buffers = nonsense\n").unwrap();
    let error = Embedded::start(data_dir).await.unwrap_err();
    assert!(matches!(error, Error::NotStarted { .. }), "{error:?}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

#[tokio::test]
async fn the_commands_to_look_around_work() {
    let parent = parent();
    for name in ["it's kept".to_owned(), "long".repeat(30)] {
        let database = start(DataDir::Kept(parent.path().join(name))).await;
        let look = database.look_commands();
        database.stop().await.unwrap();
        let script =
            format!("{} >/dev/null && {} -Atc 'SELECT 6 * 7'; {{ {}; }} >/dev/null", look.start, look.psql, look.stop);
        assert_eq!(shell(&script).await, "42\n");
    }
}

/// Runs a script and returns its output.
async fn shell(script: &str) -> String {
    let output = tokio::process::Command::new("sh").args(["-c", script]).current_dir("/").output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn socket_of(database: &Embedded) -> PathBuf {
    let state::ServerState::Up(endpoint) = state::of(&database.data_dir().join("data")).unwrap() else {
        panic!("the server does not run");
    };
    endpoint.directory
}

fn is_private(path: &Path) -> bool {
    path.metadata().unwrap().permissions().mode().trailing_zeros() >= 6
}
