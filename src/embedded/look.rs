//! Shell commands for looking at a kept database by hand, printed at the end of a demo.

use std::path::{Path, PathBuf};

use super::{
    account::Account,
    root::{LOG, is_usable_for_socket, socket_directory},
};

/// Commands for a POSIX shell, to be run in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookCommands {
    pub start: String,
    pub psql: String,
    pub stop: String,
}

impl LookCommands {
    pub(super) fn new(bin: &Path, root: &Path, account: Option<&Account>) -> Self {
        let prefix = account.map(Account::prefix).unwrap_or_default();
        let pg_ctl = quote(&bin.join("pg_ctl"));
        let psql = quote(&psql(bin));
        let data = quote(&root.join("data"));
        let log = quote(&root.join(LOG));
        let socket = socket_directory(root);
        let (before, option, socket, after) = if is_usable_for_socket(&socket) {
            (String::new(), "", quote(&socket), String::new())
        } else {
            // As `server` does it, if the usual path is too long.
            let make = format!("SOCKET=$({prefix}mktemp -d /tmp/chatsync-XXXXXX) && ");
            let remove = format!(r#" && {prefix}rmdir "$SOCKET""#);
            (make, r#" -o "-k $SOCKET""#, r#""$SOCKET""#.to_owned(), remove)
        };
        Self {
            start: format!("{before}{prefix}{pg_ctl} start -w -D {data} -l {log}{option}"),
            psql: format!("{prefix}{psql} -h {socket} -U chatsync chatsync"),
            stop: format!("{prefix}{pg_ctl} stop -D {data}{after}"),
        }
    }
}

/// Returns the psql in `bin`, or the one on the search path: Debian packages it separately.
pub(super) fn psql(bin: &Path) -> PathBuf {
    let psql = bin.join("psql");
    if psql.exists() { psql } else { PathBuf::from("psql") }
}

/// Quotes the path as one word of a shell command.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_special_characters_are_quoted() {
        assert_eq!(quote(Path::new("/a/b-1.2")), "/a/b-1.2");
        assert_eq!(quote(Path::new("/it's $x")), r"'/it'\''s $x'");
    }

    #[test]
    fn a_long_path_gets_a_short_directory_for_the_socket() {
        let root = Path::new("/x").join("y".repeat(100));
        let commands = LookCommands::new(Path::new("/bin-15"), &root, None);
        assert!(commands.start.starts_with("SOCKET=$(mktemp -d "));
        assert!(commands.psql.contains(r#"-h "$SOCKET""#));
        assert!(commands.stop.ends_with(r#" && rmdir "$SOCKET""#));
    }
}
