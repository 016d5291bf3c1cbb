//! Tests of layering, unknown names, secrets and aliases.

use std::path::PathBuf;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    concurrency: usize,
    lease_ms: u64,
    is_hosted: bool,
    api_key: Option<Secret<String>>,
    hosts: Vec<String>,
    retry: Retry,
    database: DatabaseConfig,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Retry {
    attempts: u32,
    backoff: Backoff,
    factor: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Backoff {
    Fixed,
    Exponential,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: 16,
            lease_ms: 3_000,
            is_hosted: true,
            api_key: None,
            hosts: vec!["a".to_owned()],
            retry: Retry::default(),
            database: DatabaseConfig::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::Exponential,
            factor: 2.0,
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        if self.concurrency == 0 {
            Err("`concurrency` must be at least 1".to_owned())
        } else {
            Ok(())
        }
    }
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn message(pairs: &[(&str, &str)]) -> String {
    load::<Config>("execution", None, &env(pairs)).unwrap_err().to_string()
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(load::<Config>("execution", None, &env(&[])).unwrap(), Config::default());
}

#[test]
fn the_environment_is_above_the_file_is_above_the_default() {
    let text = "[execution]\nconcurrency = 8\nlease_ms = 5000\nretry = { attempts = 9, backoff = \"fixed\" }\n[gateway]\nport = 1\n";
    let (_folder, path) = file("mesh.toml", text);
    let set = env(&[
        ("MESH_EXECUTION__CONCURRENCY", "4"),
        ("MESH_EXECUTION__RETRY__FACTOR", "1.5"),
    ]);
    let config: Config = load("execution", Some(&path), &set).unwrap();
    assert_eq!(config.concurrency, 4);
    assert_eq!(config.lease_ms, 5_000);
    assert!(config.is_hosted);
    assert_eq!(
        config.retry,
        Retry {
            attempts: 9,
            backoff: Backoff::Fixed,
            factor: 1.5
        }
    );
}

#[test]
fn yaml_and_json_files_are_read_too() {
    for (name, text) in [
        ("mesh.yaml", "execution:\n  concurrency: 8\n  hosts: [x, y]\n"),
        ("mesh.json", r#"{"execution":{"concurrency":8,"hosts":["x","y"]}}"#),
    ] {
        let (_folder, path) = file(name, text);
        let config: Config = load("execution", Some(&path), &env(&[])).unwrap();
        assert_eq!(
            (config.concurrency, config.hosts),
            (8, vec!["x".to_owned(), "y".to_owned()]),
            "{name}"
        );
    }
}

#[test]
fn text_of_the_environment_becomes_what_its_field_wants() {
    let config: Config = load(
        "execution",
        None,
        &env(&[
            ("MESH_EXECUTION__IS_HOSTED", "no"),
            ("MESH_EXECUTION__HOSTS", "x, y,"),
            ("MESH_EXECUTION__API_KEY", "12345"),
            ("MESH_EXECUTION__RETRY__BACKOFF", "fixed"),
        ]),
    )
    .unwrap();
    assert!(!config.is_hosted);
    assert_eq!(config.hosts, ["x", "y"]);
    assert_eq!(config.api_key.unwrap().expose(), "12345");
    assert_eq!(config.retry.backoff, Backoff::Fixed);
    let config: Config = load("execution", None, &env(&[("MESH_EXECUTION__HOSTS", r#"["a,b"]"#)])).unwrap();
    assert_eq!(config.hosts, ["a,b"]);
    let config: Config = load("execution", None, &env(&[("MESH_EXECUTION__API_KEY", "")])).unwrap();
    assert_eq!(config.api_key, None);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known() {
    let error = message(&[("MESH_EXECUTION__CONCURENCY", "4")]);
    assert_eq!(
        error,
        "MESH_EXECUTION__CONCURENCY: there is no key `execution.concurency`; did you mean `execution.concurrency`?"
    );
    let error = message(&[("MESH_EXECUTION__RETRY__ATEMPTS", "4")]);
    assert_eq!(
        error,
        "MESH_EXECUTION__RETRY__ATEMPTS: there is no key `execution.retry.atempts`; did you mean `execution.retry.attempts`?"
    );
    let (_folder, path) = file("mesh.toml", "[execution.retry]\nbackof = \"fixed\"\n");
    let error = load::<Config>("execution", Some(&path), &env(&[]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("mesh.toml: there is no key `execution.retry.backof`"),
        "{error}"
    );
    assert!(error.contains("`execution.retry.backoff`"), "{error}");
}

#[test]
fn an_unknown_service_or_variable_is_refused_with_the_nearest_known() {
    let error = message(&[("MESH_EXECUTON__CONCURRENCY", "4")]);
    assert!(
        error.ends_with("did you mean `MESH_EXECUTION__CONCURRENCY`?"),
        "{error}"
    );
    let error = message(&[("MESH_HTTP_PROT", "1")]);
    assert!(
        error.contains("`MESH_HTTP_PROT`") && error.ends_with("did you mean `MESH_HTTP_PORT`?"),
        "{error}"
    );
    let (_folder, path) = file("mesh.toml", "[registy]\nx = 1\n");
    let error = Loader::new(Some(&path), &env(&[])).unwrap_err().to_string();
    assert!(
        error.ends_with("there is no key `registy`; did you mean `registry`?"),
        "{error}"
    );
}

#[test]
fn a_wrong_value_names_key_and_origin_and_never_quotes_it() {
    let error = message(&[("MESH_EXECUTION__CONCURRENCY", "hunter2")]);
    assert_eq!(
        error,
        "MESH_EXECUTION__CONCURRENCY: `execution.concurrency` must be a whole number, not negative"
    );
    let error = message(&[("MESH_EXECUTION__CONCURRENCY", "0")]);
    assert!(error.contains("`concurrency` must be at least 1"), "{error}");
    let error = message(&[("MESH_HTTP_PORT", "70000")]);
    assert_eq!(error, "the environment: `MESH_HTTP_PORT` must be a port, 0 to 65535");
}

#[test]
fn no_form_of_a_secret_shows_it() {
    let set = env(&[
        ("MESH_EXECUTION__API_KEY", "hunter2"),
        ("MESH_EXECUTION__DATABASE__URL", "postgres://mesh:hunter2@db/mesh"),
        (
            "MESH_DATABASE_URL",
            "postgres://mesh:hunter2@db:5432/mesh?password=hunter2&x=1",
        ),
        ("MESH_NATS_URL", "nats://hunter2@one:4222,nats://u:hunter2@two:4222"),
        ("MESH_NODE_TOKEN", "hunter2"),
    ]);
    let loader = Loader::new(None, &set).unwrap();
    let config: Config = loader.load("execution").unwrap();
    assert_eq!(config.api_key.as_ref().unwrap().expose(), "hunter2");
    let mut entries = loader.describe("execution", &config);
    entries.extend_from_slice(loader.environment().describe());
    let printed: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(!format!("{config:?}{:?}", loader.environment().database_url).contains("hunter2"));
    assert!(
        printed.contains("execution.api_key = \"***\"  # MESH_EXECUTION__API_KEY\n"),
        "{printed}"
    );
    assert!(printed.contains("execution.concurrency = 16  # default\n"), "{printed}");
    assert!(
        printed.contains("postgres://mesh:***@db:5432/mesh?password=***&x=1"),
        "{printed}"
    );
    assert!(
        printed.contains("nats://***@one:4222,nats://u:***@two:4222"),
        "{printed}"
    );
}

#[test]
fn the_mesh_name_is_above_its_alias() {
    let both = env(&[
        ("DATABASE_URL", "postgres://plain/x"),
        ("MESH_DATABASE_URL", "postgres://mesh/x"),
    ]);
    let url = |set: &BTreeMap<String, String>| Environment::read(set).unwrap().database_url.unwrap().expose().clone();
    assert_eq!(url(&both), "postgres://mesh/x");
    assert_eq!(
        url(&env(&[("DATABASE_URL", "postgres://plain/x")])),
        "postgres://plain/x"
    );
    let emptied = env(&[("DATABASE_URL", "postgres://plain/x"), ("MESH_DATABASE_URL", "")]);
    assert_eq!(url(&emptied), "postgres://plain/x");
    assert!(Environment::read(&env(&[])).unwrap().database_url.is_none());
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gateway {
    cors_origins: Vec<String>,
}

impl Validate for Gateway {}

#[test]
fn a_plain_name_sets_its_service_s_key_where_the_mesh_name_does_not() {
    let plain = ("CORS_ORIGINS", "https://a.example,https://b.example");
    let config: Gateway = load("gateway", None, &env(&[plain])).unwrap();
    assert_eq!(config.cors_origins, ["https://a.example", "https://b.example"]);
    let both = env(&[plain, ("MESH_GATEWAY__CORS_ORIGINS", "https://c.example")]);
    assert_eq!(
        load::<Gateway>("gateway", None, &both).unwrap().cors_origins,
        ["https://c.example"]
    );
    let (_folder, path) = file("mesh.toml", "[gateway]\ncors_origins = [\"https://file.example\"]\n");
    let config: Gateway = load("gateway", Some(&path), &env(&[plain])).unwrap();
    assert_eq!(config.cors_origins.len(), 2);
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Memory {
    embedder: String,
}

impl Validate for Memory {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Worker {
    heartbeat_seconds: f64,
    inference: Inference,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Inference {
    provider_override: Option<String>,
}

impl Validate for Worker {}

#[test]
fn a_plain_name_may_set_a_key_within_a_table() {
    let set = env(&[
        ("AGENT_NODE_HEARTBEAT_SECONDS", "0.5"),
        ("AGENT_RUNTIMES_INFERENCE_PROVIDER_OVERRIDE", "local"),
    ]);
    let loader = Loader::new(None, &set).unwrap();
    let config: Worker = loader.load("node").unwrap();
    assert_eq!(config.heartbeat_seconds, 0.5);
    assert_eq!(config.inference.provider_override.as_deref(), Some("local"));
    let entries = loader.describe("node", &config);
    let key = "node.inference.provider_override";
    let entry = entries.iter().find(|entry| entry.key == key).unwrap();
    assert_eq!(entry.origin, "AGENT_RUNTIMES_INFERENCE_PROVIDER_OVERRIDE");
}

#[test]
fn a_plain_name_for_other_programs_stops_nobody() {
    let plain = ("EMBEDDING_API_URL", "http://localhost:9");
    let set = env(&[plain, ("MESH_MEMORY__EMBEDDER", "hash")]);
    assert_eq!(load::<Memory>("memory", None, &set).unwrap().embedder, "hash");
    // By its full name it is meant for us.
    let full = env(&[("MESH_MEMORY__EMBEDDING_API_URL", "http://localhost:9")]);
    assert!(load::<Memory>("memory", None, &full).is_err());
}

#[test]
fn a_file_that_is_none_says_which() {
    let (_folder, path) = file("mesh.toml", "[execution\n");
    let error = Loader::new(Some(&path), &env(&[])).unwrap_err();
    assert!(error.to_string().contains("mesh.toml"), "{error}");
    assert!(Loader::new(Some(&path.with_file_name("absent.toml")), &env(&[])).is_err());
}

#[test]
fn a_file_stands_in_for_a_name_that_is_not_set() {
    let (_folder, path) = file("nats-url", "nats://mesh:hunter2@nats:4222\n");
    let path = path.to_str().unwrap();
    let read = |pairs: &[(&str, &str)]| Environment::read(&env(pairs)).unwrap();
    let of_file = read(&[("MESH_NATS_URL_FILE", path)]);
    assert_eq!(of_file.nats_url.as_deref(), Some("nats://mesh:hunter2@nats:4222"));
    assert!(
        of_file
            .describe()
            .iter()
            .all(|entry| !entry.to_string().contains("hunter2"))
    );
    let both = read(&[("MESH_NATS_URL_FILE", path), ("MESH_NATS_URL", "nats://other:1")]);
    assert_eq!(both.nats_url.as_deref(), Some("nats://other:1"));
    let alias = read(&[("MESH_NATS_URL_FILE", path), ("NATS_URL", "nats://other:1")]);
    assert_eq!(alias.nats_url.as_deref(), Some("nats://other:1"));
    let missing = Environment::read(&env(&[("MESH_API_KEY_FILE", "/nowhere/key")])).unwrap_err();
    assert!(missing.to_string().contains("MESH_API_KEY_FILE"), "{missing}");
}

#[test]
fn streams_have_one_copy_or_an_odd_number_of_them() {
    let replicas = |text: &str| Environment::read(&env(&[("MESH_NATS_REPLICAS", text)]));
    assert_eq!(replicas("").unwrap().nats_replicas, 1);
    assert_eq!(replicas("3").unwrap().nats_replicas, 3);
    assert!(replicas("2").is_err() && replicas("x").is_err());
}
