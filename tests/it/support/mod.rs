//! Shared by the tests: a database for each, simulated and hand-made APIs, the real binary.

pub(crate) mod http;
mod lab;
pub(crate) mod pooler;
pub(crate) mod proxy;
pub(crate) mod server;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use libtest_mimic::{Failed, Trial};

pub(crate) use lab::{Finished, GUARD_OFF, Lab, store};

/// A slower test counts as hanging.
const LONGEST: Duration = Duration::from_mins(3);

/// The longest wait for a condition; usually it takes a fraction.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Repeats `look` until it finds something.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let looking = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.with_context(|| format!("waited in vain: {what}"))?
}

/// A port without a listener.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Creates a [`Lab`] for every test.
pub(crate) struct Labs {
    admin_url: Option<String>,
}

impl Labs {
    pub(crate) fn new(admin_url: &str) -> Arc<Self> {
        Arc::new(Self { admin_url: Some(admin_url.to_owned()) })
    }

    /// Just enough to list the tests.
    pub(crate) fn without_server() -> Arc<Self> {
        Arc::new(Self { admin_url: None })
    }

    /// Wraps a test: it fails if it returns an error, hangs, or leaves an order leased.
    pub(crate) fn trial<T>(self: &Arc<Self>, name: &str, test: impl FnOnce(Arc<Lab>) -> T + Send + 'static) -> Trial
    where
        T: Future<Output = anyhow::Result<()>> + 'static,
    {
        let labs = Arc::clone(self);
        let name = name.trim_start_matches("it::").to_owned();
        Trial::test(name, move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(async {
                let url = labs.admin_url.as_deref().ok_or("listed without a server")?;
                let lab = Arc::new(Lab::open(url).await.map_err(|error| format!("{error:#}"))?);
                let attempt = AssertUnwindSafe(test(Arc::clone(&lab))).catch_unwind();
                let result = match tokio::time::timeout(LONGEST, attempt).await {
                    Err(_) => Err(format!("took longer than {LONGEST:?}")),
                    Ok(Err(panic)) => Err(message(panic.as_ref())),
                    Ok(Ok(Err(error))) => Err(format!("{error:?}")),
                    Ok(Ok(Ok(()))) => {
                        lab.leases_left().await.map_err(|error| format!("{error:#}")).and_then(|left| {
                            if left == 0 { Ok(()) } else { Err(format!("{left} order(s) left leased")) }
                        })
                    }
                };
                lab.close(url).await.map_err(|error| format!("{error:#}"))?;
                result.map_err(Failed::from)
            })
        })
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "panicked".to_owned())
}

/// Registers the tests of a module. An unlisted test is dead code, which the compiler reports.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub(crate) fn tests(labs: &std::sync::Arc<crate::support::Labs>) -> Vec<libtest_mimic::Trial> {
            vec![$(labs.trial(concat!(module_path!(), "::", stringify!($name)), $name),)+]
        }
    };
}
pub(crate) use tests;
