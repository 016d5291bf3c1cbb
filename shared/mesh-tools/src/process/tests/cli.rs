//! Agents' command lines, each played by a program that prints the same events.

use std::time::Duration;

use mesh_types::agent::{CliAgent, Span};
use mesh_types::tool::ToolReply;
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::{Bench, LONG, MUCH, runs};
use crate::process::run_cli;

const THREAD: &str = "0199a213-81c0-7800-8aa1-bbab2a035a53";
/// Notes arguments, one a line, and the prompt.
const NOTE: &str = "printf '%s\\n' \"$@\" > $bench/args; cat > $bench/prompt; pwd > $bench/folder\n";

struct Call<'a> {
    driver: &'a str,
    body: &'a str,
    session: Option<&'a str>,
    payload: Value,
}

impl Call<'_> {
    /// The answer, and the pieces that were streamed.
    async fn run(self, bench: &Bench) -> (Result<ToolReply, Problem>, Vec<String>) {
        let cli = agent(self.driver, bench.program("fake", &format!("{NOTE}{}", self.body)));
        let mut pieces = Vec::new();
        let mut on_text = |piece| pieces.push(piece);
        let reply = run_cli(&cli, &self.payload, self.session, LONG, MUCH, &mut on_text).await;
        (reply, pieces)
    }
}

fn agent(driver: &str, executable: String) -> CliAgent {
    CliAgent {
        driver: driver.to_owned(),
        executable: Some(executable),
        args: vec!["--model".to_owned(), "a b $(id)".to_owned()],
        timeout: None,
        memory: None,
    }
}

fn call<'a>(driver: &'a str, body: &'a str) -> Call<'a> {
    Call {
        driver,
        body,
        session: None,
        payload: json!({"text": "say \"hi\" `id`", "channel_id": "c1"}),
    }
}

const CODEX: &str = r#"cat <<END
{"type":"thread.started","thread_id":"0199a213-81c0-7800-8aa1-bbab2a035a53"}
{"type":"turn.started"}
not json at all
{"type":"item.completed","item":{"id":"item_0","type":"reasoning","text":"**Thinking**"}}
{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"I look around."}}
{"type":"error","message":"Reconnecting... 1/5"}
{"type":"item.completed","item":{"id":"item_2","type":"command_execution","command":"ls","aggregated_output":"x","exit_code":0,"status":"completed"}}
{"type":"item.completed","item":{"id":"item_3","type":"agent_message","text":"Done, \u043f\u0440\u0438\u0432\u0456\u0442."}}
{"type":"turn.completed","usage":{"input_tokens":24763,"cached_input_tokens":24448,"output_tokens":122}}
END
"#;

#[tokio::test]
async fn codex_answers_with_its_messages_usage_and_thread() {
    let bench = Bench::new();
    let (reply, pieces) = call("codex", CODEX).run(&bench).await;
    let reply = reply.unwrap();
    let text = "I look around.\n\nDone, привіт.";
    assert_eq!(
        reply.output,
        json!({"text": text, "session": THREAD, "answer": "Done, привіт."})
    );
    assert_eq!(pieces.concat(), text);
    assert_eq!(pieces.len(), 2);
    assert_eq!(
        (reply.usage, reply.provider.as_deref()),
        ((24763, 122, 0.0), Some("codex"))
    );
    assert_eq!(
        bench.noted("args"),
        "exec\n--json\n--skip-git-repo-check\n--model\na b $(id)\n-\n"
    );
    assert_eq!(bench.noted("prompt"), "say \"hi\" `id`");
}

#[tokio::test]
async fn codex_goes_on_with_its_own_threads_only() {
    let bench = Bench::new();
    let mut again = call("codex", CODEX);
    again.session = Some(THREAD);
    again.run(&bench).await.0.unwrap();
    assert!(
        bench.noted("args").ends_with(&format!("\nresume\n{THREAD}\n-\n")),
        "{}",
        bench.noted("args")
    );
    for other in ["--last", "channel-7", ""] {
        let mut begins = call("codex", CODEX);
        begins.session = Some(other);
        begins.run(&bench).await.0.unwrap();
        assert!(!bench.noted("args").contains("resume"), "{other}");
    }
}

#[tokio::test]
async fn codex_tells_why_a_turn_failed() {
    let body = "cat <<END\n{\"type\":\"turn.failed\",\"error\":{\"message\":\"model is at capacity\"}}\nEND\nexit 1";
    let problem = call("codex", body).run(&Bench::new()).await.0.unwrap_err();
    assert!(problem.is(Code::ToolFailed));
    assert_eq!(problem.detail, "codex: model is at capacity");
}

