//! The chain with the mock's scripts as its models.

use std::sync::{Arc, Mutex};

use mesh_runtime::Metrics;
use mesh_types::SystemClock;

use super::*;
use crate::usage::Used;

#[derive(Default)]
struct Heard(Vec<Chunk>);

impl Chunks for Heard {
    async fn send(&mut self, chunk: Chunk) {
        self.0.push(chunk);
    }
}

impl Heard {
    /// What a reader shows who forgets everything at each new attempt.
    fn shown(&self) -> (u32, String) {
        self.0
            .iter()
            .fold((0, String::new()), |(attempt, text), chunk| match chunk {
                Chunk::Attempt(number) => (*number, String::new()),
                Chunk::Text(more) => (attempt, text + more),
            })
    }
}

fn request(models: &[&str]) -> CompleteRequest {
    serde_json::from_value(serde_json::json!({
        "model": models[0], "fallbacks": models[1..], "messages": [{"role": "user", "content": "hello"}]
    }))
    .unwrap()
}

fn quick() -> Config {
    let mut config = Config::default();
    config.limits.retry_delay_ms = 1;
    config
}

async fn run(config: &Config, request: &CompleteRequest) -> (Result<Completion, Problem>, Heard) {
    let (result, heard, _) = billed(config, request).await;
    (result, heard)
}

/// With the attempts that were billed.
async fn billed(config: &Config, request: &CompleteRequest) -> (Result<Completion, Problem>, Heard, Vec<u32>) {
    let providers = Providers::new(config).unwrap();
    let governor = Governor::new(config, Arc::new(SystemClock::default()), &Metrics::default());
    let bills = Mutex::new(Vec::new());
    let bill = |used: Used<'_>| {
        bills.lock().unwrap().push(used.attempt);
        0.25
    };
    let tenant = Tenant::default();
    let means = Means {
        config,
        providers: &providers,
        governor: &governor,
        tenant: &tenant,
        bill: &bill,
        tries_before: 10,
        seed: 7,
    };
    let mut heard = Heard::default();
    let result = complete(means, request, &mut heard).await;
    (result, heard, bills.into_inner().unwrap())
}

#[tokio::test]
async fn fallbacks_are_tried_in_order_and_each_failure_is_told() {
    let asked = request(&["gpt-4", "claude-sonnet", "mock:script:fail", "mock"]);
    let (result, heard) = run(&quick(), &asked).await;
    let done = result.unwrap();
    assert_eq!((done.model.as_str(), done.provider.as_str()), ("mock", "mock"));
    let reasons: Vec<_> = done
        .failed
        .iter()
        .map(|failed| (failed.model.as_str(), failed.reason.as_str()))
        .collect();
    assert_eq!(reasons.len(), 3);
    assert!(reasons[0].1.starts_with("provider-not-configured"), "{reasons:?}");
    assert!(reasons[1].1.starts_with("provider-not-configured"), "{reasons:?}");
    assert!(
        reasons[2].1.contains("503") && reasons[2].1.contains("2 tries"),
        "{reasons:?}"
    );
    assert_eq!(done.attempt, 3, "two tries of the script, one of the mock");
    assert_eq!(heard.shown(), (3, done.text));
}

#[tokio::test]
async fn a_transient_error_is_tried_again_and_voids_the_half_before_it() {
    let (result, heard) = run(&quick(), &request(&["mock:script:flaky"])).await;
    let done = result.unwrap();
    assert_eq!(done.attempt, 2);
    assert!(done.failed.is_empty());
    assert_eq!(heard.shown(), (2, done.text.clone()));
    let text = |text: &str| Chunk::Text(text.to_owned());
    assert_eq!(
        heard.0[..4],
        [Chunk::Attempt(1), text("Hello! "), text("Good "), Chunk::Attempt(2)]
    );
}

