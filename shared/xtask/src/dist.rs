//! `cargo xtask dist`: what a release is made of, in `target/dist`: a static binary, the image, a bill of materials of
//! both worlds (crates and npm packages), and sums; after licences, advisories, bans and sources were checked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::checkout::Checkout;
use crate::{bans, compile, programs, ui};

/// Whose code is in the binary; built for musl, it needs no library of the system.
const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-musl"
} else {
    "x86_64-unknown-linux-musl"
};
/// Checks licences, advisories, sources (https://embarkstudios.github.io/cargo-deny).
const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    ask: &["--version"],
};
/// Writes bills of materials as CycloneDX (https://cyclonedx.org).
const CYCLONEDX: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    // Says its version only as the subcommand.
    ask: &["cyclonedx", "--version"],
};

#[derive(Debug, clap::Args)]
pub(crate) struct DistArgs {
    /// Leave the image out; it needs a Docker engine and builds for twenty minutes.
    #[arg(long)]
    no_image: bool,
    /// Leave the static binary out.
    #[arg(long)]
    no_binary: bool,
    /// Check advisories against the database that is on the machine instead of the newest one.
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(checkout: &Checkout, args: &DistArgs) -> anyhow::Result<()> {
    let folder = compile::target_folder(checkout).join("dist");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    bans::run(checkout)?;
    check_policy(checkout, args.offline)?;
    let mut made = bills(checkout, &folder)?;
    if !args.no_binary {
        made.push(binary(checkout, &folder)?);
    }
    if !args.no_image {
        made.push(image(checkout, &folder)?);
    }
    made.sort();
    let sums = folder.join("SHA256SUMS");
    let names = made.iter().filter_map(|path| path.file_name());
    let mut command = Command::new("sha256sum");
    let output = command.current_dir(&folder).args(names).output().context("sha256sum")?;
    if !output.status.success() {
        bail!("sha256sum failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::write(&sums, &output.stdout).with_context(|| sums.display().to_string())?;
    for path in made.iter().chain([&sums]) {
        let bytes = fs::metadata(path).map(|facts| facts.len()).unwrap_or(0);
        println!("{:>10.1} MB  {}", bytes as f64 / 1e6, path.display());
    }
    Ok(())
}

/// A program that cargo installs beside what it builds, at the version that is pinned here.
struct Tool {
    name: &'static str,
    version: &'static str,
    /// What it says its version to.
    ask: &'static [&'static str],
}

impl Tool {
    fn program(&self, checkout: &Checkout) -> anyhow::Result<PathBuf> {
        let root = compile::target_folder(checkout).join("tools");
        let program = root.join("bin").join(self.name);
        let said = Command::new(&program).args(self.ask).output();
        let is_right = said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(self.version));
        if !is_right {
            println!("installing {} {}", self.name, self.version);
            let mut command = checkout.cargo();
            command
                .args(["install", "--locked", "--quiet", "--force", "--version", self.version])
                .arg("--root")
                .arg(&root)
                .arg(self.name);
            done(&mut command)?;
        }
        Ok(program)
    }
}

/// Licences, advisories, bans and sources by deny.toml.
fn check_policy(checkout: &Checkout, offline: bool) -> anyhow::Result<()> {
    let program = DENY.program(checkout)?;
    let mut command = checkout.command(&program.display().to_string());
    command.args(["--workspace", "--all-features"]);
    if offline {
        command.arg("--offline");
    }
    done(command.arg("check")).context(
        "deny.toml is not met, or the advisory database could not be fetched: --offline takes the one of this machine",
    )
}

/// One bill for the crates in `mesh`, one for the packages in the UI.
fn bills(checkout: &Checkout, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let program = CYCLONEDX.program(checkout)?;
    let name = "mesh.cdx";
    let mut command = checkout.command(&program.display().to_string());
    command
        .args([
            "cyclonedx",
            "--format",
            "json",
            "--spec-version",
            "1.5",
            "--describe",
            "binaries",
        ])
        .args(["--target", TARGET, "--no-build-deps", "--manifest-path"])
        .arg(checkout.path("services/mesh/Cargo.toml"));
    done(&mut command)?;
    let written = checkout.path("services/mesh/mesh_bin.cdx.json");
    let crates = folder.join(format!("{name}.json"));
    fs::rename(&written, &crates).with_context(|| format!("{} was not written", written.display()))?;
    remove_strays(checkout)?;
    let mut bill: Value = serde_json::from_slice(&fs::read(&crates)?).context("the bill is no JSON")?;
    keep_only(&mut bill, &built(checkout)?);
    fs::write(&crates, serde_json::to_vec_pretty(&bill)?).with_context(|| crates.display().to_string())?;

    programs::require_node()?;
    let packages = folder.join("ui.cdx.json");
    let mut command = checkout.command("npm");
    command.current_dir(checkout.path("services/gateway/ui")).args([
        "sbom",
        "--sbom-format",
        "cyclonedx",
        "--omit",
        "dev",
        "--package-lock-only",
    ]);
    let output = command.stderr(Stdio::inherit()).output().context("npm sbom")?;
    if !output.status.success() {
        bail!("npm sbom failed");
    }
    fs::write(&packages, output.stdout).with_context(|| packages.display().to_string())?;
    Ok(vec![crates, packages])
}

/// `name@version` of every crate that is built.
fn built(checkout: &Checkout) -> anyhow::Result<BTreeSet<String>> {
    let mut command = checkout.cargo();
    command.args(["tree", "--workspace", "--target", TARGET, "--edges", "normal"]);
    let output = command.args(["--prefix", "none", "--format", "{p}"]).output()?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let named = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{}@{}", words.next()?, words.next()?.trim_start_matches('v')))
    };
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(named)
        .collect())
}

