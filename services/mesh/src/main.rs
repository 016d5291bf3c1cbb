//! The `mesh` program: parses the command line, runs the one command it names, and ends with its exit code.

mod bench;
mod cli;
mod client;
mod failure;
mod open_files;
mod output;
mod serve;
mod services;
mod up;

use std::process::ExitCode;

use clap::Parser;

/// Each invocation allocates some hundred small things on one thread and frees them on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = cli.output();
    match cli.run(output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, output),
    }
}
