//! Calls that respect their providers: pauses, circuits, bounds, schemas.

use std::time::Duration;

use inference::Rates;
use mesh_api::Caller;
use mesh_api::inference::{Chunk, Complete, CompleteRequest, Completion};
use mesh_testkit::wait_until;
use mesh_types::{Code, Problem};
use serde_json::json;

use crate::governed::{Governed, request};
use crate::setup::Mesh;

const SOON: Duration = Duration::from_secs(20);

fn asked_of(tenant: &str) -> Caller {
    Caller::service("test", tenant.parse().unwrap())
}

async fn complete(mesh: &Mesh, caller: &Caller, asked: &CompleteRequest) -> Result<Completion, Problem> {
    mesh.context.bus.call_stream::<Complete>(caller, asked, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_asks_for_a_pause_is_left_alone_until_then() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| fake.configure(config)).await;
    let first = mesh.complete(&request(&["gpt-rest", "mock"])).await.0.unwrap();
    assert_eq!(
        first.provider, "mock",
        "a minute is too long while somebody else can answer"
    );
    assert!(first.failed[0].reason.contains("429"), "{:?}", first.failed);
    let second = mesh.complete(&request(&["gpt-4", "mock"])).await.0.unwrap();
    let reason = &second.failed[0].reason;
    assert!(
        reason.starts_with("provider-resting until 20") && reason.contains("asked for a pause"),
        "{reason}"
    );
    let only = request(&["gpt-4"]);
    let alone = mesh.complete(&only);
    // Nobody else can answer, and the call has time: it waits.
    assert!(tokio::time::timeout(Duration::from_millis(500), alone).await.is_err());
    assert_eq!(fake.log.at("/v1/chat/completions"), 1);

    let hasty = Mesh::start_with(|config| {
        fake.configure(config);
        config.limits.call_timeout_ms = 10_000;
    })
    .await;
    for _ in 0..2 {
        let problem = hasty.complete(&request(&["gpt-rest"])).await.0.unwrap_err();
        assert!(problem.is(Code::ModelBusy) && problem.status == 429, "{problem:?}");
        let wait = problem.retry_after_seconds.unwrap();
        assert!((50..=60).contains(&wait), "{problem:?}");
        assert!(problem.next.unwrap().contains("ask again in"));
    }
    assert_eq!(fake.log.at("/v1/chat/completions"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_may_be_a_date() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| fake.configure(config)).await;
    let began = std::time::Instant::now();
    let done = mesh.complete(&request(&["gpt-date", "mock"])).await.0.unwrap();
    assert_eq!((done.provider.as_str(), done.attempt), ("openai", 2));
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "not before the provider wished"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_is_skipped_until_a_probe_finds_it_well() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| {
        fake.configure(config);
        config.breaker.failures = 2;
        config.breaker.open_ms = 50;
        config.breaker.open_max_ms = 400;
        config.limits.retries_max = 0;
    })
    .await;
    let asked = request(&["gpt-mending", "mock"]);
    wait_until(SOON, || async {
        let done = mesh.complete(&asked).await.0.unwrap();
        assert_eq!(done.provider, "mock");
        done.failed[0].reason.contains("failed too often")
    })
    .await;
    let asked_before = fake.log.of("gpt-mending").len();
    assert!(asked_before >= 2);
    fake.mend();
    wait_until(SOON, || async {
        mesh.complete(&asked).await.0.unwrap().provider == "openai"
    })
    .await;
    assert_eq!(fake.log.of("gpt-mending").len(), asked_before + 1, "one probe");
    let text = mesh.context.metrics.render().unwrap();
    assert!(
        text.contains("mesh_model_circuit") && text.contains("mesh_model_refusals"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_tenant_waits_for_itself() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| {
        fake.configure(config);
        let mut openai = config.all_providers()["openai"].clone();
        openai.concurrency = Some(2);
        config.providers.insert("openai".to_owned(), openai);
    })
    .await;
    let (flood, quiet) = (asked_of("flood"), asked_of("quiet"));
    let asked = |text: &str| {
        let mut asked = request(&["gpt-slow"]);
        asked.messages[0].content = text.into();
        asked
    };
    let (many, one) = (asked("flood"), asked("quiet"));
    let flooding = futures::future::join_all((0..20).map(|_| complete(&mesh, &flood, &many)));
    let visiting = async {
        wait_until(SOON, || async { fake.running() == 2 }).await;
        let answered = complete(&mesh, &quiet, &one);
        let ending = async {
            // One by one: whoever is let in next is seen before another may end.
            for number in 1..=21 {
                wait_until(SOON, || async { fake.log.of("gpt-slow").len() >= (number + 1).min(21) }).await;
                fake.end_one();
            }
        };
        tokio::join!(answered, ending).0
    };
    let (answers, answer) = tokio::join!(flooding, visiting);
    assert!(answer.is_ok() && answers.iter().all(Result::is_ok));
    assert_eq!(fake.running_most(), 2);
    let order: Vec<String> = fake
        .log
        .of("gpt-slow")
        .iter()
        .map(|asked| asked.body["messages"][0]["content"].as_str().unwrap().to_owned())
        .collect();
    let place = order.iter().position(|who| who == "quiet").unwrap();
    assert!(place <= 5, "before fifteen of the flood that came earlier: {order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_used_up_goes_to_the_fallback_or_says_when_to_come_again() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| {
        fake.configure(config);
        let rates = Rates {
            requests_per_minute: Some(1),
            ..Rates::default()
        };
        config.tenants.insert("*".to_owned(), rates);
        let rates = Rates {
            tokens_per_minute: Some(1_500),
            ..Rates::default()
        };
        config.tenants.insert("reader".to_owned(), rates);
        config.limits.queue_wait_ms = 1_000;
    })
    .await;
    let asked = request(&["gpt-4", "mock"]);
    let (one, other, reader) = (asked_of("one"), asked_of("other"), asked_of("reader"));
    for caller in [&one, &other] {
        assert_eq!(complete(&mesh, caller, &asked).await.unwrap().provider, "openai");
        let second = complete(&mesh, caller, &asked).await.unwrap();
        assert_eq!(second.provider, "mock");
        assert!(
            second.failed[0].reason.starts_with("provider-busy"),
            "{:?}",
            second.failed
        );
    }
    let problem = complete(&mesh, &one, &request(&["gpt-4"])).await.unwrap_err();
    assert!(problem.is(Code::ModelBusy), "{problem:?}");
    assert!((50..=60).contains(&problem.retry_after_seconds.unwrap()), "{problem:?}");
    // 1,500 tokens were used where some five hundred were guessed.
    assert_eq!(complete(&mesh, &reader, &asked).await.unwrap().provider, "openai");
    assert_eq!(complete(&mesh, &reader, &asked).await.unwrap().provider, "mock");
    assert_eq!(fake.log.of("gpt-4").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_its_schema_is_asked_for_again() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| fake.configure(config)).await;
    let mut asked = request(&["gpt-prose"]);
    asked.response_schema =
        Some(json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}));
    let (result, chunks) = mesh.complete(&asked).await;
    let done = result.unwrap();
    assert_eq!((done.text.as_str(), done.attempt), (r#"{"n": 3}"#, 2));
    assert_eq!(
        (done.usage.input_tokens, done.cached_tokens),
        (2_000, 800),
        "both were paid"
    );
    assert_eq!(chunks.iter().filter(|chunk| **chunk == Chunk::Attempt(2)).count(), 1);
    let again = &fake.log.of("gpt-prose")[1].body["messages"];
    assert_eq!(again[1], json!({"role": "assistant", "content": "I would say three."}));
    assert!(again[2]["content"].as_str().unwrap().contains("JSON Schema"), "{again}");
}
