//! Usage events: each try that a provider counted is told once, and the last ones before the service goes.

use std::time::Duration;

use inference::Config;
use mesh_bus::Subscription;
use mesh_runtime::{Context, Metrics};
use mesh_testkit::wait_until;
use mesh_types::event::{Event, Fact, ModelUse};
use mesh_types::subject::Filter;
use mesh_types::{Id, InvocationId};

use crate::governed::{Governed, request};
use crate::setup::{Mesh, connect};

const SOON: Duration = Duration::from_secs(20);

async fn start(fake: &Governed) -> (Mesh, Subscription) {
    let mesh = Mesh::start_with(|config| fake.configure(config)).await;
    let bus = &mesh.context.bus;
    bus.apply_topology(&mesh_bus::topology::standard()).await.unwrap();
    let events = bus.subscribe(&Filter::Events).await.unwrap();
    bus.flush().await.unwrap();
    (mesh, events)
}

async fn next(events: &mut Subscription) -> (Event, ModelUse) {
    let message = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
    let event: Event = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(message.subject, event.subject().to_string());
    let Fact::ModelUsed(used) = event.fact.clone() else {
        panic!("{event:?}")
    };
    (event, *used)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_told_once_with_its_step_and_its_money() {
    let fake = Governed::start().await;
    let (mesh, mut events) = start(&fake).await;
    let invocation = InvocationId::from_u128(7);
    let mut asked = request(&["gpt-4"]);
    asked.idempotency_key = Some(format!("{invocation}/3"));
    asked.agent = Some("sofia".parse().unwrap());
    let done = mesh.complete(&asked).await.0.unwrap();
    let (first, used) = next(&mut events).await;
    assert_eq!(first.subject().to_string(), "mesh.event.default.model.openai.used");
    assert_eq!(used.cost_usd.to_bits(), done.usage.cost_usd.to_bits());
    let wanted = ModelUse {
        invocation: Some(invocation),
        step: Some(3),
        attempt: 1,
        agent: Some("sofia".parse().unwrap()),
        provider: "openai".into(),
        model: "gpt-4".into(),
        purpose: "chat".into(),
        input_tokens: 1_000,
        cached_tokens: 400,
        output_tokens: 500,
        cost_usd: 0.04,
    };
    assert_eq!(used, wanted, "1,000 at 10 and 500 at 60 dollars a million");

    // A repeat, and a call of the mock, pay nobody: the next event is of the next call.
    assert_eq!(mesh.complete(&asked).await.0.unwrap(), done);
    mesh.complete(&request(&["mock"])).await.0.unwrap();
    asked.idempotency_key = Some(format!("{invocation}/4"));
    mesh.complete(&asked).await.0.unwrap();
    let (second, used) = next(&mut events).await;
    assert_eq!((used.invocation, used.step), (Some(invocation), Some(4)));
    assert_ne!(first.id, second.id);
    let plain = request(&["gpt-4"]);
    mesh.complete(&plain).await.0.unwrap();
    assert_eq!(next(&mut events).await.1.invocation, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_failed_after_its_provider_counted_is_told_too() {
    let fake = Governed::start().await;
    let (mesh, mut events) = start(&fake).await;
    let mut asked = request(&["gpt-counting"]);
    asked.idempotency_key = Some(format!("{}/1", InvocationId::from_u128(9)));
    let done = mesh.complete(&asked).await.0.unwrap();
    let mut told = [next(&mut events).await.1, next(&mut events).await.1];
    told.sort_by_key(|used| used.attempt);
    let counts = told
        .each_ref()
        .map(|used| (used.attempt, used.input_tokens, used.output_tokens));
    assert_eq!(counts, [(1, 50, 5), (2, 1_000, 500)]);
    assert_eq!(
        (done.usage.input_tokens, done.usage.output_tokens),
        (1_050, 505),
        "the call took both"
    );
    let money: f64 = told.iter().map(|used| used.cost_usd).sum();
    assert!((money - done.usage.cost_usd).abs() < 1e-12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_last_is_told_before_the_service_goes() {
    let fake = Governed::start().await;
    let (mesh, mut events) = start(&fake).await;
    let calls = (0..50).map(|_| async { mesh.complete(&request(&["gpt-4"])).await.0.unwrap() });
    futures::future::join_all(calls).await;
    mesh.context.shutdown.cancel();
    for _ in 0..50 {
        next(&mut events).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_another_process_makes_counts_once() {
    let fake = Governed::start().await;
    let (mesh, mut events) = start(&fake).await;
    let mut asked = request(&["gpt-4"]);
    asked.idempotency_key = Some(format!("{}/1", InvocationId::from_u128(11)));
    mesh.complete(&asked).await.0.unwrap();
    let (first, _) = next(&mut events).await;
    mesh.context.shutdown.cancel();
    // Else it may answer the repeat from what it remembers, or take it and go.
    let is_gone = || async { !mesh.context.tasks.names().contains(&"inference") };
    wait_until(SOON, is_gone).await;

    let other = Context::new("inference", connect(mesh.url()).await, Metrics::default());
    let mut config = Config {
        openai_api_key: Some("sk-other".into()),
        ..Config::default()
    };
    fake.configure(&mut config);
    let context = other.clone();
    other.tasks.spawn(
        "inference",
        async move { inference::run(config, context).await.unwrap() },
    );
    wait_until(SOON, || async { mesh.complete(&asked).await.0.is_ok() }).await;
    let (second, used) = next(&mut events).await;
    assert_eq!(
        (second.id, used.attempt),
        (first.id, 1),
        "it remembers nothing, and says the same"
    );
    assert_eq!(fake.log.of("gpt-4").len(), 2);
    asked.idempotency_key = Some(format!("{}/2", InvocationId::from_u128(11)));
    mesh.complete(&asked).await.0.unwrap();
    next(&mut events).await;
    let stored = || async { mesh.context.bus.read_back(&first.subject(), 10).await.unwrap() };
    wait_until(SOON, || async { stored().await.len() == 2 }).await;
    let ids = stored().await.into_iter().map(|message| {
        let event: Event = serde_json::from_slice(&message.payload).unwrap();
        event.id
    });
    assert_eq!(ids.filter(|id| *id == first.id).count(), 1, "stored once");
    other.shutdown.cancel();
}
