//! The checked-in dashboards and alerts, as far as the tests look at them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One panel that is no row.
pub(super) struct Panel {
    /// Of its dashboard.
    pub(super) uid: String,
    pub(super) title: String,
    pub(super) body: Value,
}

/// A query of a panel.
pub(super) struct Target {
    /// `prometheus`, `loki`, `tempo` or `grafana-postgresql-datasource`.
    pub(super) source: String,
    pub(super) body: Value,
}

/// `grafana/` of the checkout.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../grafana")
}

/// Every dashboard, by name of its file.
pub(super) fn all() -> Vec<Value> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder().join("dashboards"))
        .expect("dashboards")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Those that show something.
pub(super) fn panels() -> Vec<Panel> {
    let of = |board: &Value| {
        let uid = text(&board["uid"]);
        let panels = board["panels"].as_array().cloned().unwrap_or_default();
        let shown = panels.into_iter().filter(|panel| panel["type"] != "row");
        shown
            .map(|body| Panel {
                uid: uid.clone(),
                title: text(&body["title"]),
                body,
            })
            .collect::<Vec<_>>()
    };
    all().iter().flat_map(of).collect()
}

impl Panel {
    pub(super) fn targets(&self) -> Vec<Target> {
        let targets = self.body["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(|body| Target {
                source: text(&body["datasource"]["type"]),
                body,
            })
            .collect()
    }

    /// How the tests name it.
    pub(super) fn name(&self) -> String {
        format!("{} / {}", self.uid, self.title)
    }
}

/// The queries of a dashboard's variables: what they list, and of which label.
pub(super) fn variables() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for board in all() {
        for variable in board["templating"]["list"].as_array().into_iter().flatten() {
            if variable["type"] != "query" {
                continue;
            }
            let query = text(&variable["query"]);
            let inside = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inside
                .and_then(|rest| rest.rsplit_once(", "))
                .expect("label_values(metric, label)");
            found.push((metric.to_owned(), label.to_owned()));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Names and queries of the alerts.
pub(super) fn alerts() -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join("prometheus/rules/mesh.yml")).expect("rules");
    let value = |line: &str, key: &str| {
        Some(
            line.trim()
                .trim_start_matches("- ")
                .strip_prefix(key)?
                .trim()
                .to_owned(),
        )
    };
    let names = text.lines().filter_map(|line| value(line, "alert:"));
    let queries = text.lines().filter_map(|line| value(line, "expr:"));
    let found: Vec<_> = names.zip(queries).collect();
    assert!(found.len() > 10, "the rules are written otherwise now: {text}");
    found
}

/// What Grafana puts for its variables: everything, over the whole test.
pub(super) fn substituted(query: &str, range_seconds: u64) -> String {
    let all = query
        .replace("$__rate_interval", "5s")
        .replace("$__range", &format!("{range_seconds}s"));
    ["$tenant", "$agent", "$service", "$instance"]
        .iter()
        .fold(all, |query, variable| query.replace(variable, ".*"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
