//! The bans of deny.toml, checked against what is really built: Cargo.lock also lists crates that
//! no feature turns on. With cargo-deny installed, its licence and source checks run too.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::checkout::Checkout;
use crate::programs;

/// Names the banned crates in the build, and fails if there are any.
pub(crate) fn run(checkout: &Checkout) -> anyhow::Result<()> {
    let path = checkout.path("deny.toml");
    let policy = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let banned = banned(&policy);
    if banned.is_empty() {
        bail!("deny.toml bans nothing: is its `deny` list still one crate per line?");
    }
    let mut command = checkout.cargo();
    command.args(["tree", "--workspace", "--edges", "normal,build,dev", "--target", "all"]);
    command
        .args(["--prefix", "none", "--format", "{p}", "--locked"])
        .stderr(Stdio::inherit());
    let output = command.output().context("cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed");
    }
    let built = names(&String::from_utf8_lossy(&output.stdout));
    let found: Vec<&String> = banned.intersection(&built).collect();
    if !found.is_empty() {
        bail!("banned crates are in the build: {found:?}; `cargo tree -i NAME` says by whom");
    }
    println!("{} crates, none of the {} banned ones", built.len(), banned.len());
    if programs::has_deny() {
        let status = checkout.cargo().args(["deny", "--workspace", "check"]).status()?;
        if !status.success() {
            bail!("cargo deny check failed");
        }
    }
    Ok(())
}

/// The crates of lines such as `{ crate = "ring", reason = "…" }` in the `deny` list.
fn banned(policy: &str) -> BTreeSet<String> {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ crate = \""))
        .filter_map(|rest| rest.split(['"', '@']).next().map(str::to_owned))
        .collect()
}

/// First words of cargo tree's lines.
fn names(tree: &str) -> BTreeSet<String> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_policy_bans_the_second_crypto_provider() {
        let policy = fs::read_to_string(Checkout::find().unwrap().path("deny.toml")).unwrap();
        let banned = banned(&policy);
        for name in ["ring", "openssl", "native-tls", "rsa"] {
            assert!(banned.contains(name), "{banned:?}");
        }
    }

    #[test]
    fn crates_are_the_first_words_of_the_tree() {
        let tree = "serde v1.0.0\nring v0.17.0 (*)\n\nserde v1.0.0\n";
        assert_eq!(names(tree), BTreeSet::from(["ring".to_owned(), "serde".to_owned()]));
    }
}
