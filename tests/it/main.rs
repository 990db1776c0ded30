//! Integration tests: the real binary and engine, a real PostgreSQL, real HTTP over sockets.
//!
//! A custom harness (libtest-mimic; same arguments and output as the usual one), because one server serves all tests
//! and must be stopped after the last, also on Ctrl-C. Every test gets a [`Lab`](support::Lab) with a separate
//! database.

mod chaos;
mod cli;
mod connect;
mod daemon;
mod docs;
mod expiry;
mod pace;
mod plans;
mod properties;
mod support;
mod sync;
mod tables;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use support::Labs;
use support::server::Server;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most tests wait for clocks and sockets, not for a processor.
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    arguments.test_threads.get_or_insert(2 * processors);
    if arguments.list {
        return run(&arguments, &Labs::without_server());
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let code = runtime.block_on(with_server(arguments)).unwrap_or_else(|error| {
        eprintln!("the test database: {error:#}");
        ExitCode::FAILURE
    });
    // After a signal the thread of the tests may still be busy; do not wait for it.
    runtime.shutdown_background();
    code
}

async fn with_server(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Before the start, so that no signal can leave a server behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::start().await?;
    let labs = Labs::new(server.admin_url());
    let tests = tokio::task::spawn_blocking(move || run(&arguments, &labs));
    let code = tokio::select! {
        code = tests => code?,
        _ = interrupt.recv() => ExitCode::from(130),
        _ = terminate.recv() => ExitCode::from(143),
    };
    server.stop().await?;
    Ok(code)
}

fn run(arguments: &Arguments, labs: &Arc<Labs>) -> ExitCode {
    let tests = [
        chaos::tests,
        cli::tests,
        connect::tests,
        daemon::tests,
        docs::tests,
        expiry::tests,
        pace::tests,
        plans::tests,
        properties::tests,
        support::proxy::tests,
        sync::tests,
        tables::tests,
    ];
    let trials = tests.iter().flat_map(|tests| tests(labs)).collect();
    libtest_mimic::run(arguments, trials).exit_code()
}
