//! Creates the database in an empty directory. Called by `server` before each start, under the start lock.
//!
//! Invariant: `data/` appears by a rename when it is complete, so an interrupted first start leaves nothing to repair.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use super::{command::Tools, error::Error, root::Root};

/// Prefix of directories with unfinished data.
const UNFINISHED: &str = "data.new-";

const LIMIT: Duration = Duration::from_mins(2);

/// Settings of a new data directory. The directory of the socket is relative to `data`, so that everything can be
/// moved.
///
/// The last group keeps stored text out of the log: statements and their errors quote chats. The client receives the
/// errors anyway.
const SETTINGS: [(&str, &str); 11] = [
    ("listen_addresses", ""),
    ("unix_socket_directories", "../socket"),
    ("unix_socket_permissions", "0700"),
    ("port", "5432"),
    ("shared_buffers", "64MB"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_checkpoints", "off"),
    ("log_min_messages", "log"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
];

/// Settings if the data is kept.
const KEPT_SETTINGS: [(&str, &str); 1] = [("max_connections", "50")];

/// Settings if a crash may lose the data. Many tests share the server.
const THROW_AWAY_SETTINGS: [(&str, &str); 4] =
    [("max_connections", "200"), ("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];

/// Creates `data/` if it is missing.
pub(super) fn ensure(root: &Root, tools: &Tools) -> Result<(), Error> {
    remove_unfinished(&root.path);
    let data = root.data();
    if data.exists() {
        return Ok(());
    }
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&root.path)
        .map_err(Error::io("create a directory in", &root.path))?;
    tools.chown(unfinished.path())?;
    let name = unfinished.path().file_name().and_then(|name| name.to_str());
    let name = name.expect("the prefix and tempfile's suffix are ASCII");

    let mut initdb = vec!["--username=chatsync", "--encoding=UTF8", "--locale=C"];
    initdb.extend(["--auth-local=trust", "--auth-host=reject"]);
    initdb.extend(["--no-instructions", "-D", name]);
    if root.is_temporary() {
        initdb.push("--no-sync");
    }
    tools.run("initdb", &initdb, "", LIMIT)?;

    let single = ["--single", "-D", name, "-c", "exit_on_error=on", "template1"];
    let input = first_statements(root.is_temporary());
    tools.run("postgres", &single, &input, LIMIT)?;

    fs::rename(unfinished.path(), &data).map_err(Error::io("create", data))?;
    // The rename has moved it, so the guard must not remove anything.
    let _moved = unfinished.keep();
    Ok(())
}

/// Removes what an interrupted first start left. A failure is only logged.
fn remove_unfinished(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove an unfinished database");
        }
    }
}

/// The first statements, one per line as the single-user server reads them.
fn first_statements(throw_away: bool) -> String {
    let more: &[_] = if throw_away { &THROW_AWAY_SETTINGS } else { &KEPT_SETTINGS };
    let mut statements = "CREATE DATABASE chatsync;\n".to_owned();
    for (name, value) in SETTINGS.iter().chain(more) {
        statements.extend(["ALTER SYSTEM SET ", name, " = '", value, "';\n"]);
    }
    statements
}