/// The tool also lists what only a feature would bring that nobody turned on.
fn keep_only(bill: &mut Value, built: &BTreeSet<String>) {
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let mut gone = BTreeSet::new();
    if let Some(components) = bill["components"].as_array_mut() {
        components.retain(|one| {
            let is_built = built.contains(&format!("{}@{}", text(one, "name"), text(one, "version")));
            if !is_built {
                gone.insert(text(one, "bom-ref"));
            }
            is_built
        });
    }
    if let Some(dependencies) = bill["dependencies"].as_array_mut() {
        dependencies.retain(|one| !gone.contains(&text(one, "ref")));
        for one in dependencies {
            if let Some(on) = one["dependsOn"].as_array_mut() {
                on.retain(|on| !gone.contains(on.as_str().unwrap_or_default()));
            }
        }
    }
}

/// The tool writes a bill beside every manifest of the workspace.
fn remove_strays(checkout: &Checkout) -> anyhow::Result<()> {
    for parent in ["services", "shared", "tests"] {
        for member in fs::read_dir(checkout.path(parent))? {
            let member = member?.path();
            let Ok(files) = fs::read_dir(&member) else { continue };
            for file in files.flatten() {
                if file.file_name().to_string_lossy().ends_with(".cdx.json") {
                    fs::remove_file(file.path())?;
                }
            }
        }
    }
    Ok(())
}

/// `mesh` with the UI in it, for any Linux of this architecture.
fn binary(checkout: &Checkout, folder: &Path) -> anyhow::Result<PathBuf> {
    let targets = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let has_target = targets.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(TARGET));
    if !has_target {
        bail!("Rust cannot build for {TARGET}: `rustup target add {TARGET}`");
    }
    if Command::new("musl-gcc").arg("--version").output().is_err() {
        bail!("musl-gcc builds the C parts of a static binary: install it (Debian: `apt-get install musl-tools`)");
    }
    ui::build(checkout)?;
    let build = ["build", "--workspace", "--bin", "mesh", "--release", "--target", TARGET];
    let programs = compile::run(checkout, "dist", "building the static binary", &build)?;
    let is_mesh = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem == "mesh");
    let program = programs.iter().find(is_mesh).context("cargo built no `mesh`")?;
    let into = folder.join(format!("mesh-{TARGET}"));
    done(Command::new("strip").arg("-o").arg(&into).arg(program))?;
    let linked = Command::new("ldd").arg(&into).output().context("ldd")?;
    let said = [linked.stdout, linked.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if !["statically linked", "not a dynamic"]
        .iter()
        .any(|words| said.contains(words))
    {
        bail!("{} needs libraries of the system:\n{said}", into.display());
    }
    Ok(into)
}

/// The image as Docker loads it.
fn image(checkout: &Checkout, folder: &Path) -> anyhow::Result<PathBuf> {
    let tag = format!("agent-mesh:{}", env!("CARGO_PKG_VERSION"));
    done(checkout.command("docker").args(["build", "--tag", &tag, "."]))?;
    let into = folder.join(format!("agent-mesh-{}.tar", env!("CARGO_PKG_VERSION")));
    done(
        checkout
            .command("docker")
            .args(["save", "--output"])
            .arg(&into)
            .arg(&tag),
    )?;
    Ok(into)
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bill_names_what_is_built_and_nothing_else() {
        let one = |name: &str| json!({"bom-ref": format!("registry#{name}"), "name": name, "version": "1.0.0"});
        let mut bill = json!({
            "components": [one("rustls"), one("ring"), one("rustls-webpki")],
            "dependencies": [
                {"ref": "registry#rustls", "dependsOn": ["registry#ring", "registry#rustls-webpki"]},
                {"ref": "registry#ring"},
            ],
        });
        let built = ["rustls@1.0.0", "rustls-webpki@1.0.0", "ring@0.9.0"].map(str::to_owned);
        keep_only(&mut bill, &built.into());
        let expected = json!({
            "components": [one("rustls"), one("rustls-webpki")],
            "dependencies": [{"ref": "registry#rustls", "dependsOn": ["registry#rustls-webpki"]}],
        });
        assert_eq!(bill, expected);
    }

    #[test]
    fn what_is_built_is_told_with_its_versions() {
        let built = built(&Checkout::find().unwrap()).unwrap();
        assert!(
            built.contains(concat!("xtask@", env!("CARGO_PKG_VERSION"))),
            "{built:?}"
        );
        assert!(!built.iter().any(|one| one.starts_with("ring@")), "{built:?}");
    }
}
