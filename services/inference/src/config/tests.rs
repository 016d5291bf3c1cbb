//! What configuration is taken, refused and understood.

use super::*;

#[test]
fn what_cannot_work_is_refused_before_a_socket_opens() {
    let bad_url = Config {
        openai_base_url: Some("file:///etc".to_owned()),
        ..Config::default()
    };
    assert!(bad_url.validate().unwrap_err().contains("openai"));
    let bad_default = Config {
        default_provider: Some("nobody".to_owned()),
        ..Config::default()
    };
    assert!(bad_default.validate().unwrap_err().contains("nobody"));
    assert!(Config::default().validate().is_ok());
    let empty = Config {
        ollama_url: Some(" ".to_owned()),
        ..Config::default()
    };
    assert!(empty.validate().is_ok(), "an empty variable is as good as none");
    let mute = Config {
        mock_scripts: BTreeMap::from([("mute".to_owned(), Script::default())]),
        ..Config::default()
    };
    assert!(mute.validate().unwrap_err().contains("mute"));
}

#[test]
fn bounds_that_let_nothing_pass_are_refused_by_name() {
    let nothing = Rates {
        requests_per_minute: Some(0),
        ..Rates::default()
    };
    let refused = |config: Config| config.validate().unwrap_err();
    let tenants = |name: &str| Config {
        tenants: BTreeMap::from([(name.to_owned(), nothing)]),
        ..Config::default()
    };
    assert!(refused(tenants("*")).contains("tenants.*.requests_per_minute"));
    assert!(refused(tenants("a.b")).contains("tenants"));
    let mut config = Config::default();
    config.breaker.open_ms = config.breaker.open_max_ms + 1;
    assert!(refused(config).contains("breaker"));
    let price = Price {
        cached_input: Some(-1.0),
        ..Price::default()
    };
    let config = Config {
        prices: BTreeMap::from([("gpt".to_owned(), price)]),
        ..Config::default()
    };
    assert!(refused(config).contains("prices.gpt"));
}

#[test]
fn file_and_environment_say_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.yaml");
    let text = "
inference:
  routes: [{model: 'qwen*', provider: local}]
  prices: {'gpt-4*': {input: 2.5, cached_input: 1.25, output: 10}}
  tenants: {'*': {concurrency: 4}, acme: {tokens_per_minute: 1000}}
  cache: {entries: 100}
  mock_scripts:
    two: [{text: a b, per_token_ms: 3, fail: {status: 429, times: 1}}, {tool_calls: [{name: t, arguments: {x: 1}}]}]
";
    std::fs::write(&path, text).unwrap();
    let env = [
        ("OPENAI_API_KEY", "sk-secret"),
        ("OLLAMA_URL", ""),
        ("MESH_INFERENCE__PROVIDERS__LOCAL__KIND", "openai"),
        ("MESH_INFERENCE__PROVIDERS__LOCAL__BASE_URL", "http://127.0.0.1:1/v1"),
        ("MESH_INFERENCE__PROVIDERS__LOCAL__REQUESTS_PER_MINUTE", "60"),
        ("MESH_INFERENCE__LIMITS__RETRIES_MAX", "3"),
        ("MESH_INFERENCE__BREAKER__FAILURES", "4"),
    ];
    let env = env
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let config: Config = mesh_runtime::config::load("inference", Some(&path), &env).unwrap();
    assert_eq!(config.limits.retries_max, 3);
    let turns = &config.mock_scripts["two"].turns;
    assert_eq!((turns.len(), turns[0].per_token_ms), (2, 3));
    assert_eq!(turns[1].tool_calls[0].arguments["x"], 1);
    assert!((config.prices["gpt-4*"].output - 10.0).abs() < 1e-9);
    assert_eq!(config.prices["gpt-4*"].cached_input, Some(1.25));
    assert_eq!((config.breaker.failures, config.cache.entries), (4, 100));
    assert_eq!(config.tenants["*"].concurrency, Some(4));
    assert_eq!(config.tenants["acme"].tokens_per_minute, Some(1_000));
    let all = config.all_providers();
    assert_eq!(all["local"].rates().requests_per_minute, Some(60));
    assert_eq!(all["local"].kind, ProviderKind::Openai);
    assert!(all["openai"].api_key.is_some() && all["ollama"].base_url.is_none());
    assert!(!format!("{config:?}").contains("sk-secret"));
    assert!(!serde_json::to_string(&config).unwrap().contains("sk-secret"));
}
