//! The `chatsync` command. Everything it does is in the library: see `cli`.

use std::process::ExitCode;

use chatsync::cli::{self, Cli};
use clap::Parser;

fn main() -> ExitCode {
    cli::leave_out_empty_variables();
    cli::main(Cli::parse())
}
