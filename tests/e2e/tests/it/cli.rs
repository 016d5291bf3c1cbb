//! The command line against a running mesh: declare, read, invoke, look into, delete.

use std::io::Write;

use serde_json::{Value, json};

use crate::harness::{Mesh, kinds, unique};

fn declared(name: &str, instructions: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    write!(
        file,
        "apiVersion: mesh/v1\nkind: Agent\nmetadata: {{name: {name}}}\nspec:\n  \
         model: {{name: gpt-4, fallbacks: [mock]}}\n  instructions: {instructions}\n"
    )
    .unwrap();
    file
}

async fn apply(mesh: &Mesh, name: &str, instructions: &str) -> Value {
    let file = declared(name, instructions);
    let path = file.path().display().to_string();
    let applied = mesh.cli(&["apply", "-f", &path, "--json"]).await.json();
    assert_eq!(applied["failed"], 0, "{applied}");
    applied["items"][0].clone()
}

#[tokio::test]
async fn an_agent_is_applied_read_invoked_looked_into_and_deleted() {
    let mesh = Mesh::shared().await;
    let (name, marker) = (unique("poet"), unique("said"));
    let first = apply(mesh, &name, "You rhyme.").await;
    assert_eq!(
        (&first["action"], &first["published"]["version"]),
        (&json!("created"), &json!(1))
    );
    let again = apply(mesh, &name, "You rhyme.").await;
    assert_eq!(
        (&again["action"], &again["published"]["version"]),
        (&json!("unchanged"), &json!(1))
    );
    let changed = apply(mesh, &name, "You rhyme well.").await;
    assert_eq!(
        (&changed["action"], &changed["published"]["version"]),
        (&json!("updated"), &json!(2))
    );
    let got = mesh.cli(&["get", "agents", &name, "--json"]).await.json();
    assert_eq!(got["spec"]["instructions"], "You rhyme well.", "{got}");
    let all = mesh.cli(&["get", "agents", "-o", "json"]).await.json();
    assert!(all["items"].to_string().contains(&name), "{all}");
    // Published a moment ago, and known.
    let ended = mesh.cli(&["invoke", &name, &marker, "--json"]).await.json();
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!(ended["version"], 2, "{ended}");
    assert_eq!(ended["output"]["text"], format!("The model heard: {marker}"));
    let id = ended["id"].as_str().unwrap();
    let streamed = mesh.cli(&["invoke", &name, &marker]).await;
    assert_eq!(streamed.code, Some(0), "{streamed:?}");
    assert!(
        streamed.stdout.contains(&format!("The model heard: {marker}")),
        "{streamed:?}"
    );
    let listed = mesh.cli(&["invocations", "--agent", &name, "--json"]).await.json();
    assert!(listed["items"].to_string().contains(id), "{listed}");
    let steps = mesh.cli(&["steps", id, "--json"]).await.json();
    let steps = steps["items"].as_array().expect("a list");
    assert_eq!(kinds(steps), ["context.memories", "model", "memory.store"]);
    let described = mesh.cli(&["describe", "agent", &name, "--json"]).await.json();
    assert_eq!(described["versions"].as_array().map(Vec::len), Some(2), "{described}");
    let deleted = mesh.cli(&["delete", "agent", &name]).await;
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
    let gone = mesh.cli(&["get", "agents", &name]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    let refused = mesh.cli(&["invoke", &name, "hello"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("next: "),
        "an error names the next step: {refused:?}"
    );
}

#[tokio::test]
async fn what_the_command_line_prints_as_a_table_names_what_was_asked_for() {
    let mesh = Mesh::shared().await;
    for (arguments, expected) in [
        (vec!["get", "agents"], "sofia"),
        (vec!["get", "agents", "--tenant", "daarion"], "sofia"),
        (vec!["get", "tenants"], "daarion"),
        (vec!["get", "agents", "sofia", "-o", "yaml"], "kind: Agent"),
        (vec!["get", "models"], "mock"),
        (vec!["services"], "execution"),
        (vec!["config", "execution"], "execution.lanes"),
        (vec!["status"], "healthy"),
        (vec!["--help"], "Examples:"),
    ] {
        let ran = mesh.cli(&arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.contains(expected), "{arguments:?}: {ran:?}");
    }
}

#[tokio::test]
async fn wrong_use_ends_with_two_and_a_mesh_that_is_not_there_with_one() {
    let mesh = Mesh::shared().await;
    for arguments in [
        vec!["nope"],
        vec!["get", "agents", "a b"],
        vec!["steps", "inv_1"],
        vec!["delete"],
    ] {
        let ran = mesh.cli(&arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
    let ran = mesh.cli(&["get", "agents", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("next: mesh up"), "{ran:?}");
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_with_a_healthy_mesh() {
    let mesh = Mesh::shared().await;
    let ran = mesh.cli(&["doctor"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
