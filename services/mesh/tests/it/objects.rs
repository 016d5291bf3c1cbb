//! Declared objects and invocations over the command line, against one mesh.

use std::io::Write;
use std::process::Stdio;

use crate::support::{Home, text, told};

const FILE: &str = "\
apiVersion: mesh/v1
kind: Agent
metadata: {name: helper}
spec: {model: {name: mock, temperature: 0.2}, instructions: You help.}
---
metadata: {name: broken}
spec: {model: {temperature: 9}}
---
metadata: {name: counted, tenant: daarion}
spec: {runtime: noop, noop: {steps: 2}}
";

#[test]
fn agents_are_declared_compared_invoked_and_deleted() {
    let home = Home::new();
    home.done(&["up", "--detach"]);
    let path = home.path().join("agents.yaml");
    let file = path.to_str().unwrap();
    std::fs::write(&path, FILE).unwrap();

    let applied = home.run(&["apply", "-f", file]);
    let (said, wrong) = (text(&applied.stdout), text(&applied.stderr));
    assert_eq!(applied.status.code(), Some(1), "{}", told(&applied));
    assert!(
        said.contains("agent/helper created in default, version 1 published"),
        "{said}"
    );
    assert!(
        said.contains("agent/counted created in daarion"),
        "an error does not stop the rest: {said}"
    );
    assert!(
        wrong.contains("agents.yaml, document 2: spec.model.temperature"),
        "{wrong}"
    );

    let good = FILE.replace("temperature: 9", "temperature: 1");
    std::fs::write(&path, &good).unwrap();
    home.done(&["apply", "-f", file]);
    assert!(
        home.done(&["apply", "-f", file])
            .lines()
            .all(|line| line.contains("unchanged"))
    );
    assert_eq!(home.done(&["diff", "-f", file]), "");

    std::fs::write(&path, good.replace("0.2", "0.3")).unwrap();
    let diff = home.run(&["diff", "-f", file]);
    assert_eq!(diff.status.code(), Some(1), "{}", told(&diff));
    let said = text(&diff.stdout);
    assert!(
        said.contains("- spec.model.temperature: 0.2\n+ spec.model.temperature: 0.3"),
        "{said}"
    );
    assert!(
        home.done(&["apply", "-f", file])
            .contains("agent/helper updated in default, version 2 published")
    );

    invocations_are_followed(&home);

    let other = home.run(&["apply", "-f", file, "--tenant", "elsewhere"]);
    assert!(text(&other.stderr).contains("metadata.tenant"), "{}", told(&other));
    home.done(&["delete", "agent", "helper"]);
    let gone = home.run(&["get", "agents", "helper"]);
    assert_eq!(gone.status.code(), Some(1), "{}", told(&gone));
    assert!(text(&gone.stderr).contains("next: mesh get agents"), "{}", told(&gone));
}

fn invocations_are_followed(home: &Home) {
    let invoked = home.run(&["invoke", "helper", "hello", "--session", "ann"]);
    assert!(invoked.status.success(), "{}", told(&invoked));
    let (answer, remark) = (text(&invoked.stdout), text(&invoked.stderr));
    assert!(
        answer.starts_with("Hello!") && answer.lines().count() == 1,
        "the answer stands once: {answer}"
    );
    assert!(
        remark.contains("completed") && remark.contains("provider mock"),
        "{remark}"
    );

    let ended = home.json(&["invoke", "counted", "--tenant", "daarion"]);
    let id = ended["id"].as_str().unwrap();
    let steps = home.json(&["steps", id, "--tenant", "daarion"]);
    let kinds: Vec<_> = steps["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["kind"].clone())
        .collect();
    assert_eq!(kinds, ["noop", "noop"]);
    let of_session = home.json(&["invocations", "--session", "ann", "--state", "completed"]);
    assert_eq!(of_session["items"].as_array().unwrap().len(), 1, "{of_session}");
    assert!(
        home.done(&["describe", "agent", "helper"])
            .contains("Latest invocations")
    );

    let accepted = home.done(&["invoke", "helper", "later", "--no-wait"]);
    assert!(accepted.starts_with("inv_"), "{accepted}");
    let nobody = home.run(&["invoke", "nobody", "hello"]);
    assert_eq!(nobody.status.code(), Some(1), "{}", told(&nobody));
    assert!(
        text(&nobody.stderr).contains("next: mesh get agents"),
        "{}",
        told(&nobody)
    );
}

#[test]
fn a_new_agent_is_what_apply_takes() {
    let home = Home::new();
    home.done(&["up", "--detach", "--no-demo"]);
    let yaml = home.done(&["new", "agent", "fresh", "--model", "mock", "-f", "-"]);
    let mut apply = home.command(&["apply", "-f", "-"]);
    let mut child = apply.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let applied = child.wait_with_output().unwrap();
    assert!(
        text(&applied.stdout).contains("agent/fresh created"),
        "{yaml}\n{}",
        told(&applied)
    );
    assert!(home.done(&["invoke", "fresh", "help"]).contains("help"));
    for (arguments, part) in [
        (&["services"][..], "execution"),
        (&["get", "tenants"], "default"),
        (&["get", "models"], "mock"),
        (&["doctor"], "nothing is wrong"),
        (&["invocations", "--count"], "completed"),
        (&["migrate"], "nothing"),
        (&["dashboard", "--print"], "http://127.0.0.1:"),
    ] {
        let said = home.done(arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert_eq!(home.json(&["dead-letters"])["items"], serde_json::json!([]));
}

#[test]
fn without_a_mesh_each_command_says_how_to_get_one() {
    let home = Home::new();
    for arguments in [
        &["get", "agents"][..],
        &["invoke", "sofia", "x"],
        &["services"],
        &["cancel", "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ] {
        // A port that nobody has: the reserved one.
        let output = home
            .command(arguments)
            .args(["--url", "http://127.0.0.1:1"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(text(&output.stderr).contains("next: mesh up"), "{}", told(&output));
    }
}
