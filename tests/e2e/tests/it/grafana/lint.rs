//! What every dashboard, alert and runbook must have, without a server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mesh_runtime::metrics::{Kind, MetricName};

use super::boards::{self, substituted};
use crate::harness::Launch;

/// What Prometheus or the operating system says besides our own figures.
const OTHERS: [&str; 2] = ["process_cpu_seconds_total", "process_resident_memory_bytes"];
/// Labels that begin like metrics.
const LABELS: [&str; 2] = ["mesh_service", "mesh_url"];

/// Each metric as Prometheus knows it; a histogram is three.
fn exposed() -> BTreeSet<String> {
    let of = |name: &MetricName| {
        let (text, kind, unit, _) = name.row();
        let suffix = match unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let base = text.replace('.', "_") + suffix;
        match kind {
            Kind::Counter => vec![base + "_total"],
            Kind::Gauge => vec![base],
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|part| base.clone() + part).into(),
        }
    };
    MetricName::ALL.iter().flat_map(of).collect()
}

/// Words of a query outside of its quotes that could be metrics of ours or of the process.
fn metrics_of(query: &str) -> Vec<String> {
    // Matchers by name are quoted: what is between quotes counts where it is a name.
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("mesh_") || word.starts_with("process_"))
        .filter(|word| !LABELS.contains(word))
        .map(str::to_owned)
        .collect()
}

fn queries() -> Vec<(String, String)> {
    let mut found = boards::alerts();
    for panel in boards::panels() {
        let own = panel
            .targets()
            .into_iter()
            .filter(|target| target.source == "prometheus");
        found.extend(own.map(|target| (panel.name(), target.body["expr"].as_str().expect("a query").to_owned())));
    }
    found.extend(
        boards::variables()
            .into_iter()
            .map(|(metric, label)| (format!("variable {label}"), metric)),
    );
    found
}

