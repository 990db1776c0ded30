//! Integration tests: the real binary and engine, a real PostgreSQL, real HTTP over sockets.
//!
//! A harness of its own (libtest-mimic; same arguments and output as the usual one), because one server serves all
//! tests and must be stopped after the last, also on Ctrl-C. Every test gets a [`Lab`](support::Lab) with a database
//! of its own.

mod cli;
mod connect;
mod daemon;
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
    let arguments = Arguments::from_args();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if arguments.list {
        return run(&arguments, &Labs::without_server());
    }
    let server = match runtime.block_on(Server::start()) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("no test database: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let labs = Labs::new(server.admin_url());
    let tests = runtime.spawn_blocking(move || run(&arguments, &labs));
    runtime.block_on(async {
        let code = tokio::select! {
            code = tests => code.expect("the harness does not panic"),
            () = stopped() => ExitCode::from(130),
        };
        if let Err(error) = server.stop().await {
            eprintln!("the test database was not stopped: {error:#}");
            return ExitCode::FAILURE;
        }
        code
    })
}

fn run(arguments: &Arguments, labs: &Arc<Labs>) -> ExitCode {
    let tests = [cli::tests, connect::tests, daemon::tests, sync::tests, tables::tests];
    let trials = tests.iter().flat_map(|tests| tests(labs)).collect();
    libtest_mimic::run(arguments, trials).exit_code()
}

async fn stopped() {
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals");
    let mut terminate = signal(SignalKind::terminate()).expect("signals");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