#[tokio::test]
async fn without_any_provider_the_mock_ends_every_chain_unless_told_otherwise() {
    let asked = request(&["gpt-4"]);
    assert_eq!(run(&quick(), &asked).await.0.unwrap().provider, "mock");
    let strict = Config {
        mock_when_unconfigured: false,
        ..quick()
    };
    let problem = run(&strict, &asked).await.0.unwrap_err();
    assert!(problem.is(Code::ProviderNotConfigured), "{problem:?}");
    let unknown = run(&strict, &request(&["mock:script:none"])).await.0.unwrap_err();
    assert!(unknown.is(Code::ModelNotFound), "{unknown:?}");
    let down = run(&strict, &request(&["gpt-4", "mock:script:cut"]))
        .await
        .0
        .unwrap_err();
    assert!(down.is(Code::ModelFailed) && down.detail.contains("gpt-4"), "{down:?}");
}

#[tokio::test]
async fn a_call_without_time_left_goes_to_the_mock() {
    let mut config = quick();
    config.openai_base_url = Some("http://127.0.0.1:9/v1".to_owned());
    config.limits.call_timeout_ms = 0;
    let (result, _) = run(&config, &request(&["gpt-4", "mock"])).await;
    let done = result.unwrap();
    assert_eq!(done.provider, "mock");
    assert!(done.failed[0].reason.contains("used up"), "{:?}", done.failed);
}

#[tokio::test]
async fn a_call_that_cannot_be_asked_is_refused_by_field() {
    let mut asked = request(&["mock"]);
    asked.idempotency_key = Some("a\r\nb".to_owned());
    assert_eq!(
        run(&quick(), &asked).await.0.unwrap_err().field.as_deref(),
        Some("idempotency_key")
    );
    asked = request(&["mock"]);
    asked.messages.clear();
    assert_eq!(
        run(&quick(), &asked).await.0.unwrap_err().field.as_deref(),
        Some("messages")
    );
}

#[tokio::test]
async fn an_answer_that_breaks_its_schema_is_corrected_once_and_paid_twice() {
    let mut asked = request(&["mock:script:own"]);
    asked.response_schema = Some(serde_json::json!({"type": "object", "required": ["n"]}));
    // The mock says what it was told: first an array, then of the complaint what the schema takes.
    asked.messages[0].content = "[]".into();
    let script = serde_json::json!([{"text": "{{last}}", "usage": {"input_tokens": 3, "output_tokens": 4}}]);
    asked.metadata.insert("mock_script".to_owned(), script);
    let (result, heard, bills) = billed(&quick(), &asked).await;
    let done = result.unwrap();
    assert_eq!(heard.shown(), (2, done.text.clone()));
    assert!(heard.0.contains(&Chunk::Text("[]".to_owned())), "{:?}", heard.0);
    let object: serde_json::Value = serde_json::from_str(&done.text).unwrap();
    assert!(
        object["n"].as_str().is_some_and(|told| told.contains("JSON Schema")),
        "{object}"
    );

    assert_eq!(bills, [11, 12], "counted on from the tries before");
    assert_eq!((done.usage.input_tokens, done.usage.output_tokens), (6, 8));
    assert!((done.usage.cost_usd - 0.5).abs() < 1e-9);
}

#[tokio::test]
async fn a_model_that_never_follows_the_schema_gives_way_to_its_fallback() {
    let mut asked = request(&["mock:script:array", "mock:script:json"]);
    asked.response_schema = Some(serde_json::json!({"type": "object"}));
    let mut config = quick();
    let script = |text: &str| serde_json::from_value(serde_json::json!([{"text": text}])).unwrap();
    config.mock_scripts.insert("array".into(), script("[]"));
    config.mock_scripts.insert("json".into(), script("{}"));
    let done = run(&config, &asked).await.0.unwrap();
    assert_eq!((done.model.as_str(), done.text.as_str()), ("mock:script:json", "{}"));
    let reason = &done.failed[0].reason;
    assert!(reason.contains("schema") && reason.contains("2 tries"), "{reason}");
    asked.fallbacks.clear();
    config.mock_when_unconfigured = false;
    let failed = run(&config, &asked).await.0.unwrap_err();
    assert!(
        failed.is(Code::ModelFailed) && failed.detail.contains("schema"),
        "{failed:?}"
    );
    asked.response_schema = Some(serde_json::json!({"type": 7}));
    let refused = run(&config, &asked).await.0.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("response_schema"));
}
