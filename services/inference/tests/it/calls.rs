//! What a caller gets for what a provider does.

use mesh_api::inference::{Chunk, CompleteRequest, Completion, Models};
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use crate::fake_openai::KEY;
use crate::setup::{IMPATIENT_MS, Mesh, patience};

fn request(models: &[&str]) -> CompleteRequest {
    serde_json::from_value(json!({
        "model": models[0],
        "fallbacks": models[1..],
        "messages": [{"role": "system", "content": "You are Sofia."}, {"role": "user", "content": "hello"}],
    }))
    .unwrap()
}

/// What a reader shows who forgets everything at each new attempt.
fn shown(chunks: &[Chunk]) -> (u32, String) {
    chunks
        .iter()
        .fold((0, String::new()), |(attempt, text), chunk| match chunk {
            Chunk::Attempt(number) => (*number, String::new()),
            Chunk::Text(more) => (attempt, text + more),
        })
}

async fn reason(mesh: &Mesh, model: &str) -> String {
    let (result, _) = mesh.complete(&request(&[model, "mock"])).await;
    let done = result.unwrap();
    assert_eq!(done.provider, "mock", "{model}: {done:?}");
    assert_eq!(done.failed.len(), 1, "{done:?}");
    assert_eq!(
        (done.failed[0].model.as_str(), done.failed[0].provider.as_str()),
        (model, "openai")
    );
    done.failed[0].reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_and_its_end_holds_all_of_it() {
    let mesh = Mesh::start().await;
    let mut asked = request(&["gpt-4"]);
    asked.temperature = Some(0.5);
    asked.max_tokens = Some(77);
    asked.idempotency_key = Some("inv_1/3".to_owned());
    asked.tools = vec![json!({"type": "function", "function": {"name": "lookup"}})];
    let blocks = json!([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x:y"}}]);
    asked.messages[1].content = serde_json::from_value(blocks.clone()).unwrap();
    let (result, chunks) = mesh.complete(&asked).await;
    let done = result.unwrap();
    assert_eq!(done.text, "Good день, friend.");
    assert_eq!(shown(&chunks), (1, done.text.clone()));
    assert!(chunks.len() >= 4, "{chunks:?}");
    assert_eq!((done.model.as_str(), done.provider.as_str()), ("gpt-4", "openai"));
    assert_eq!((done.usage.input_tokens, done.usage.output_tokens), (1_000, 500));
    assert!(
        (done.usage.cost_usd - 0.04).abs() < 1e-9,
        "1,000 at 10 and 500 at 60 dollars a million"
    );
    assert!(!done.usage_estimated && done.failed.is_empty());
    let sent = &mesh.fake.asked("gpt-4")[0];
    assert_eq!(sent.headers["idempotency-key"], "inv_1/3");
    assert_eq!(
        sent.body["messages"][0],
        json!({"role": "system", "content": "You are Sofia."})
    );
    assert_eq!(sent.body["messages"][1]["content"], blocks);
    assert_eq!(sent.body["stream_options"], json!({"include_usage": true}));
    let passed = (
        &sent.body["temperature"],
        &sent.body["max_tokens"],
        &sent.body["tools"][0]["function"]["name"],
    );
    assert_eq!(passed, (&json!(0.5), &json!(77), &json!("lookup")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_does_wrong_is_told_and_the_fallback_answers() {
    let mesh = Mesh::start_with(|config| patience(config, IMPATIENT_MS)).await;
    for (model, tries, part) in [
        ("gpt-cut", 2, "cut"),
        ("gpt-short", 2, "cut"),
        ("gpt-silent", 2, "sent nothing"),
        ("gpt-stalled", 2, "fell silent"),
        ("gpt-down", 2, "503"),
        ("gpt-garbage", 1, "broke the protocol"),
        ("gpt-html", 1, "text/html"),
        ("gpt-moved", 1, "302"),
        ("gpt-endless", 1, "more than 65536 bytes"),
    ] {
        let told = reason(&mesh, model).await;
        assert!(told.contains(part), "{model}: {told}");
        assert_eq!(mesh.fake.asked(model).len(), tries, "{model}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_answer_is_void_once_the_next_attempt_starts() {
    let mesh = Mesh::start().await;
    let (result, chunks) = mesh.complete(&request(&["gpt-cut", "gpt-4"])).await;
    let done = result.unwrap();
    assert_eq!(done.attempt, 3);
    assert_eq!(shown(&chunks), (3, "Good день, friend.".to_owned()));
    assert!(chunks.contains(&Chunk::Text("This never".to_owned())), "{chunks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_provider_is_asked_once_more() {
    let mesh = Mesh::start().await;
    let done = mesh.complete(&request(&["gpt-limited", "mock"])).await.0.unwrap();
    assert_eq!((done.provider.as_str(), done.attempt), ("openai", 2));
    assert!(done.failed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_never_comes_back() {
    let mesh = Mesh::start().await;
    let told = reason(&mesh, "gpt-leaky").await;
    assert!(
        told.contains("400") && told.contains("***") && !told.contains(KEY),
        "{told}"
    );
    let denied = Mesh::start_with(|config| config.openai_api_key = Some("sk-another-key".into())).await;
    let told = reason(&denied, "gpt-4").await;
    assert!(told.contains("401") && !told.contains("sk-another"), "{told}");
    assert_eq!(denied.fake.asked("gpt-4").len(), 1, "a refused key is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_is_not_told_is_estimated_and_says_so() {
    let mesh = Mesh::start().await;
    let done = mesh.complete(&request(&["gpt-uncounted"])).await.0.unwrap();
    assert!(done.usage_estimated);
    assert_eq!(done.usage.output_tokens, 3, "twelve bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_come_whole() {
    let mesh = Mesh::start().await;
    let done = mesh.complete(&request(&["gpt-tools"])).await.0.unwrap();
    assert_eq!(done.finish_reason, "tool_calls");
    let function = &done.tool_calls[0]["function"];
    assert_eq!(function, &json!({"name": "lookup", "arguments": "{\"city\":\"Lviv\"}"}));
    assert_eq!(done.tool_calls[0]["id"], "call_a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_stream_answers_too() {
    let mesh = Mesh::start().await;
    let (result, chunks) = mesh.complete(&request(&["gpt-json"])).await;
    let done = result.unwrap();
    assert_eq!(
        (done.text.as_str(), done.finish_reason.as_str()),
        ("Let me see", "tool_calls")
    );
    assert_eq!(shown(&chunks), (1, done.text));
    assert_eq!(done.tool_calls[0]["function"]["name"], "lookup");
    assert_eq!((done.usage.input_tokens, done.usage.output_tokens), (10, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_the_request_plays_tools_and_their_results() {
    let mesh = Mesh::start().await;
    let mut asked = request(&["mock:script:own"]);
    let unknown = mesh.complete(&asked).await.0.unwrap_err();
    assert!(unknown.is(Code::ModelNotFound), "{unknown:?}");
    let script =
        json!([{"tool_calls": [{"name": "now", "arguments": {"for": "{{last}}"}}]}, {"text": "It is {{tool:0}}."}]);
    asked.metadata.insert("mock_script".to_owned(), script);
    let first = mesh.complete(&asked).await.0.unwrap();
    assert_eq!(first.finish_reason, "tool_calls");
    assert_eq!(first.tool_calls[0]["function"]["arguments"], r#"{"for":"hello"}"#);
    let more = json!([{"role": "assistant", "content": "", "tool_calls": first.tool_calls},
                      {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "noon"}]);
    let more: Vec<mesh_api::inference::PromptMessage> = serde_json::from_value(more).unwrap();
    asked.messages.extend(more);
    assert_eq!(mesh.complete(&asked).await.0.unwrap().text, "It is noon.");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_the_mock_answers_and_says_so() {
    let mesh = Mesh::start_with(|config| {
        config.openai_api_key = None;
        config.openai_base_url = None;
    })
    .await;
    let done = mesh.complete(&request(&["gpt-4", "claude-sonnet"])).await.0.unwrap();
    assert_eq!((done.provider.as_str(), done.model.as_str()), ("mock", "mock"));
    assert!(done.text.starts_with("Hello!"), "{}", done.text);
    assert!(
        done.failed
            .iter()
            .all(|failed| failed.reason.starts_with("provider-not-configured"))
    );
    let reply = mesh
        .context
        .bus
        .call::<Models>(&mesh.caller(), &mesh_api::execution::Empty {})
        .await
        .unwrap();
    let available: Vec<_> = reply
        .items
        .iter()
        .filter(|item| item.available)
        .map(|item| item.name.as_str())
        .collect();
    assert!(
        available.contains(&"mock") && !available.contains(&"gpt-*"),
        "{available:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_answers_is_a_problem_that_names_all() {
    let mesh = Mesh::start().await;
    let failed = |result: Result<Completion, Problem>| result.unwrap_err();
    let down = failed(mesh.complete(&request(&["gpt-down", "claude-sonnet"])).await.0);
    assert!(down.is(Code::ModelFailed), "{down:?}");
    assert!(
        down.detail.contains("gpt-down") && down.detail.contains("claude-sonnet"),
        "{down:?}"
    );
    let refused = failed(mesh.complete(&request(&["gpt-leaky"])).await.0);
    assert!(
        refused.is(Code::ModelRefused) && !refused.detail.contains(KEY),
        "{refused:?}"
    );
    let mut empty = request(&["mock"]);
    empty.messages.clear();
    assert_eq!(failed(mesh.complete(&empty).await.0).field.as_deref(), Some("messages"));
    let next = mesh.complete(&request(&["mock"])).await.0.unwrap();
    assert_eq!(next.provider, "mock", "the next good request works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_gone_is_a_failure_like_others() {
    let mesh = Mesh::start_with(|config| config.openai_base_url = Some("http://127.0.0.1:9/v1".to_owned())).await;
    let told = reason(&mesh, "gpt-4").await;
    assert!(told.contains("cannot be reached"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_once_keep_their_chunks_apart() {
    let mesh = Mesh::start().await;
    let asked: Vec<CompleteRequest> = (0..32)
        .map(|number| {
            let mut asked = request(&["mock"]);
            asked.messages[1].content = format!("number {number} says words").into();
            asked
        })
        .collect();
    let calls = asked.iter().map(|asked| mesh.complete(asked));
    for (number, (result, chunks)) in futures::future::join_all(calls).await.into_iter().enumerate() {
        let done = result.unwrap();
        assert!(done.text.contains(&format!("number {number} says")), "{}", done.text);
        assert_eq!(shown(&chunks).1, done.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_the_configuration_is_played() {
    let script: Value = json!([
        {"text": "slow words", "per_token_ms": 5, "usage": {"input_tokens": 3, "output_tokens": 4}}
    ]);
    let mesh = Mesh::start_with(|config| {
        config
            .mock_scripts
            .insert("mine".to_owned(), serde_json::from_value(script).unwrap());
    })
    .await;
    let done = mesh.complete(&request(&["mock:script:mine"])).await.0.unwrap();
    assert_eq!(done.text, "slow words");
    assert_eq!((done.usage.input_tokens, done.usage.output_tokens), (3, 4));
}
