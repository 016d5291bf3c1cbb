//! Dashboards, alerts and their tests are made by code: what is checked in must be what it makes, Prometheus must take
//! the rules, and every alert must fire where it should and nowhere else. The panels' queries have a test in `tests/e2e`.

use std::path::Path;

use anyhow::{Context, bail};

use crate::checkout::Checkout;
use crate::{programs, ui};

const FOLDER: &str = "grafana";

/// Compares, and asks promtool.
pub(crate) fn check(checkout: &Checkout) -> anyhow::Result<()> {
    let folder = checkout.path(FOLDER);
    programs::require_node()?;
    let promtool = programs::require_promtool()?;
    ui::install(checkout, &folder)?;
    ui::npm(checkout, &folder, &["run", "check", "--silent"])?;
    let prometheus = folder.join("prometheus");
    ask(checkout, &promtool, &prometheus, &["check", "config", "prometheus.yml"])?;
    // The rules are named relative to the file.
    ask(
        checkout,
        &promtool,
        &prometheus.join("tests"),
        &["test", "rules", "mesh.yml"],
    )
}

fn ask(checkout: &Checkout, promtool: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = checkout.command(&promtool.display().to_string());
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.context("cannot run promtool")?;
    if !output.status.success() {
        bail!(
            "`promtool {}` fails in {}:\n{}{}",
            arguments.join(" "),
            folder.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A rule that is wrong is seen: the check is no formality.
    #[test]
    fn promtool_refuses_a_rule_that_cannot_be_read() {
        let checkout = Checkout::find().unwrap();
        let promtool = programs::require_promtool().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rules = |expr: &str| format!("groups: [{{name: a, rules: [{{alert: A, expr: '{expr}'}}]}}]\n");
        fs::write(folder.path().join("rules.yml"), rules("up == 0")).unwrap();
        ask(&checkout, &promtool, folder.path(), &["check", "rules", "rules.yml"]).unwrap();
        fs::write(folder.path().join("rules.yml"), rules("up == (")).unwrap();
        let error = ask(&checkout, &promtool, folder.path(), &["check", "rules", "rules.yml"]).unwrap_err();
        assert!(error.to_string().contains("promtool check rules"), "{error}");
    }
}
