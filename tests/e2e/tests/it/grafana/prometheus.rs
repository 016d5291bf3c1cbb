//! A real Prometheus over a mesh that runs: the rules that are checked in, one scrape a second.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::boards;
use crate::harness::{Launch, free_port, until};

/// A process that it scrapes.
pub(super) struct Scraped {
    pub(super) service: &'static str,
    pub(super) port: u16,
}

/// Killed when dropped.
pub(super) struct Prometheus {
    child: Child,
    base: String,
    client: reqwest::Client,
    _folder: TempDir,
}

/// One line of a panel: its labels, and its values by time.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: Value,
    pub(super) values: Vec<f64>,
}

impl Series {
    pub(super) fn last(&self) -> f64 {
        self.values.last().copied().unwrap_or(f64::NAN)
    }

    pub(super) fn highest(&self) -> f64 {
        self.values
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

impl Prometheus {
    pub(super) async fn start(launch: &Launch, scraped: &[Scraped]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let configuration = folder.path().join("prometheus.yml");
        fs::write(&configuration, configured(scraped)).expect("it can be written");
        let port = free_port();
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = launch.command(program());
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--enable-feature=exemplar-storage")
            .arg("--log.level=warn")
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().expect("Prometheus starts");
        let one = Self {
            child,
            base: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
            _folder: folder,
        };
        until(30, "Prometheus is ready", || async {
            let answer = one.client.get(format!("{}/-/ready", one.base)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        one
    }

    /// The curves of a query over the last `seconds`.
    ///
    /// # Panics
    /// When Prometheus refuses the query.
    pub(super) async fn range(&self, query: &str, seconds: u64) -> Vec<Series> {
        let end = self.now().await;
        let start = end - seconds as f64;
        let asked = [
            ("query", query),
            ("start", &start.to_string()),
            ("end", &end.to_string()),
            ("step", "1"),
        ];
        let body = self.ask("query_range", &asked).await;
        let series = body["data"]["result"].as_array().cloned().unwrap_or_default();
        series
            .into_iter()
            .map(|one| Series {
                values: values(&one["values"]),
                labels: one["metric"].clone(),
            })
            .collect()
    }

    /// As of now, one value each.
    pub(super) async fn instant(&self, query: &str) -> Vec<Series> {
        let body = self.ask("query", &[("query", query)]).await;
        let series = body["data"]["result"].as_array().cloned().unwrap_or_default();
        series
            .into_iter()
            .map(|one| Series {
                values: values(&Value::Array(vec![one["value"].clone()])),
                labels: one["metric"].clone(),
            })
            .collect()
    }

    pub(super) async fn label_values(&self, metric: &str, label: &str) -> Vec<String> {
        let body = self.ask(&format!("label/{label}/values"), &[("match[]", metric)]).await;
        serde_json::from_value(body["data"].clone()).expect("texts")
    }

    /// What it cannot scrape, and why.
    pub(super) async fn failures(&self) -> Vec<(String, String)> {
        let body = self.ask("targets", &[("state", "active")]).await;
        let targets = body["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let told = |target: &Value| {
            (
                target["labels"]["instance"].to_string(),
                target["lastError"].to_string(),
            )
        };
        targets
            .iter()
            .filter(|target| target["health"] == "down")
            .map(told)
            .collect()
    }

    /// Its own clock, in seconds.
    async fn now(&self) -> f64 {
        let body = self.ask("query", &[("query", "time()")]).await;
        body["data"]["result"][0].as_f64().expect("a time")
    }

    async fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/{what}", self.base);
        let url = reqwest::Url::parse_with_params(&url, parameters).expect("an address");
        let answer = self.client.get(url).send().await.expect("Prometheus answers");
        let text = answer.text().await.expect("text");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(body["status"], "success", "{parameters:?}: {text}");
        body
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `PROMETHEUS`, or the system's.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("PROMETHEUS") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("prometheus"))
        .find(|program| program.is_file());
    found.expect("Prometheus is not installed (Debian: `apt-get install prometheus`), nor named in PROMETHEUS")
}

/// The rules are those of the checkout; who is scraped is written down, as there is no name to look up here.
fn configured(scraped: &[Scraped]) -> String {
    let rules = boards::folder().join("prometheus/rules/*.yml");
    let target = |one: &Scraped| {
        format!(
            "      - targets: ['127.0.0.1:{}']\n        labels: {{service: {}, instance: '{}@127.0.0.1:{}'}}\n",
            one.port, one.service, one.service, one.port
        )
    };
    let targets: String = scraped.iter().map(target).collect();
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
         scrape_configs:\n  - job_name: mesh\n    static_configs:\n{targets}",
        rules.display()
    )
}

fn values(pairs: &Value) -> Vec<f64> {
    let pairs = pairs.as_array().cloned().unwrap_or_default();
    pairs.iter().filter_map(|pair| pair[1].as_str()?.parse().ok()).collect()
}
