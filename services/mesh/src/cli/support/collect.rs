//! The parts of a support bundle. Each is asked for alone: what fails is said, and the rest is there.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use mesh_bus::{Bus, BusOptions, topology};
use mesh_runtime::config::process_environment;
use serde_json::{Value, json};

use super::scrub::{Scrubber, is_secret_name};
use crate::cli::{Session, doctor};
use crate::services::Configs;
use crate::up::{log_path, nats_dir, postgres_dir};

/// Of each log, its end.
const LOG_BYTES: u64 = 2 * 1024 * 1024;
const METRICS_BYTES_MAX: usize = 8 * 1024 * 1024;
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const LISTEN: Duration = Duration::from_millis(700);
/// What the gateway answers, by part.
const ROUTES: [(&str, &str); 5] = [
    ("overview.json", "/api/v1/overview"),
    ("passes.json", "/api/v1/passes"),
    ("brain.json", "/api/v1/brain/state"),
    ("nodes.json", "/api/v1/nodes"),
    ("health.json", "/health"),
];

#[derive(Default)]
pub(super) struct Collected {
    /// Name and content, without secrets.
    pub(super) parts: Vec<(String, String)>,
    /// What could not be had, and why.
    pub(super) missing: Vec<String>,
}

impl Collected {
    fn add(&mut self, scrubber: &Scrubber, name: &str, content: anyhow::Result<String>) {
        match content {
            Ok(content) => self.parts.push((name.to_owned(), scrubber.scrub(&content))),
            Err(error) => self.missing.push(scrubber.scrub(&format!("{name}: {error:#}"))),
        }
    }
}

pub(super) async fn collect(session: &Session) -> anyhow::Result<Collected> {
    let scrubber = Scrubber::new(secrets(session));
    let mut collected = Collected::default();
    collected.add(&scrubber, "versions.json", pretty(&versions()));
    collected.add(&scrubber, "config.json", configuration(session));
    let findings = doctor::examine(session).await;
    collected.add(
        &scrubber,
        "doctor.json",
        findings.and_then(|findings| pretty(&json!(findings))),
    );
    match bus(session).await {
        Ok(bus) => {
            collected.add(&scrubber, "services.json", services(&bus).await);
            collected.add(&scrubber, "streams.json", streams(session, &bus).await);
        }
        Err(error) => collected.add(&scrubber, "streams.json, services.json", Err(error)),
    }
    for (name, path) in ROUTES {
        let answer = async { session.client()?.probe::<Value>(path, PROBE_TIMEOUT).await };
        let answer = answer.await.and_then(|(status, body)| {
            anyhow::ensure!(status == 200, "{path} answers {status}");
            pretty(&body)
        });
        collected.add(&scrubber, name, answer);
    }
    collected.add(&scrubber, "metrics.txt", metrics(session).await);
    let home = session.home();
    for (name, path) in [
        ("logs/mesh.log", log_path(home)),
        ("logs/nats.log", nats_dir(home).join("nats.log")),
        ("logs/postgres.log", postgres_dir(home).join("postgres.log")),
    ] {
        collected.add(&scrubber, name, tail(&path));
    }
    let missing = pretty(&json!(collected.missing));
    collected.add(&scrubber, "missing.json", missing);
    Ok(collected)
}

/// Values that must not appear, wherever they stand: of the environment, of the home, of the addresses.
fn secrets(session: &Session) -> Vec<String> {
    let environment = &session.environment;
    let mut secrets: Vec<String> = process_environment()
        .into_iter()
        .filter(|(name, _)| is_secret_name(name) || name.ends_with("_KEYS") || name.ends_with("_SEED"))
        .map(|(_, value)| value)
        .collect();
    secrets.extend(
        [&environment.api_key, &environment.node_token]
            .into_iter()
            .flatten()
            .map(|one| one.expose().clone()),
    );
    let state = session.running().ok().flatten().and_then(|running| running.state);
    let urls = [
        environment.nats_url.clone(),
        environment.database_url.as_ref().map(|url| url.expose().clone()),
        state.as_ref().map(|state| state.nats.clone()),
        state.map(|state| state.database),
    ];
    secrets.extend(urls.iter().flatten().flat_map(|url| passwords(url)));
    let home = session.home();
    let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap_or_default();
    secrets.push(read("api-key").trim().to_owned());
    if let Ok(credentials) = serde_json::from_str::<BTreeMap<String, Value>>(&read("credentials.json")) {
        secrets.extend(
            credentials
                .values()
                .filter_map(|value| value.as_str().map(str::to_owned)),
        );
    }
    secrets
}

fn passwords(urls: &str) -> Vec<String> {
    let password = |url: &str| {
        let (_, rest) = url.split_once("://")?;
        let (user, _) = rest.rsplit_once('@')?;
        Some(user.split_once(':').map_or(user, |(_, password)| password).to_owned())
    };
    urls.split(',').filter_map(password).collect()
}

fn versions() -> Value {
    json!({
        "mesh": env!("CARGO_PKG_VERSION"),
        "schema": mesh_store::schema_version(),
        "nats_server_min": mesh_bus::SERVER_VERSION_MIN,
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "at": crate::output::now(),
    })
}

/// As `mesh config` shows it: secrets are hidden there already.
fn configuration(session: &Session) -> anyhow::Result<String> {
    let loader = session.loader()?;
    let configs = Configs::load(&loader)?;
    let mut entries = loader.environment().describe().to_vec();
    entries.extend(configs.describe(&loader));
    pretty(&serde_json::to_value(entries)?)
}

async fn bus(session: &Session) -> anyhow::Result<Bus> {
    let environment = &session.environment;
    let state = session.running()?.and_then(|running| running.state);
    let named = environment
        .nats_url
        .clone()
        .map(|url| (url, environment.nats_monitor_url.clone()));
    let (url, monitor_url) = named
        .or_else(|| state.map(|state| (state.nats, state.monitor)))
        .context("no nats-server is known: no mesh runs in this home")?;
    let bus = Bus::connect(BusOptions {
        url,
        name: "mesh-support".into(),
        monitor_url,
        user: None,
    })
    .await?;
    anyhow::ensure!(bus.wait_connected(PROBE_TIMEOUT).await, "nats-server does not answer");
    Ok(bus)
}

async fn services(bus: &Bus) -> anyhow::Result<String> {
    pretty(&serde_json::to_value(bus.discover(LISTEN).await?)?)
}

/// What is declared, and what the server says of it.
async fn streams(session: &Session, bus: &Bus) -> anyhow::Result<String> {
    let declared = topology::replicated(session.environment.nats_replicas);
    let mut found = BTreeMap::new();
    for stream in declared.streams.iter().chain(&declared.buckets) {
        let info = bus.stream_info(&stream.name).await?;
        let consumers = bus.stream_consumers(&stream.name).await?;
        found.insert(&stream.name, json!({ "info": info, "consumers": consumers }));
    }
    let verified = bus.verify_topology(&declared).await;
    pretty(&json!({
        "found": found,
        "differs": verified.err().map(|error| error.to_string()),
        "declared": declared,
    }))
}

async fn metrics(session: &Session) -> anyhow::Result<String> {
    let client = session.client()?;
    let mut text = client.text("/metrics", PROBE_TIMEOUT).await?;
    let end = (0..=METRICS_BYTES_MAX.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    Ok(text)
}

fn tail(path: &Path) -> anyhow::Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // Half a line might be half a secret, which nothing would recognise.
    let whole = if length > LOG_BYTES {
        text.split_once('\n').map_or("", |(_, rest)| rest)
    } else {
        &text
    };
    Ok(whole.to_owned())
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}
