//! What must be on the machine, said before minutes are spent on what would fail without it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;

/// The oldest Node that the UI's tools take.
const NODE_MAJOR_MIN: u32 = 20;

/// Node and npm, for the UI.
pub(crate) fn require_node() -> anyhow::Result<()> {
    let Some(text) = output_of("node", "--version") else {
        bail!(
            "Node {NODE_MAJOR_MIN} or newer builds the UI and was not found: install it from \
             your system's packages (Debian: `apt-get install nodejs npm`) or with a version \
             manager, then run the same command again"
        );
    };
    let version = mesh_servers::Version::find(&text);
    if version.is_none_or(|version| version.major < NODE_MAJOR_MIN) {
        bail!("Node is {}, and the UI needs {NODE_MAJOR_MIN} or newer", text.trim());
    }
    if output_of("npm", "--version").is_none() {
        bail!("npm was not found beside Node: install it (Debian: `apt-get install npm`)");
    }
    Ok(())
}

/// What a Chromium is called on one system or another.
const CHROMIUMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// The browser of the UI's tests: the program that `CHROMIUM` names, or the system's.
pub(crate) fn require_chromium() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        let named = PathBuf::from(named);
        if !named.is_file() {
            bail!("CHROMIUM names {}, which is no file", named.display());
        }
        return Ok(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&path));
    let found = folders
        .flat_map(|folder| CHROMIUMS.map(|name| folder.join(name)))
        .find(|program| program.is_file());
    match found {
        Some(program) => Ok(program),
        None => bail!(
            "Chromium runs the UI's tests and was not found: install it (Debian: `apt-get install chromium`), or name \
             its program in CHROMIUM"
        ),
    }
}

/// Prometheus' own checker of rules: beside the program that `PROMETHEUS` names, or the system's.
pub(crate) fn require_promtool() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("PROMETHEUS").map(PathBuf::from);
    let beside = named
        .as_deref()
        .and_then(Path::parent)
        .map(|folder| folder.join("promtool"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|folder| folder.join("promtool")))
        .find(|program| program.is_file());
    match found {
        Some(program) => Ok(program),
        None => bail!(
            "promtool checks the alerts, and Prometheus runs the dashboards' queries: install both (Debian: `apt-get \
             install prometheus`), or name Prometheus' program in PROMETHEUS"
        ),
    }
}

/// Formatter and linter, which some installations of Rust leave out.
pub(crate) fn require_components() -> anyhow::Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if output_of(program, "--version").is_none() {
            bail!("{component} is missing: `rustup component add {component}`");
        }
    }
    Ok(())
}

/// Whether cargo-nextest is installed; tests run without it too.
pub(crate) fn has_nextest() -> bool {
    output_of("cargo-nextest", "--version").is_some()
}

/// Whether cargo-deny is installed; [`crate::bans`] checks the bans without it.
pub(crate) fn has_deny() -> bool {
    output_of("cargo-deny", "--version").is_some()
}

fn output_of(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program)
        .arg(argument)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_has_no_output() {
        assert_eq!(output_of("no-program-has-this-name", "--version"), None);
        assert!(output_of("cargo", "--version").is_some());
    }
}
