//! `cargo xtask simulate`: builds the owner's core with its simulator, optimised, and runs seeds on all cores.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::Args;

use crate::checkout::Checkout;
use crate::compile;

const BUILD: [&str; 6] = ["test", "--release", "--package", "execution", "--lib", "--no-run"];
/// The test that is the program.
const TEST: &str = "sim::tests::simulate";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many seeds are run [default: 1000; 1 with --seed].
    #[arg(long, conflicts_with = "invocations")]
    seeds: Option<u64>,
    /// The first seed; alone it is the only one, and its events are told.
    #[arg(long)]
    seed: Option<u64>,
    /// Seeds are run until so many invocations are simulated.
    #[arg(long)]
    invocations: Option<u64>,
    /// Prints the report as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let programs = compile::run(checkout, "simulate", "Building the simulation", &BUILD)?;
    let program = programs
        .into_iter()
        .next_back()
        .context("cargo names no test program")?;
    let report = compile::target_folder(checkout).join("simulation.json");
    // That of an earlier run is not this one's.
    let _ = fs::remove_file(&report);
    let status = command(checkout, &program, arguments, &report).status()?;
    let Ok(text) = fs::read_to_string(&report) else {
        bail!("the simulation ended without a report ({status})");
    };
    if arguments.json {
        println!("{text}");
    } else {
        say(&text);
    }
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn command(checkout: &Checkout, program: &Path, arguments: &Arguments, report: &Path) -> Command {
    let mut command = checkout.command(&program.to_string_lossy());
    command
        .args([TEST, "--exact", "--ignored", "--nocapture", "--quiet"])
        // Of the test harness; the report says it all.
        .stdout(Stdio::null())
        .env("MESH_SIM_REPORT", report);
    let seeds = arguments
        .seeds
        .or((arguments.seed.is_some() && arguments.invocations.is_none()).then_some(1));
    for (name, value) in [
        ("MESH_SIM_SEED", arguments.seed),
        ("MESH_SIM_SEEDS", seeds),
        ("MESH_SIM_INVOCATIONS", arguments.invocations),
    ] {
        match value {
            Some(value) => command.env(name, value.to_string()),
            None => command.env_remove(name),
        };
    }
    command
}

/// The figures of the report, a line; what was broken stood on stderr.
fn say(report: &str) {
    let of = |name: &str| figure(report, name).unwrap_or("?");
    println!(
        "{} runs, {} invocations, {} commits, {} effects; {} runs per minute",
        of("runs"),
        of("invocations"),
        of("commits"),
        of("effects"),
        of("runs_per_minute"),
    );
    match report.matches("\"seed\":").count() {
        0 => println!("no rule was broken"),
        count => println!("{count} runs broke a rule; run one again with --seed"),
    }
}

/// A number of the JSON object.
fn figure<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let end = rest.find([',', '}'])?;
    Some(rest[..end].trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_names() {
        let report = r#"{"invocations":1204,"runs":40,"runs_per_minute":2501.0,"violations":[]}"#;
        assert_eq!(figure(report, "runs"), Some("40"));
        assert_eq!(figure(report, "runs_per_minute"), Some("2501"));
        assert_eq!(figure(report, "seconds"), None);
    }
}
