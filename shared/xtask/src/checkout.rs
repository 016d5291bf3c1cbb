//! The checkout we work on, and the commands that run in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Where the workspace lies.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    root: PathBuf,
    /// `NAME=value` in the environment of everything we start, to find it again.
    mark: (&'static str, String),
}

impl Checkout {
    /// From the folder of this crate, which cargo tells.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let crate_folder =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = crate_folder.ancestors().nth(2).context("xtask lies in shared/xtask")?;
        if !root.join("Cargo.lock").is_file() {
            bail!(
                "{} is no checkout of the mesh: run `cargo xtask` inside of one",
                root.display()
            );
        }
        let mark = ("AGENT_MESH_RUN", std::process::id().to_string());
        Ok(Self {
            root: root.to_owned(),
            mark,
        })
    }

    /// The same checkout with a mark of its own, so that only what this copy starts is found by it.
    #[cfg(test)]
    pub(crate) fn marked(mut self, name: &str) -> Self {
        self.mark.1 = format!("{}-{name}", self.mark.1);
        self
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// The mark as it stands in an environment.
    pub(crate) fn mark(&self) -> String {
        format!("{}={}", self.mark.0, self.mark.1)
    }

    /// A command in the checkout's root.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env(self.mark.0, &self.mark.1);
        command
    }

    /// The cargo that runs us.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = self.command(&cargo);
        if env::var_os("CI").is_some_and(|value| !value.is_empty()) {
            // Nothing is built twice there, so the records for it are only written.
            command.env("CARGO_INCREMENTAL", "0");
        }
        // What cargo sets for us would look like a change to build scripts of other crates.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") {
                command.env_remove(name);
            }
        }
        command
            .env_remove("CARGO_MANIFEST_DIR")
            .env_remove("CARGO_MANIFEST_PATH");
        command
    }
}
