//! The chain with the mock's scripts as its models.

use super::*;

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
    let providers = Providers::new(config).unwrap();
    let mut heard = Heard::default();
    let result = complete(config, &providers, request, &mut heard).await;
    (result, heard)
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
