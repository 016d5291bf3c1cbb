//! The response cache: the same question once, by whoever asks for it in the same tenant.

use mesh_api::Caller;
use mesh_api::inference::{Chunk, Complete};
use mesh_api::journal::Usage;

use crate::governed::{Governed, request};
use crate::setup::Mesh;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_is_paid_once_in_its_tenant() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| {
        fake.configure(config);
        config.cache.entries = 10;
    })
    .await;
    let mut asked = request(&["gpt-4"]);
    asked.cache = true;
    let first = mesh.complete(&asked).await.0.unwrap();
    assert!(!first.from_cache && first.usage.input_tokens == 1_000);
    let (second, chunks) = mesh.complete(&asked).await;
    let second = second.unwrap();
    assert!(second.from_cache && second.text == first.text);
    assert_eq!((second.usage, second.attempt), (Usage::default(), 1));
    assert_eq!(chunks, [Chunk::Attempt(1), Chunk::Text(first.text.clone())]);
    assert_eq!(fake.log.of("gpt-4").len(), 1);

    let other = Caller::service("test", "other".parse().unwrap());
    let elsewhere = mesh.context.bus.call_stream::<Complete>(&other, &asked, |_| {}).await;
    assert!(!elsewhere.unwrap().from_cache, "tenants never share");
    asked.messages[0].content = "something else".into();
    assert!(!mesh.complete(&asked).await.0.unwrap().from_cache);
    let mut fresh = request(&["gpt-4"]);
    fresh.cache = false;
    assert!(
        !mesh.complete(&fresh).await.0.unwrap().from_cache,
        "who does not ask for it gets a new answer"
    );
    assert_eq!(fake.log.of("gpt-4").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_unless_the_configuration_says_so() {
    let fake = Governed::start().await;
    let mesh = Mesh::start_with(|config| fake.configure(config)).await;
    let mut asked = request(&["gpt-4"]);
    asked.cache = true;
    for _ in 0..2 {
        assert!(!mesh.complete(&asked).await.0.unwrap().from_cache);
    }
    assert_eq!(fake.log.of("gpt-4").len(), 2);
}
