//! Builds, tests and starts the mesh from a checkout. Depends on little, so that it is there in
//! seconds on a fresh machine; what a user needs without a checkout belongs to the `mesh` binary.

mod bans;
mod chaos;
mod checkout;
mod compile;
mod compose;
mod counts;
mod dist;
mod grafana;
mod programs;
mod report;
mod simulate;
mod tidy;
mod trial;
mod ui;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use checkout::Checkout;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds the UI and the binary, then runs `mesh up` with what follows.
    #[command(after_help = "Examples:\n  cargo xtask up\n  cargo xtask up --detach")]
    Up {
        /// Arguments of `mesh up`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs every check and every test, on real servers it starts itself.
    #[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --filter lease")]
    Test {
        /// Only tests whose name contains this, and no other check.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Kills, freezes and cuts a mesh under load, and judges what is left.
    #[command(disable_help_flag = true)]
    Chaos {
        /// Arguments of the program `chaos`; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs the owner's core in a seeded simulation: crashes, delays, partitions, unknown commits, in virtual time.
    #[command(
        after_help = "Examples:\n  cargo xtask simulate --seeds 5000\n  cargo xtask simulate --invocations 1000000 --json\n  cargo xtask simulate --seed 364"
    )]
    Simulate(simulate::Arguments),
    /// Starts docker-compose.yml on this machine's Docker, kills each container under load, and counts what is lost.
    ComposeTest(compose::Arguments),
    /// Checks headers and lengths of source files.
    Tidy,
    /// Checks that no banned crate is in the build (deny.toml).
    Deny,
    /// Makes a release in target/dist: checks of licences and advisories, bills of materials, a static binary, the image.
    #[command(after_help = "Examples:\n  cargo xtask dist\n  cargo xtask dist --no-image --offline")]
    Dist(dist::DistArgs),
}

/// The program: parses arguments, works, and says on stderr what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Checkout::find().and_then(|checkout| match arguments.command {
        Task::Up { arguments } => up::run(&checkout, &arguments).map(|()| ExitCode::SUCCESS),
        // Its closing line says it all.
        Task::Test { filter } => Ok(match trial::run(&checkout, filter.as_deref()).failed {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }),
        Task::Chaos { arguments } => chaos::run(&checkout, &arguments),
        Task::Simulate(arguments) => simulate::run(&checkout, &arguments),
        Task::ComposeTest(arguments) => compose::run(&checkout, &arguments).map(|()| ExitCode::SUCCESS),
        Task::Tidy => tidy::run(&checkout).map(|()| ExitCode::SUCCESS),
        Task::Deny => bans::run(&checkout).map(|()| ExitCode::SUCCESS),
        Task::Dist(args) => dist::run(&checkout, &args).map(|()| ExitCode::SUCCESS),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_of_chaos_are_passed_on() {
        let parsed = Arguments::parse_from(["xtask", "chaos", "--seed", "7", "--help"]);
        let Task::Chaos { arguments } = parsed.command else {
            panic!("{parsed:?}")
        };
        assert_eq!(arguments, ["--seed", "7", "--help"]);
    }

    #[test]
    fn options_of_up_are_passed_on() {
        let parsed = Arguments::parse_from(["xtask", "up", "--detach", "--json"]);
        let Task::Up { arguments } = parsed.command else {
            panic!("{parsed:?}")
        };
        assert_eq!(arguments, ["--detach", "--json"]);
    }
}
