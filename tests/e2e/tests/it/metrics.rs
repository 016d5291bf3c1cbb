//! `/metrics` of a started mesh: each name is recorded where its help says, with few labels.

use std::path::{Path, PathBuf};

use mesh_runtime::MetricName;
use mesh_runtime::metrics::Kind;
use serde_json::json;

use crate::harness::{Mesh, unique, until};
use crate::nodes::{Agent, Node};

/// Seen only where something fails, is refused, is crowded, or is configured otherwise.
const NEED_MORE: [MetricName; 12] = [
    MetricName::TaskPanics,
    MetricName::ServiceRestarts,
    MetricName::StepsRepeated,
    MetricName::ModelUnpriced,
    MetricName::ModelRefusals,
    MetricName::ModelCircuit,
    MetricName::ModelsWaiting,
    MetricName::ModelCacheAnswers,
    MetricName::ModelUsesLost,
    MetricName::ModelCost,
    // Of a mesh with weights, and of a visitor.
    MetricName::EmbeddingDuration,
    MetricName::LiveConnections,
];

/// As Prometheus shows it.
fn shown(name: MetricName) -> String {
    let (text, kind, unit, _) = name.row();
    let unit = match unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let end = if kind == Kind::Counter { "_total" } else { "" };
    format!("{}{unit}{end}", text.replace('.', "_"))
}

fn has_series(text: &str, name: MetricName) -> bool {
    let (one, histogram) = (shown(name), format!("{}_count", shown(name)));
    text.lines().any(|line| {
        let series = line.split(['{', ' ']).next().unwrap_or_default();
        series == one || series == histogram
    })
}

async fn metrics(mesh: &Mesh) -> String {
    mesh.http().try_get("/metrics").await.expect("an answer").text
}

/// Sum of the series of this name that have all these labels.
fn sum(text: &str, name: MetricName, labels: &[&str]) -> f64 {
    let shown = shown(name);
    let of = text.lines().filter(|line| {
        let series = line.strip_prefix(&shown);
        series.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    });
    let values = of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[tokio::test]
async fn after_a_bit_of_everything_each_metric_has_a_series_but_those_that_need_more() {
    let mesh = Mesh::up().await;
    let http = mesh.http();
    let payload = json!({"payload": {"channel_id": unique("room"), "text": "hello"}});
    for _ in 0..2 {
        let ended = http.invoke("sofia", "?wait=30", &payload).await.expect(200);
        assert_eq!(ended["state"], "completed", "{ended}");
    }
    http.invoke("nobody-of-that-name", "", &payload).await.expect(404);
    mesh.cli(&["memories", "remember", "sofia", "the tea is green", "--json"])
        .await
        .json();
    mesh.cli(&["memories", "search", "sofia", "tea", "--json"]).await.json();
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::talker(&mesh).await;
    let waiting = agent.invoke(&unique("said")).await;
    until(30, "what waits for a node is shown", || async {
        let text = metrics(&mesh).await;
        let of = format!("agent=\"{}\"", agent.name);
        (sum(&text, MetricName::QueueWaiting, &[&of]) >= 1.0 && has_series(&text, MetricName::QueueAge)).then_some(())
    })
    .await;
    let _node = Node::start(&mesh, "kitchen", &folder).await;
    agent.ended(&waiting).await;
    // Nothing waits any more: that it did was seen.
    let seen = [MetricName::QueueWaiting, MetricName::QueueAge];
    let text = until(60, "every metric has a series", || async {
        let text = metrics(&mesh).await;
        let names = MetricName::ALL.iter().filter(|name| !NEED_MORE.contains(name));
        let left: Vec<_> = names
            .filter(|name| !seen.contains(name) && !has_series(&text, **name))
            .map(|name| shown(*name))
            .collect();
        eprintln!("not yet: {left:?}");
        left.is_empty().then_some(text)
    })
    .await;
    until(40, "the next looks see the node and the journal", || async {
        let text = metrics(&mesh).await;
        let online = sum(&text, MetricName::Nodes, &[r#"status="online""#]);
        let told = sum(&text, MetricName::StreamMessages, &[r#"stream="JOURNAL""#]);
        (online == 1.0 && told > 0.0).then_some(())
    })
    .await;
    let sofia = r#"agent="sofia""#;
    assert!(sum(&text, MetricName::AgentModelCalls, &[sofia]) >= 2.0, "{text}");
    assert!(sum(&text, MetricName::AgentTokens, &[sofia, r#"direction="output""#]) > 0.0);
    assert!(sum(&text, MetricName::InvocationsAccepted, &[r#"by="request""#]) >= 3.0);
    assert!(sum(&text, MetricName::InvocationsEnded, &[r#"outcome="completed""#]) >= 3.0);
    assert_eq!(sum(&text, MetricName::ShardsOwned, &[]), 16.0);
    assert_eq!(sum(&text, MetricName::ReconcilerLeads, &[]), 1.0);
    assert_eq!(sum(&text, MetricName::PostgresUp, &[]), 1.0);
    assert_eq!(sum(&text, MetricName::NatsServerUp, &[]), 1.0);
    assert!(sum(&text, MetricName::PostgresSize, &[r#"schema="execution""#]) > 0.0);
    let refused = [r#"reason="registry/agent-not-found""#];
    assert!(sum(&text, MetricName::InvocationsRefused, &refused) >= 1.0, "{text}");
    let answered = [r#"endpoint="invocation-accept""#, r#"outcome="ok""#];
    assert!(sum(&text, MetricName::BusRequests, &answered) >= 1.0);
    // The pattern, and never the path with its ids.
    assert!(text.contains(r#"route="/api/v1/agents/{agent}/invocations""#), "{text}");
}

#[test]
fn each_name_is_recorded_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    for folder in ["services", "shared"] {
        gather(&root.join(folder), &mut sources);
    }
    let text: String = sources
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let unused: Vec<String> = MetricName::ALL
        .iter()
        .map(|name| format!("MetricName::{name:?}"))
        .filter(|use_of| {
            let is_whole = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
            !text.split(use_of.as_str()).skip(1).any(is_whole)
        })
        .collect();
    assert!(unused.is_empty(), "in the table, and recorded nowhere: {unused:?}");
}

/// Sources of what runs, without its tests' folders and the table itself.
fn gather(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "ui", "target", "bench"].contains(&name.as_str()) {
            gather(&path, sources);
        } else if name.ends_with(".rs") && !path.ends_with("mesh-runtime/src/metrics.rs") {
            sources.push(path);
        }
    }
}
