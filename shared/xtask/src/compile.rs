//! Runs a cargo build with a bar: cargo's JSON tells each finished unit, and the number of units
//! of the last build (before the first one: of packages) tells how many there will be.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, bail};

use crate::checkout::Checkout;
use crate::report::Report;

/// Words cargo begins lines with that the bar says better.
const CHATTER: [&str; 9] = [
    "Compiling",
    "Checking",
    "Fresh",
    "Finished",
    "Downloaded",
    "Locking",
    "Adding",
    "Executable",
    "Dirty",
];

/// Builds, and answers the programs that were built or up to date. `name` keeps the number of
/// units for the next time.
pub(crate) fn run(checkout: &Checkout, name: &str, title: &str, arguments: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let memory = target_folder(checkout).join(format!("xtask-units-{name}"));
    let remembered = fs::read_to_string(&memory)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let mut report = Report::new(title, remembered.unwrap_or_else(|| estimate(checkout)));
    let mut command = checkout.cargo();
    command
        .args(arguments)
        .args(["--message-format", "json-render-diagnostics"]);
    // Pipes hide from cargo that a person reads its diagnostics.
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let programs = watch(command, &mut report)?;
    // An estimate that cannot be kept is only a worse bar.
    let _ = fs::write(&memory, report.done().to_string());
    Ok(programs)
}

enum Line {
    Message(String),
    Said(String),
}

fn watch(mut command: Command, report: &mut Report) -> anyhow::Result<Vec<PathBuf>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;
    let messages = sender.clone();
    let readers = [
        thread::spawn(move || {
            forward(BufReader::new(stdout), |line| {
                messages.send(Line::Message(line)).is_ok()
            });
        }),
        thread::spawn(move || {
            forward(BufReader::new(stderr), |line| sender.send(Line::Said(line)).is_ok());
        }),
    ];
    let mut programs = Vec::new();
    for line in lines {
        match line {
            Line::Message(json) => {
                if let Some(unit) = finished_unit(&json) {
                    report.advance(unit);
                }
                programs.extend(field(&json, "executable").map(PathBuf::from));
            }
            Line::Said(text) => match plain(&text).split_whitespace().next() {
                Some("Downloading" | "Updating" | "Blocking") => report.say(plain(&text).trim()),
                Some(word) if CHATTER.contains(&word) => {}
                _ => report.print(&text),
            },
        }
    }
    for reader in readers {
        reader.join().ok().context("reading cargo's output failed")?;
    }
    if !child.wait()?.success() {
        bail!(
            "cargo {} failed",
            command.get_args().next().unwrap_or_default().display()
        );
    }
    Ok(programs)
}

/// The text without colours.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest));
    std::iter::once(first).chain(rest).collect()
}

fn forward(reader: impl BufRead, mut send: impl FnMut(String) -> bool) {
    for line in reader.split(b'\n').map_while(Result::ok) {
        if !send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()) {
            break;
        }
    }
}

/// The name of the unit a message says is done.
fn finished_unit(json: &str) -> Option<&str> {
    let is_unit =
        json.contains("\"reason\":\"compiler-artifact\"") || json.contains("\"reason\":\"build-script-executed\"");
    let id = is_unit.then(|| field(json, "package_id"))??;
    // The id ends in `#name@version`, or in `/name#version` where the folder has the name.
    let (path, last) = id.rsplit_once('#')?;
    last.split_once('@')
        .map(|(name, _)| name)
        .or_else(|| path.rsplit('/').next())
}

/// The text of a JSON field whose value needs no unescaping.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    let (value, _) = rest.split_once('"')?;
    (!value.contains('\\')).then_some(value)
}

/// Packages in the build, and five eighths more for build scripts, their runs and crates built for the host too (577
/// units of 354 packages in November 2026).
fn estimate(checkout: &Checkout) -> u64 {
    let mut command = checkout.cargo();
    command.args(["tree", "--workspace", "--edges", "normal,build", "--prefix", "none"]);
    let output = command.args(["--format", "{p}"]).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let packages: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let packages = u64::try_from(packages.len()).unwrap_or(0);
    packages + packages * 5 / 8
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder(checkout: &Checkout) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.path("target"), |set| checkout.root().join(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_unit_has_its_crates_name() {
        let json = r#"{"reason":"compiler-artifact","package_id":"registry+x#serde@1.0.2","executable":null}"#;
        assert_eq!(finished_unit(json), Some("serde"));
        let json = r#"{"reason":"build-script-executed","package_id":"path+file:///a/b/mesh#0.1.0"}"#;
        assert_eq!(finished_unit(json), Some("mesh"));
        let json = r#"{"reason":"compiler-message","package_id":"registry+x#serde@1.0.2"}"#;
        assert_eq!(finished_unit(json), None);
    }

    #[test]
    fn colours_do_not_hide_the_first_word() {
        assert_eq!(
            plain("\u{1b}[1m\u{1b}[92m   Compiling\u{1b}[0m mesh"),
            "   Compiling mesh"
        );
        assert_eq!(plain("warning: unused"), "warning: unused");
    }

    #[test]
    fn a_program_is_named_when_there_is_one() {
        assert_eq!(
            field(r#"{"executable":"/a/mesh","fresh":true}"#, "executable"),
            Some("/a/mesh")
        );
        assert_eq!(field(r#"{"executable":null,"fresh":true}"#, "executable"), None);
    }

    #[test]
    fn a_build_that_fails_is_an_error_and_its_words_are_not_lost() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo '{\"reason\":\"compiler-artifact\",\"package_id\":\"a#b@1\"}'; exit 3",
        ]);
        let mut report = Report::new("building", 1);
        assert!(watch(command, &mut report).is_err());
        assert_eq!(report.done(), 1);
    }
}
