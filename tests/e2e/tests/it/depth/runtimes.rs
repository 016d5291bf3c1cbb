//! Runtimes beside `llm`: a script, an agent's command line, a remote agent. All through the same journal.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{Field, with};
use crate::harness::{kinds, unique};

#[tokio::test]
async fn a_script_answers_from_its_standard_input() {
    let field = Field::shared().await;
    let script = |command: Value| json!({"runtime": "script", "script": {"command": command, "timeout": "2s"}});
    let agent = field.agent("echo", script(json!(["cat"]))).await;
    let body = json!({"payload": {"said": "$(reboot) 'quoted'", "n": [1, 2]}});
    let ended = field.http().invoke(&agent, "?wait=20", &body).await.expect(200);
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!(ended["output"], body["payload"], "{ended}");
    let steps = field.http().steps(ended["id"].as_str().unwrap()).await;
    assert_eq!(kinds(&steps), ["tool"]);
    for (command, says) in [
        (json!(["sh", "-c", "echo too bad >&2; exit 3"]), "too bad"),
        (json!(["sleep", "60"]), "2"),
        (json!(["/no/such/program"]), "/no/such/program"),
        (json!(["sh", "-c", "yes | head -c 9000000"]), "bytes"),
    ] {
        let agent = field.agent("failing", script(command.clone())).await;
        let ended = field.http().invoke(&agent, "?wait=20", &body).await.expect(200);
        assert!(
            ["failed", "dead"].contains(&ended["state"].as_str().unwrap()),
            "{command}: {ended}"
        );
        assert!(
            ended["error"]["detail"].as_str().unwrap().contains(says),
            "{command}: {ended}"
        );
    }
}

const CODEX: &str = r#"#!/bin/sh
asked=$(cat | tr '\n' ' ')
echo '{"type":"thread.started","thread_id":"0199a213-81c0-7800-8aa1-bbab2a035a53"}'
echo '{"type":"turn.started"}'
printf '{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"I read: %s (%s)"}}\n' "$asked" "$*"
echo '{"type":"turn.completed","usage":{"input_tokens":30,"cached_input_tokens":10,"output_tokens":7}}'
"#;

#[tokio::test]
async fn an_agents_command_line_is_driven() {
    let field = Field::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let executable = folder.path().join("codex");
    std::fs::write(&executable, CODEX).unwrap();
    std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cli = json!({"driver": "codex", "executable": executable, "args": ["--model", "o9"]});
    let agent = field
        .agent(
            "coder",
            json!({"runtime": "cli", "cli": cli, "instructions": "Be brief."}),
        )
        .await;
    let ended = field.ask(&agent, "write a test").await;
    let said = ended["output"]["text"].as_str().unwrap_or_else(|| panic!("{ended}"));
    assert!(said.starts_with("I read: Be brief.  write a test"), "{said}");
    assert!(said.contains("exec --json --skip-git-repo-check --model o9"), "{said}");
    assert_eq!(ended["provider"], "codex", "{ended}");
    assert_eq!(
        (&ended["usage"]["input_tokens"], &ended["usage"]["output_tokens"]),
        (&json!(30), &json!(7))
    );
}

#[tokio::test]
async fn a_remote_agent_gets_the_payload_the_session_and_a_key() {
    let field = Field::shared().await;
    let place = unique("remote");
    let spec = json!({"runtime": "http",
        "http": {"url": field.outside.url(&format!("tool/{place}")), "effect": "idempotent"}});
    let agent = field.agent("remote", spec.clone()).await;
    let answer = json!({"text": "from afar", "usage": {"input_tokens": 3, "output_tokens": 4}});
    let body = json!({"session": "s-1", "payload": {"answer": answer, "fails": 503, "times": 1}});
    let ended = field.http().invoke(&agent, "?wait=20", &body).await.expect(200);
    assert_eq!(
        (&ended["state"], &ended["output"]["text"]),
        (&json!("completed"), &json!("from afar")),
        "{ended}"
    );
    assert_eq!(ended["usage"]["output_tokens"], 4, "{ended}");
    let entries = field.outside.entries(&place);
    assert_eq!(entries.len(), 2, "{entries:?}");
    for entry in &entries {
        assert_eq!(entry.key, format!("{}/1", ended["id"].as_str().unwrap()));
        assert_eq!(
            (&entry.body["session"], &entry.body["payload"]),
            (&json!("s-1"), &body["payload"])
        );
    }
    // Private, and not this machine.
    let far = with(spec, json!({"http": {"url": "http://10.255.255.1/agent"}}));
    let agent = field.agent("far", far).await;
    let ended = field.ask(&agent, "hello").await;
    assert_eq!(
        (&ended["state"], &ended["error"]["type"]),
        (&json!("failed"), &json!("tool/refused")),
        "{ended}"
    );
}
