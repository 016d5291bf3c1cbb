//! Chaos: real processes and servers under seeded kills, freezes, cuts and failpoints, and the checker of what is left.
//! `cargo xtask chaos` starts it; a short set of seeds is among the tests.

pub mod checker;
pub mod evidence;
pub mod options;
pub mod report;

mod draw;
mod fakes;
mod faults;
mod ground;
mod load;
mod planted;
mod read;
mod run;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use options::Options;
pub use run::run;

/// The program: runs what its arguments say, until it is done or told to stop. Nothing it started is left behind.
#[must_use]
pub fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(until_stopped(&options)));
    match outcome {
        Ok(is_good) if is_good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn until_stopped(options: &Options) -> anyhow::Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        told = tell(options) => told,
        _ = interrupt.recv() => anyhow::bail!("stopped"),
        _ = terminate.recv() => anyhow::bail!("stopped"),
    }
}

/// Runs, and prints what came of it.
async fn tell(options: &Options) -> anyhow::Result<bool> {
    let mut reports = Vec::new();
    for options in each(options)? {
        let report = run(&options).await?;
        if !options.json {
            println!("{report}");
        }
        reports.push(report);
    }
    if options.json {
        let text = match reports.as_slice() {
            [one] => serde_json::to_string_pretty(one)?,
            all => serde_json::to_string_pretty(all)?,
        };
        println!("{text}");
    }
    Ok(reports.iter().all(report::Report::is_good))
}

/// One set of runs, or one for each planted bug.
fn each(options: &Options) -> anyhow::Result<Vec<Options>> {
    let names: Vec<&str> = planted::PLANTED.iter().map(|(name, _)| *name).collect();
    match options.planted.as_deref() {
        Some("all") => {
            let of = |name: &str| Options {
                planted: Some(name.to_owned()),
                ..options.clone()
            };
            Ok(names.into_iter().map(of).collect())
        }
        Some(name) if !names.contains(&name) => {
            anyhow::bail!("there is no planted bug `{name}`; these are: {}", names.join(", "))
        }
        _ => Ok(vec![options.clone()]),
    }
}