const CLAUDE: &str = r#"
printf '{"type":"system","subtype":"init","session_id":"ignored-later","tools":[],"model":"m"}\n'
say() { printf '{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}},"parent_tool_use_id":%s}\n' "$1" "$2"; }
start() { printf '{"type":"stream_event","event":{"type":"message_start","message":{}},"parent_tool_use_id":null}\n'; }
start; say 'Let me ' null; say 'look.' null
printf '{"type":"assistant","message":{"content":[{"type":"text","text":"Let me look."},{"type":"tool_use","id":"t","name":"Read","input":{}}]},"parent_tool_use_id":null}\n'
say 'a helper speaks' '"toolu_1"'
printf '{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"x"}]}}\n'
start; say 'Forty' null
printf '{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}},"parent_tool_use_id":null}\n'
say ' two' null
printf '{"type":"result","subtype":"success","is_error":false,"result":"Forty two","session_id":"%s",' 0199a213-81c0-7800-8aa1-bbab2a035a53
printf '"total_cost_usd":0.25,"usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":300,"output_tokens":7}}'
"#;

#[tokio::test]
async fn claude_streams_its_text_without_that_of_its_helpers() {
    let bench = Bench::new();
    let (reply, pieces) = call("claude-code", CLAUDE).run(&bench).await;
    let reply = reply.unwrap();
    let text = "Let me look.\n\nForty two";
    assert_eq!(pieces, ["Let me ", "look.", "\n\nForty", " two"]);
    assert_eq!(
        reply.output,
        json!({"text": text, "session": THREAD, "answer": "Forty two"})
    );
    assert_eq!(
        (reply.usage, reply.provider.as_deref()),
        ((330, 7, 0.25), Some("claude-code"))
    );
    let args = bench.noted("args");
    let start =
        "-p\n--output-format\nstream-json\n--verbose\n--include-partial-messages\n--model\na b $(id)\n--session-id\n";
    let id = args.strip_prefix(start).unwrap_or_else(|| panic!("{args}")).trim_end();
    assert!(
        uuid::Uuid::try_parse(id).is_ok() && bench.noted("folder").trim_end().ends_with(id),
        "{id}"
    );
}

#[tokio::test]
async fn claude_goes_on_in_the_folder_where_it_began() {
    let bench = Bench::new();
    let session = uuid::Uuid::new_v4().to_string();
    let mut folders = Vec::new();
    for _ in 0..2 {
        let mut again = call("claude-code", CLAUDE);
        again.session = Some(&session);
        again.run(&bench).await.0.unwrap();
        assert!(bench.noted("args").ends_with(&format!("\n--resume\n{session}\n")));
        folders.push(bench.noted("folder"));
        assert!(!std::path::Path::new(folders[0].trim()).exists());
    }
    assert_eq!(folders[0], folders[1]);
}

#[tokio::test]
async fn claude_tells_why_it_failed_also_with_exit_code_0() {
    let said =
        r#"printf '{"type":"result","subtype":"success","is_error":true,"result":"Credit balance is too low"}\n'"#;
    let problem = call("claude-code", said).run(&Bench::new()).await.0.unwrap_err();
    assert_eq!(problem.detail, "claude-code: Credit balance is too low");
    let turns = r#"printf '{"type":"result","subtype":"error_max_turns","is_error":false,"usage":{}}\n'"#;
    let problem = call("claude-code", turns).run(&Bench::new()).await.0.unwrap_err();
    assert_eq!(problem.detail, "claude-code: error_max_turns");
    let errors = r#"printf '{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["no session"]}\n'; exit 1"#;
    let problem = call("claude-code", errors).run(&Bench::new()).await.0.unwrap_err();
    assert_eq!(problem.detail, "claude-code: no session");
}

const HERMES: &str = r#"
printf '{"type": "system", "subtype": "init", "model": "m", "session_id": "20261008_145451_695a4d", "timestamp": 1}\n'
printf '{"type": "text", "text": "O Douro ", "timestamp": 2}\n{"type": "text", "text": "nasce \303'
printf '\241 na Serra", "timestamp": 3}\n'
printf '{"type": "result", "session_id": "20261008_145451_695a4d", "exit_code": 0, "text": "O Douro nasce \303\241 na Serra", "tokens": {"input": 5, "output": 6, "total": 18, "cache_read": 7, "cache_write": 0}}\n'
echo 'session_id: 20261008_145451_695a4d' >&2
"#;

