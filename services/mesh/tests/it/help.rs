//! Help and completions: every command has both, and examples.

use crate::support::{program, text, told};

const COMMANDS: &[&str] = &[
    "",
    "up",
    "status",
    "down",
    "restart",
    "reset",
    "migrate",
    "setup",
    "seed",
    "health",
    "logs",
    "dashboard",
    "serve",
    "node",
    "node drain",
    "node undrain",
    "nodes",
    "nodes show",
    "nodes forget",
    "keys",
    "keys create",
    "keys revoke",
    "tokens",
    "tokens create",
    "tokens revoke",
    "users",
    "users list",
    "users create",
    "users set-role",
    "users disable",
    "users enable",
    "users delete",
    "users password",
    "audit",
    "audit verify",
    "plan",
    "brain",
    "config",
    "doctor",
    "support-bundle",
    "backup",
    "restore",
    "services",
    "apply",
    "get",
    "describe",
    "describe agent",
    "describe invocation",
    "delete",
    "diff",
    "new",
    "new agent",
    "invoke",
    "invocations",
    "steps",
    "cancel",
    "pause",
    "resume",
    "signal",
    "approvals",
    "approve",
    "deny",
    "fork",
    "replay",
    "compare",
    "dead-letters",
    "dead-letters discard",
    "dead-letters requeue",
    "dead-letters show",
    "memories",
    "memories list",
    "memories search",
    "memories show",
    "memories remember",
    "memories forget",
    "memories status",
    "memories consolidate",
    "knowledge",
    "knowledge add",
    "knowledge list",
    "knowledge show",
    "knowledge search",
    "knowledge delete",
    "completions",
];

fn help(command: &str) -> String {
    let mut mesh = program();
    let output = mesh
        .args(command.split_whitespace())
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", told(&output));
    text(&output.stdout)
}

#[test]
fn the_help_of_the_program_is_as_it_was() {
    insta::assert_snapshot!("mesh", help(""));
}

#[test]
fn the_help_of_each_command_is_as_it_was() {
    let all: Vec<_> = COMMANDS[1..]
        .iter()
        .map(|command| format!("$ mesh {command} --help\n{}", help(command)))
        .collect();
    // The options of every command are shown by each and pinned above.
    let own = all.iter().map(|one| {
        one.split("\nOptions of every command:")
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    let tails = all.iter().map(|one| {
        one.split("\n\n")
            .skip(1)
            .filter(|part| part.contains("xamples:") || part.contains("xit codes"))
            .collect::<Vec<_>>()
            .join("\n\n")
    });
    let pinned: Vec<_> = own.zip(tails).map(|(own, tail)| format!("{own}\n{tail}\n")).collect();
    insta::assert_snapshot!("commands", pinned.join("\n"));
}

#[test]
fn every_command_shows_an_example() {
    for command in COMMANDS {
        let help = help(command);
        assert!(
            help.contains("Examples:") || help.contains("Examples"),
            "{command}:\n{help}"
        );
    }
}

#[test]
fn the_list_of_this_test_is_the_list_of_the_program() {
    let help = help("");
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // A long description goes on in a line of its own.
        .filter(|line| !line.starts_with("   "));
    // A line that is further in goes on with the text of the one before.
    let own = listed.filter(|line| !line.starts_with("   "));
    for name in own.filter_map(|line| line.split_whitespace().next()) {
        assert!(COMMANDS.contains(&name) || name == "bench", "{name} is not tested");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = program().args(["completions", shell]).output().unwrap();
        let script = text(&output.stdout);
        assert!(
            output.status.success() && script.contains("dead-letters"),
            "{shell}: {}",
            told(&output)
        );
    }
}

#[test]
fn wrong_use_ends_with_2_and_says_what_is_right() {
    for (arguments, hint) in [
        (&["upp"][..], "'up'"),
        (&["invoke"], "<AGENT>"),
        (&["get", "agentz"], "agents"),
        (&["invoke", "a.b", "x"], "A-Z a-z 0-9"),
        (&["steps", "inv_x"], "inv_"),
        (&["invocations", "--state", "gone"], "queued"),
        (&["get", "versions"], "mesh get versions AGENT"),
        (&["new", "agent"], "mesh new agent NAME"),
        (&["delete"], "mesh delete agent NAME"),
        (&["pause"], "ID|agent|tenant"),
        (&["pause", "agent"], "agent NAME"),
        (&["pause", "sofia"], "`agent NAME`"),
        (&["pause", "--all", "agent", "sofia"], "--all"),
        (&["approve", "sofia"], "mesh approvals"),
        (&["fork", "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"], "--from-step"),
        (&["fork", "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "--from-step", "0"], "1.."),
        (&["compare", "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"], "<OTHER>"),
        (&["memories", "forget"], "--user"),
        (&["memories", "forget", "--user", "ann"], "--yes"),
        (&["memories", "list", "--type", "feeling"], "procedural"),
        (
            &["memories", "remember", "sofia", "x", "--scope", "user"],
            "--user NAME",
        ),
        (&["knowledge", "search", "handbook"], "2 values"),
        (&["knowledge", "add", "handbook"], "<FILE|URL>"),
        (&["apply", "-f", "/dev/null"], "no object is declared"),
    ] {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", told(&output));
        assert!(text(&output.stderr).contains(hint), "{arguments:?}: {}", told(&output));
    }
}
