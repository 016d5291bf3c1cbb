//! The README's commands, as they stand there: by the real `nats` and `curl` where they are on PATH, else by clients
//! that send the same bytes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Answer, Mesh, items, kinds, until};

const README: &str = "../../README.md";
const FIRST: &str = "nats pub router.invoke.agent '{\"agent_id\":\"agent:sofia\",\
                     \"entrypoint\":\"channel_message\",\"payload\":{\
                     \"channel_id\":\"7c72d497-27aa-4e75-bb2f-4a4a21d4f91f\",\
                     \"microdao_id\":\"microdao:daarion\"}}'";
const CHANNEL: &str = "7c72d497-27aa-4e75-bb2f-4a4a21d4f91f";
/// What an `llm` agent does for a message in a channel.
pub(crate) const CHANNEL_STEPS: [&str; 5] = [
    "context.messages",
    "context.memories",
    "model",
    "message.post",
    "memory.store",
];

#[tokio::test]
async fn the_readmes_nats_commands_lead_to_replies_with_their_steps() {
    let mesh = Mesh::shared().await;
    let commands = commands("nats ");
    assert_eq!(commands.first().map(String::as_str), Some(FIRST));
    assert!(commands.iter().any(|line| line.starts_with("nats req mesh.call.")));
    let by = match is_on_path("nats") {
        true => "the nats program",
        false => "a client that sends the same bytes: nats is not on PATH",
    };
    println!("README commands are run by {by}");
    for line in &commands {
        println!("{line}");
        run_nats(mesh, line).await;
    }
    let http = mesh.http().tenant("daarion");
    let reply = http.replies(CHANNEL).await.remove(0);
    assert_eq!(reply["author"]["id"], "sofia");
    let kept = http
        .get(&format!("/api/messaging/channels/{CHANNEL}/messages?limit=50"))
        .await;
    let kept = kept.as_array().expect("a bare list");
    assert!(kept.iter().any(|message| message["text"] == reply["text"]), "{kept:?}");
    let invocation = invocation_of(&reply);
    let ended = http.until_ended(&invocation).await;
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!(ended["entrypoint"], "channel_message");
    let steps = http.steps(&invocation).await;
    assert_eq!(kinds(&steps), CHANNEL_STEPS);
    for step in &steps {
        assert!(step["error"].is_null(), "{step}");
        assert!(!step["input"].is_null() && !step["output"].is_null(), "{step}");
        assert!(step["started_at"].is_string() && step["ended_at"].is_string(), "{step}");
    }
    assert_eq!(steps[2]["usage"]["input_tokens"], 11, "{}", steps[2]);
    assert_eq!(steps[3]["output"]["text"], reply["text"]);
    // The one published to `mesh.invoke` has ended, too.
    let http = mesh.http();
    until(30, "an invocation by subject has ended", || async {
        let page = http.get("/api/v1/invocations?agent=sofia&state=completed").await;
        (!items(&page).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_readmes_curl_commands_are_answered() {
    let mesh = Mesh::shared().await;
    let commands = commands("curl ");
    assert!(!commands.is_empty());
    if !is_on_path("curl") {
        println!("curl is not on PATH: the same requests are sent by other tests");
        return;
    }
    // The first two read what the first NATS command led to.
    run_nats(mesh, FIRST).await;
    mesh.http().tenant("daarion").replies(CHANNEL).await;
    for line in &commands {
        let mut words = words(&line.replace("http://127.0.0.1:8000", mesh.http().base()));
        words.extend(["--silent", "--show-error", "--fail-with-body"].map(str::to_owned));
        let mut command = mesh.launch.command(&words[0]);
        command.args(&words[1..]).env("NO_PROXY", "*");
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("no panic").expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {text}");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        assert!(body.is_object() || body.is_array(), "{line}: {body}");
    }
}

#[tokio::test]
async fn the_kept_test_channel_route_answers_after_the_reply_is_posted() {
    let mesh = Mesh::shared().await;
    let channel = crate::harness::unique("kept");
    let body = serde_json::json!({"agent_id": "agent:sofia", "entrypoint": "channel_message",
        "payload": {"channel_id": channel, "microdao_id": "microdao:daarion"}});
    let answer: Answer = mesh.http().post("/internal/agent-runtime/test-channel", &body).await;
    let expected = serde_json::json!({"status": "processed", "agent_id": "agent:sofia"});
    assert_eq!(answer.expect(200), expected);
    let messages = mesh.http().tenant("daarion").messages(&channel).await;
    assert_eq!(messages.len(), 1, "{messages:?}");
}

/// Which invocation posted a message.
pub(crate) fn invocation_of(message: &Value) -> String {
    let id = message["metadata"]["invocation"].as_str();
    id.unwrap_or_else(|| panic!("{message} names no invocation")).to_owned()
}

async fn run_nats(mesh: &Mesh, line: &str) {
    let words = words(line);
    if is_on_path("nats") {
        let mut command = mesh.launch.command("nats");
        command.arg("--server").arg(mesh.state().nats).args(&words[1..]);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("no panic").expect("nats runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {text}{:?}", output.stderr);
        assert!(words[1] != "req" || text.contains("\"completed\""), "{line}: {text}");
        return;
    }
    let client = mesh.nats().await;
    let (subject, payload) = (words[2].clone(), words[3].clone());
    match words[1].as_str() {
        "pub" => {
            #[expect(clippy::disallowed_methods, reason = "the bytes of `nats pub`, whatever the subject")]
            client.publish(subject, payload.into()).await.expect("it is sent");
            client.flush().await.expect("it is sent");
        }
        "req" => {
            let request = async_nats::Request::new()
                .payload(payload.into())
                .timeout(Some(Duration::from_secs(60)));
            let answer = client.send_request(subject, request).await.expect("an answer");
            let result: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            assert_eq!(result["state"], "completed", "{result}");
        }
        other => panic!("a verb of nats that this test does not know: {other}"),
    }
}

/// Lines of the README's fenced blocks that begin so.
fn commands(prefix: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(README);
    let text = std::fs::read_to_string(path).expect("the README");
    let fenced = text.split("```").skip(1).step_by(2);
    fenced
        .flat_map(str::lines)
        .filter(|line| line.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

/// As a shell splits them, with single quotes and no escapes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in line.chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            other => words.last_mut().expect("there is one").push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_on_path(program: &str) -> bool {
    let mut command = Command::new(program);
    let output = command.arg("--version").stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}
