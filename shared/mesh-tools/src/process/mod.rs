//! Processes: scripts and agent command lines. `runner` starts, feeds, bounds and stops one; `drivers` says how each
//! agent's command line is spoken to, `transcript` reads what it prints. Nothing here goes through a shell.

mod cli;
mod drivers;
mod folder;
mod group;
mod memory;
mod present;
mod runner;
mod script;
mod transcript;

pub(crate) use cli::run_cli;
pub use present::{can_run, drivers_here};
pub(crate) use script::run_script;

#[cfg(test)]
mod tests;
