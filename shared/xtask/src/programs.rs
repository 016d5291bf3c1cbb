//! What must be on the machine, said before minutes are spent on what would fail without it.

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
