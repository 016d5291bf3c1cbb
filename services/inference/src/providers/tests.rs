//! Which provider serves a model.

use super::*;
use crate::config::ProviderKind;

fn providers(config: &Config) -> Providers {
    Providers::new(config).unwrap()
}

fn said(route: Result<Route<'_>, NoRoute>) -> (String, String) {
    match route {
        Ok(route) => (route.provider_name.to_owned(), route.model),
        Err(no) => (no.provider, no.reason),
    }
}

fn named(config: &Config, model: &str) -> (String, String) {
    let request = serde_json::from_value(serde_json::json!({"model": model, "messages": []})).unwrap();
    said(providers(config).route(model, &request))
}

fn embedder(config: &Config, model: &str) -> (String, String) {
    said(providers(config).route_vectors(model))
}

/// A port where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn without_a_provider_only_the_mock_is_there() {
    let config = Config::default();
    assert_eq!(named(&config, "mock"), ("mock".into(), "mock".into()));
    assert_eq!(named(&config, "mock:script:flaky").0, "mock");
    assert!(named(&config, "mock:script:nothing").1.starts_with("model-not-found"));
    assert!(named(&config, "gpt-4").1.starts_with("provider-not-configured"));
    let claude = named(&config, "claude-sonnet").1;
    assert!(
        claude.starts_with("provider-not-configured") && claude.contains("ANTHROPIC_API_KEY"),
        "{claude}"
    );
    assert!(named(&config, "llama3").1.starts_with("model-not-found"));
    assert!(providers(&config).ends_in_mock());
}

#[test]
fn a_base_url_alone_configures_a_provider() {
    let config = Config {
        openai_base_url: Some(format!("{NOBODY}/v1/")),
        ..Config::default()
    };
    assert_eq!(named(&config, "gpt-4").0, "openai");
    assert_eq!(named(&config, "qwen"), ("openai".into(), "qwen".into()));
    assert!(!providers(&config).ends_in_mock());
}

#[test]
fn a_key_configures_anthropic_which_serves_its_own_models_first() {
    let config = Config {
        anthropic_api_key: Some("sk-ant-x".into()),
        ..Config::default()
    };
    assert_eq!(named(&config, "claude-sonnet-4-5").0, "anthropic");
    assert!(!providers(&config).ends_in_mock());
    let both = Config {
        ollama_url: Some(NOBODY.into()),
        ..config
    };
    assert_eq!(named(&both, "claude-sonnet-4-5").0, "anthropic");
    assert_eq!(named(&both, "llama3").0, "ollama");
}

#[test]
fn rules_of_the_configuration_go_first() {
    let rule = RouteRule {
        model: "claude-*".into(),
        provider: "ollama".into(),
        as_model: Some("llama3".into()),
    };
    let config = Config {
        ollama_url: Some(NOBODY.into()),
        routes: vec![rule],
        ..Config::default()
    };
    assert_eq!(named(&config, "claude-sonnet"), ("ollama".into(), "llama3".into()));
    assert_eq!(named(&config, "ollama/phi"), ("ollama".into(), "phi".into()));
    assert_eq!(named(&config, "phi/3"), ("ollama".into(), "phi/3".into()));
}

#[test]
fn ollama_speaks_its_own_wire_unless_its_url_says_otherwise() {
    let wire = |url: &str| {
        let config = Config {
            ollama_url: Some(url.into()),
            ..Config::default()
        };
        matches!(providers(&config).by_name["ollama"].1, Provider::Ollama(_))
    };
    assert!(wire(NOBODY) && wire("http://127.0.0.1:1/api/"));
    assert!(!wire("http://127.0.0.1:1/v1") && !wire("http://127.0.0.1:1/v1/"));
}

#[test]
fn the_configured_embedder_serves_vectors_and_nothing_else() {
    let config = Config {
        embedding_api_url: Some(format!("{NOBODY}/v1/embeddings")),
        ..Config::default()
    };
    assert_eq!(embedder(&config, "text-embedding-3-small").0, "embedding");
    assert_eq!(embedder(&config, "bge-m3"), ("embedding".into(), "bge-m3".into()));
    assert_eq!(embedder(&config, "mock:embed").0, "mock");
    assert!(embedder(&config, "mock").1.contains("mock:embed"));
    assert!(named(&config, "bge-m3").1.starts_with("model-not-found"), "no chat");
    assert!(providers(&config).ends_in_mock());
    let exact = RouteRule {
        model: "nomic*".into(),
        provider: "ollama".into(),
        as_model: None,
    };
    let config = Config {
        ollama_url: Some(NOBODY.into()),
        routes: vec![exact],
        ..config
    };
    assert_eq!(embedder(&config, "nomic-embed-text").0, "ollama");
    assert_eq!(
        embedder(&config, "ollama/all-minilm"),
        ("ollama".into(), "all-minilm".into())
    );
    let without = Config {
        embedding_api_url: None,
        ..config
    };
    assert_eq!(embedder(&without, "bge-m3").0, "ollama");
    assert!(
        embedder(&without, "text-embedding-3-small")
            .1
            .starts_with("provider-not-configured")
    );
}

#[tokio::test]
async fn the_list_says_what_is_available() {
    let mut config = Config::default();
    let declared = ProviderConfig {
        models: vec!["qwen".into()],
        ..ProviderConfig::of(ProviderKind::Openai)
    };
    config.providers.insert("gone".into(), declared);
    let list = providers(&config).list(|_| false).await;
    let find = |name: &str| list.items.iter().find(|item| item.name == name).unwrap().available;
    assert!(find("mock") && find("mock:script:stream") && find("mock:embed"));
    assert!(!find("gpt-*") && !find("claude-*") && !find("gone/qwen"));
    let resting = providers(&config).list(|provider| provider == "mock").await;
    assert!(resting.items.iter().all(|item| !item.available));
}
