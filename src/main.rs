//! The `chatsync` binary. Everything else is in the library: see `cli`.

use std::process::ExitCode;

use chatsync::cli;

fn main() -> ExitCode {
    cli::leave_out_empty_variables();
    match cli::parse() {
        Ok(cli) => cli::main(cli),
        Err(code) => code,
    }
}