#[test]
fn every_metric_in_a_query_is_one_of_ours() {
    let (exposed, mut seen) = (exposed(), 0);
    for (whose, query) in queries() {
        for metric in metrics_of(&query) {
            seen += 1;
            let known = exposed.contains(&metric) || OTHERS.contains(&metric.as_str());
            assert!(known, "{whose}: nobody records {metric}: {query}");
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn every_panel_says_what_it_shows_and_what_to_do() {
    let panels = boards::panels();
    assert!(panels.len() > 60, "{}", panels.len());
    for panel in &panels {
        let (name, body) = (panel.name(), &panel.body);
        assert!(!panel.title.is_empty(), "{name} has no title");
        let help = body["description"].as_str().unwrap_or_default();
        assert!(help.len() > 20 && help.ends_with('.'), "{name}: {help}");
        if body["type"] == "text" {
            continue;
        }
        assert!(body["datasource"]["uid"].is_string(), "{name} has no data source");
        assert!(
            body["fieldConfig"]["defaults"]["unit"].is_string(),
            "{name} has no unit"
        );
        assert!(
            help.contains("Normal") || panel.uid == "mesh-invocation",
            "{name} does not say what is normal"
        );
        let targets = panel.targets();
        assert!(
            !targets.is_empty() && targets.len() < 5,
            "{name}: {} queries",
            targets.len()
        );
        let refs: BTreeSet<_> = targets.iter().map(|target| target.body["refId"].to_string()).collect();
        assert_eq!(refs.len(), targets.len(), "{name}: two queries of one name");
    }
}

#[test]
fn dashboards_are_found_linked_and_not_edited_in_place() {
    let boards = boards::all();
    let uids: BTreeSet<_> = boards.iter().filter_map(|board| board["uid"].as_str()).collect();
    assert_eq!(uids.len(), boards.len(), "two of one uid");
    for board in &boards {
        let name = board["uid"].to_string();
        assert!(board["title"].is_string() && board["description"].is_string(), "{name}");
        assert_eq!(board["editable"], false, "{name}");
        assert_eq!(board["tags"], serde_json::json!(["agent-mesh"]), "{name}");
        assert!(
            board["links"].as_array().is_some_and(|links| links.len() == 2),
            "{name}"
        );
        let panels = board["panels"].as_array().expect("panels");
        let ids: BTreeSet<_> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: ids of panels are not unique");
        let titles: BTreeSet<_> = panels.iter().map(|panel| panel["title"].to_string()).collect();
        assert_eq!(titles.len(), panels.len(), "{name}: two panels of one title");
        // Links lead to dashboards that exist.
        let text = board.to_string();
        for rest in text.split("\"/d/").skip(1) {
            let uid: String = rest
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '-')
                .collect();
            assert!(uids.contains(uid.as_str()), "{name} leads to {uid}, which is not there");
        }
    }
}

#[test]
fn queries_keep_grafana_s_rules() {
    for (whose, query) in queries() {
        // A rate over a fixed time is empty or blurred at another scrape interval; alerts have one of their own.
        if whose.contains(" / ") {
            for function in ["rate(", "increase("] {
                for rest in query.split(function).skip(1) {
                    let range = rest
                        .split_once('[')
                        .and_then(|(_, rest)| rest.split_once(']'))
                        .expect("a range")
                        .0;
                    let fits = ["$__rate_interval", "$__range", "1d"].contains(&range);
                    assert!(fits, "{whose}: [{range}] in {query}");
                }
            }
        }
        let open = query.matches(['(', '{', '[']).count();
        assert_eq!(open, query.matches([')', '}', ']']).count(), "{whose}: {query}");
        // Everything of ours is summed over something that is said.
        if !metrics_of(&query).is_empty() && !whose.starts_with("variable") {
            let sums = ["sum", "max", "min"].iter().any(|name| query.contains(name));
            assert!(sums, "{whose} says nothing about its processes: {query}");
        }
        assert!(!substituted(&query, 60).contains('$'), "{whose}: {query}");
    }
}

fn runbooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks")
}

/// `MeshQueueLag`: `queue-lag`.
fn slug(alert: &str) -> String {
    let mut slug = String::new();
    for letter in alert.trim_start_matches("Mesh").chars() {
        if letter.is_ascii_uppercase() && !slug.is_empty() {
            slug.push('-');
        }
        slug.push(letter.to_ascii_lowercase());
    }
    slug
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let alerts: BTreeSet<String> = boards::alerts().iter().map(|(name, _)| slug(name)).collect();
    let files = fs::read_dir(runbooks()).expect("runbooks").map(|entry| {
        let path = entry.expect("an entry").path();
        path.file_stem().expect("a name").to_string_lossy().into_owned()
    });
    assert_eq!(files.collect::<BTreeSet<_>>(), alerts);
    for (name, _) in boards::alerts() {
        let text = fs::read_to_string(runbooks().join(slug(&name) + ".md")).expect("a runbook");
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        for part in [
            "**What it means.**",
            "**Look here.**",
            "**Do this.**",
            "**It is over when**",
        ] {
            assert!(text.contains(part), "{name} has no part {part}");
        }
    }
}

/// The words of `mesh …` until the first that is no plain command.
fn commands(text: &str) -> BTreeSet<Vec<String>> {
    let spans = text.split('`').chain(text.lines());
    let told = spans.filter_map(|span| span.trim().strip_prefix("mesh "));
    let plain =
        |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-');
    told.map(|rest| {
        let rest = rest.split('`').next().unwrap_or_default();
        rest.split_whitespace().take_while(plain).map(str::to_owned).collect()
    })
    .filter(|words: &Vec<String>| !words.is_empty())
    .collect()
}

#[tokio::test]
async fn every_command_in_a_runbook_exists() {
    let launch = Launch::new(&[]);
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(runbooks()).expect("runbooks") {
        all.extend(commands(
            &fs::read_to_string(entry.expect("an entry").path()).expect("text"),
        ));
    }
    assert!(all.len() > 15, "{all:?}");
    for words in all {
        let arguments: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let ran = launch.run(&arguments).await;
        assert_eq!(ran.code, Some(0), "mesh {}: {}", words.join(" "), ran.stderr);
    }
}