#[tokio::test]
async fn hermes_streams_and_goes_on() {
    let bench = Bench::new();
    let mut again = call("hermes-agent", HERMES);
    again.session = Some("20261008_145451_695a4d");
    again.payload = json!({"topic": "rivers", "lines": 1});
    let (reply, pieces) = again.run(&bench).await;
    let reply = reply.unwrap();
    assert_eq!(pieces, ["O Douro ", "nasce á na Serra"]);
    assert_eq!(
        reply.output,
        json!({"text": "O Douro nasce á na Serra", "session": "20261008_145451_695a4d"})
    );
    assert_eq!(
        (reply.usage, reply.provider.as_deref()),
        ((12, 6, 0.0), Some("hermes-agent"))
    );
    let args = "chat\n--format\nstream-json\n--source\ntool\n--model\na b $(id)\n\
                --resume\n20261008_145451_695a4d\n--query-file\n-\n";
    assert_eq!(bench.noted("args"), args);
    assert_eq!(
        serde_json::from_str::<Value>(&bench.noted("prompt")).unwrap(),
        json!({"topic": "rivers", "lines": 1})
    );
    for other in ["7-eleven", "latest", "20261008_145451_", "20261008_145451_x;y"] {
        let mut begins = call("hermes-agent", HERMES);
        begins.session = Some(other);
        begins.run(&bench).await.0.unwrap();
        assert!(!bench.noted("args").contains("--resume"), "{other}");
    }
    let failed = r#"printf '{"type":"result","exit_code":1,"text":"","error":"no credentials","tokens":{}}\n'; exit 1"#;
    let problem = call("hermes-agent", failed).run(&bench).await.0.unwrap_err();
    assert_eq!(problem.detail, "hermes-agent: no credentials");
}

#[tokio::test]
async fn an_end_without_a_result_is_a_failure() {
    let silent = call("codex", "echo 'please sign in' >&2")
        .run(&Bench::new())
        .await
        .0
        .unwrap_err();
    assert!(
        silent.is(Code::ToolFailed) && silent.detail.ends_with("without a result: please sign in"),
        "{silent}"
    );
    let code = call("codex", "echo 'unknown option' >&2; exit 2")
        .run(&Bench::new())
        .await
        .0
        .unwrap_err();
    assert!(code.detail.contains("exit status: 2: unknown option"), "{code}");
    let lost = "cat <<END\n{\"type\":\"error\",\"message\":\"stream disconnected\"}\nEND\nexit 1";
    let lost = call("codex", lost).run(&Bench::new()).await.0.unwrap_err();
    assert!(lost.detail.contains("stream disconnected"), "{lost}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_before_a_start() {
    let bench = Bench::new();
    let unknown = call("copilot", "").run(&bench).await.0.unwrap_err();
    assert!(unknown.is(Code::AgentInvalid) && unknown.next.unwrap().contains("codex, claude-code, hermes-agent"));
    let mut empty = call("codex", CODEX);
    empty.payload = json!(" ");
    assert!(empty.run(&bench).await.0.unwrap_err().is(Code::ToolInvalid));
    let mut nobody = agent("codex", "no-such-codex".to_owned());
    nobody.args.clear();
    let missing = run_cli(&nobody, &json!("hi"), None, LONG, MUCH, &mut |_| ())
        .await
        .unwrap_err();
    assert!(missing.next.unwrap().contains("cli.executable"));
    assert!(!bench.path("prompt").exists());
}

#[tokio::test]
async fn an_agent_that_hangs_or_never_stops_talking_is_ended() {
    let bench = Bench::new();
    let mut hangs = agent(
        "codex",
        bench.program("hangs", "echo $$ > $bench/pid; cat; exec sleep 300"),
    );
    hangs.timeout = Some(Span(Duration::from_secs(1)));
    let slow = run_cli(&hangs, &json!("hi"), None, LONG, MUCH, &mut |_| ())
        .await
        .unwrap_err();
    assert!(slow.is(Code::Timeout), "{slow}");
    assert!(!runs(bench.pid("pid").await));
    let line = r#"{"type":"item.completed","item":{"type":"agent_message","text":"and another thing"}}"#;
    let talks = agent(
        "codex",
        bench.program("talks", &format!("while :; do echo '{line}'; done")),
    );
    let mut said = 0;
    let mut on_text = |piece: String| said += piece.len();
    let long = run_cli(&talks, &json!("hi"), None, LONG, 1000, &mut on_text)
        .await
        .unwrap_err();
    assert!(long.detail.contains("output limit of 1000 bytes"), "{long}");
    assert!((900..=1000).contains(&said), "{said}");
}
