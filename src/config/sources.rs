//! Where settings come from: the built-in defaults, a file, the environment.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The built-in defaults, which also list all keys.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The sources of settings besides the built-in defaults.
#[derive(Debug, Clone)]
pub struct Sources {
    pub file: ConfigFile,
    /// The environment variables of the process, or of a test.
    pub environment: Vec<(String, String)>,
    /// Names of variables whose values are not UTF-8.
    pub unreadable: Vec<String>,
}

#[derive(Debug, Clone)]
pub enum ConfigFile {
    None,
    /// From `--config FILE`, or found in a usual place.
    Given(PathBuf),
}

impl Sources {
    /// Returns no source besides the built-in defaults.
    #[must_use]
    pub fn built_in() -> Self {
        Self { file: ConfigFile::None, environment: Vec::new(), unreadable: Vec::new() }
    }

    /// Returns the process's environment, and the given file or else the first one found in a usual place.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let (mut environment, mut unreadable) = (Vec::new(), Vec::new());
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => environment.push((name, value)),
                (Ok(name), Err(_)) => unreadable.push(name),
                // No setting has such a name.
                (Err(_), _) => {}
            }
        }
        let file = file.or_else(|| usual_files(&environment).into_iter().find(|file| is_meant(file)));
        Self { file: file.map_or(ConfigFile::None, ConfigFile::Given), environment, unreadable }
    }

    /// Returns whether `DATABASE_URL` is set but overridden by another URL in `CHATSYNC__DATABASE__URL`.
    #[must_use]
    pub fn has_unused_database_url(&self) -> bool {
        let value = |name| self.environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.trim());
        let urls =
            [value("DATABASE_URL"), value("CHATSYNC__DATABASE__URL")].map(|url| url.filter(|url| !url.is_empty()));
        matches!(urls, [Some(unused), Some(used)] if unused != used)
    }
}

/// Returns whether there is something at the path, readable or not: a directory that stands for a missing mount, or a
/// link to nothing, must not lead to the defaults and so to another database. A home directory of another user is not
/// meant.
fn is_meant(file: &Path) -> bool {
    match file.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::PermissionDenied && file.is_relative(),
    }
}

/// Returns where a file is looked for: in the current directory, the user's and the machine's configuration.
pub(super) fn usual_files(environment: &[(String, String)]) -> Vec<PathBuf> {
    let directory = |name| {
        let value = environment.iter().find(|(other, _)| other == name).map(|(_, value)| PathBuf::from(value));
        // <https://specifications.freedesktop.org/basedir>: relative paths are to be ignored.
        value.filter(|path| path.is_absolute())
    };
    let of_the_user = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")));
    let places = [
        Some("config/local.toml".into()),
        of_the_user.as_deref().map(in_directory),
        Some(in_directory(Path::new("/etc"))),
    ];
    places.into_iter().flatten().collect()
}

fn in_directory(directory: &Path) -> PathBuf {
    directory.join("chatsync/chatsync.toml")
}
