//! The choice of a provider, and the node's own endpoint behind a real server.

use std::sync::Arc;

use mesh_types::Code;
use serde_json::json;

use super::*;
use crate::local::testing::{FakeCentre, FakeOpenAi, WORDS, context, models, own_endpoint};

fn asked(model: &str) -> CompleteRequest {
    serde_json::from_value(json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})).unwrap()
}

#[tokio::test]
async fn the_choice_outlives_the_process_and_the_environment_goes_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let centre = Arc::new(FakeCentre::default());
    let first = models(&InferenceConfig::default(), folder.path(), centre.clone());
    assert_eq!(first.provider(), Provider::Mesh);
    assert!(first.choose(Provider::Local).await.unwrap().writable);
    let second = models(&InferenceConfig::default(), folder.path(), centre.clone());
    assert_eq!(second.provider(), Provider::Local);
    let fixed = InferenceConfig {
        provider_override: Some(Provider::Mesh),
        ..InferenceConfig::default()
    };
    let third = models(&fixed, folder.path(), centre);
    assert_eq!(third.provider(), Provider::Mesh);
    assert!(!third.view().writable);
    let refused = third.choose(Provider::Local).await.unwrap_err();
    assert!(refused.is(Code::NodeConfigurationFixed), "{refused:?}");
    assert!(
        third.choose(Provider::Mesh).await.is_ok(),
        "what it is anyway may be said"
    );
}

#[tokio::test]
async fn the_list_is_the_centres_else_well_known_names_and_empty_with_a_local_provider() {
    let folder = tempfile::tempdir().unwrap();
    let centre = Arc::new(FakeCentre::default());
    let models = models(&InferenceConfig::default(), folder.path(), centre.clone());
    let offered = models.offered().await;
    assert_eq!((offered.source, offered.items.len()), ("centre", 2));
    for nothing in [Ok(Vec::new()), Err(Problem::new(Code::Unavailable, "nobody answers"))] {
        *centre.models.lock().unwrap() = nothing;
        let offered = models.offered().await;
        assert_eq!(offered.source, "fallback");
        assert!(offered.reason.is_some() && !offered.items.is_empty());
        assert!(offered.items.iter().all(|model| !model.available));
    }
    models.choose(Provider::Local).await.unwrap();
    let offered = models.offered().await;
    assert_eq!((offered.source, offered.items.len()), ("node", 0));
}

#[test]
fn datalayer_is_the_mesh_and_nothing_else_is_taken() {
    assert_eq!("datalayer".parse(), Ok(Provider::Mesh));
    assert_eq!(serde_json::from_str::<Provider>(r#""local""#).unwrap(), Provider::Local);
    assert!(serde_json::from_str::<Provider>(r#""openai""#).is_err());
    let shown = config::without_user("http://user:secret@127.0.0.1:1/v1");
    assert_eq!(shown, "http://127.0.0.1:1/v1");
}

#[tokio::test]
async fn the_own_endpoint_streams_with_its_key_and_counts_tokens() {
    let context = context(None).await;
    let folder = tempfile::tempdir().unwrap();
    let (fake, url) = FakeOpenAi::start(&context).await;
    let models = models(&own_endpoint(&url), folder.path(), Arc::default());
    assert!(models.own_endpoint().unwrap().is_none(), "the mesh is the default");
    models.choose(Provider::Local).await.unwrap();
    let local = models.own_endpoint().unwrap().unwrap();
    fake.words.add_permits(WORDS.len());
    let mut heard = Vec::new();
    let done = local
        .stream(&asked("qwen3"), &mut |chunk| heard.push(chunk))
        .await
        .unwrap();
    assert_eq!(done.text, WORDS.concat());
    assert_eq!((done.provider.as_str(), done.model.as_str()), ("local", "qwen3"));
    assert_eq!((done.usage.input_tokens, done.usage.output_tokens), (11, 3));
    let texts = heard.iter().filter(|chunk| matches!(chunk, Chunk::Text(_))).count();
    assert_eq!((heard.first(), texts), (Some(&Chunk::Attempt(1)), WORDS.len()));
    let (headers, body) = fake.asked.lock().unwrap().pop().unwrap();
    assert_eq!(headers["authorization"], "Bearer sk-stays-here");
    assert_eq!(body["stream"], true);
    let view = serde_json::to_string(&models.view()).unwrap();
    assert!(view.contains(&url) && !view.contains("sk-stays-here"), "{view}");
    context.shutdown.cancel();
}

#[tokio::test]
async fn a_model_that_is_not_there_gives_way_to_the_next_and_the_configured_one_to_none() {
    let context = context(None).await;
    let folder = tempfile::tempdir().unwrap();
    let (fake, url) = FakeOpenAi::start(&context).await;
    fake.words.add_permits(WORDS.len());
    let local = Local::new(&own_endpoint(&url)).unwrap().unwrap();
    let request = CompleteRequest {
        fallbacks: vec!["qwen3".to_owned()],
        ..asked("missing")
    };
    let done = local.stream(&request, &mut |_| ()).await.unwrap();
    assert_eq!((done.model.as_str(), done.attempt), ("qwen3", 2));
    assert_eq!(done.failed[0].model, "missing");
    let config = InferenceConfig {
        model: Some("missing".to_owned()),
        provider: Provider::Local,
        ..own_endpoint(&url)
    };
    let models = models(&config, folder.path(), Arc::default());
    let local = models.own_endpoint().unwrap().unwrap();
    let refused = local.stream(&asked("qwen3"), &mut |_| ()).await.unwrap_err();
    assert!(refused.is(Code::ModelRefused), "{refused:?}");
    context.shutdown.cancel();
}

#[tokio::test]
async fn a_local_provider_without_an_endpoint_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = InferenceConfig {
        provider: Provider::Local,
        ..InferenceConfig::default()
    };
    let models = models(&config, folder.path(), Arc::default());
    let problem = models.own_endpoint().err().unwrap();
    assert!(problem.is(Code::ProviderNotConfigured) && problem.next.is_some());
}
