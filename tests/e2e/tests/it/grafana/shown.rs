//! Every query of every panel, over a mesh in which known things went wrong: it is taken, it is not empty, and the panels
//! that would have woken somebody show the values that were caused.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::boards::{self, Panel, substituted};
use super::ground::{Ground, HELD, UNREADABLE};
use super::prometheus::{Prometheus, Series};
use crate::harness::{Mesh, until};

/// Queries that are empty until what they count happens for the first time, and what that is.
const QUIET: [(&str, &str, &str); 3] = [
    ("mesh-overview / Panics and restarts", "A", "a task panics"),
    (
        "mesh-overview / Panics and restarts",
        "B",
        "a service is started again within its process",
    ),
    (
        "mesh-memory / Waiting for their turn, and not made",
        "B",
        "all turns of a provider are taken for long",
    ),
];
/// How long Prometheus watches before the first thing is caused, so that it knows what is new.
const BEFORE: Duration = Duration::from_secs(4);

enum Want {
    /// The newest value.
    Last(f64),
    /// The highest of the time shown.
    AtLeast(f64),
}
use Want::{AtLeast, Last};

/// Panel, label of the curve (any where empty), value.
fn expected(held: &str, good: &str) -> Vec<(&'static str, String, Want)> {
    let any = String::new;
    vec![
        ("mesh-overview / Processes that do not answer", any(), Last(1.0)),
        ("mesh-overview / Alerts that fire", any(), AtLeast(1.0)),
        ("mesh-overview / Invocations that fail", any(), AtLeast(0.05)),
        ("mesh-overview / Waiting for a slot", any(), Last(HELD as f64)),
        ("mesh-overview / Nodes online", any(), Last(1.0)),
        ("mesh-overview / Live connections", "sse".into(), AtLeast(1.0)),
        (
            "mesh-overview / Failed requests by route",
            "/tunnel/events".into(),
            AtLeast(1.0),
        ),
        ("mesh-execution / Shards with an owner", any(), Last(16.0)),
        ("mesh-execution / Shards of silent owners", any(), AtLeast(7.5)),
        ("mesh-execution / Work taken up again", "owner".into(), AtLeast(0.1)),
        (
            "mesh-execution / New dead letters",
            any(),
            AtLeast(UNREADABLE as f64 - 0.5),
        ),
        ("mesh-execution / Open by state", "queued".into(), Last(HELD as f64)),
        ("mesh-execution / Shards by process", "execution@".into(), AtLeast(8.0)),
        ("mesh-agents / Waiting for a slot", held.into(), Last(HELD as f64)),
        ("mesh-agents / Longest wait", held.into(), AtLeast(5.0)),
        ("mesh-agents / Spent by agent", good.into(), AtLeast(0.000_001)),
        ("mesh-fleet / Online", any(), Last(1.0)),
        ("mesh-fleet / Lost", any(), Last(1.0)),
        ("mesh-fleet / Leaders of the reconciler", any(), Last(1.0)),
        ("mesh-memory / Model calls that fail", any(), AtLeast(0.05)),
        ("mesh-memory / Providers that rest", any(), AtLeast(1.0)),
        ("mesh-memory / Searches by outcome", any(), AtLeast(0.1)),
        ("mesh-nats / Servers that answer", any(), Last(1.0)),
        ("mesh-postgres / Answers", any(), Last(1.0)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_shows_what_was_caused() {
    let mut ground = Ground::up().await;
    let began = Instant::now();
    until(30, "Prometheus has watched for a while", || async {
        (began.elapsed() > BEFORE).then_some(())
    })
    .await;
    let good = ground.agent("good", json!({})).await;
    let held = ground.agent("held", json!({})).await;
    let placed = ground.agent("placed", json!({"placement": {"replicas": 2}})).await;
    ground.warm_up(&good, &held, &placed).await;
    let waiting = ground.load(&good, &held, &placed).await;
    let listener = ground.listener(&waiting).await;
    ground.kill(&good).await;
    ground.break_provider(&good).await;
    ground.call_the_dead().await;
    let panels = boards::panels();
    for (name, of, want) in expected(&held, &good) {
        shows(&ground, &panels, began, name, &of, &want).await;
    }
    drop(listener);
    let mut empty = Vec::new();
    for panel in &panels {
        for (target, series) in shown(&ground.prometheus, panel, began).await {
            let is_quiet = QUIET
                .iter()
                .any(|(name, query, _)| *name == panel.name() && *query == target);
            if series.is_empty() && !is_quiet {
                empty.push(format!("{} {target}", panel.name()));
            }
        }
    }
    assert!(empty.is_empty(), "panels that show nothing: {empty:#?}");
    for (metric, label) in boards::variables() {
        let metric = substituted(&metric, 1);
        assert!(
            !ground.prometheus.label_values(&metric, &label).await.is_empty(),
            "{metric} has no {label}"
        );
    }
    alerts_fire(&ground.prometheus).await;
    one_invocation(&ground).await;
    // The dead one is down; nothing else fails to be scraped.
    let failures = ground.prometheus.failures().await;
    assert_eq!(failures.len(), 1, "{failures:?}");
}

/// What each of its queries of Prometheus answers.
async fn shown(prometheus: &Prometheus, panel: &Panel, began: Instant) -> Vec<(String, Vec<Series>)> {
    let (mut all, range) = (Vec::new(), began.elapsed().as_secs());
    for target in panel.targets() {
        if target.source != "prometheus" {
            continue;
        }
        let query = substituted(target.body["expr"].as_str().expect("a query"), range);
        let series = match target.body["instant"].as_bool() {
            Some(true) => prometheus.instant(&query).await,
            _ => prometheus.range(&query, range).await,
        };
        all.push((target.body["refId"].as_str().expect("a name").to_owned(), series));
    }
    all
}

async fn shows(ground: &Ground, panels: &[Panel], began: Instant, name: &str, of: &str, want: &Want) {
    let panel = panels.iter().find(|panel| panel.name() == name);
    let panel = panel.unwrap_or_else(|| panic!("there is no panel {name}"));
    let mut seen = String::new();
    let end = Instant::now() + Duration::from_secs(90);
    while Instant::now() < end {
        let all = shown(&ground.prometheus, panel, began).await;
        let lines: Vec<&Series> = all.iter().flat_map(|(_, series)| series).collect();
        let fits = |line: &&&Series| of.is_empty() || line.labels.to_string().contains(of);
        let holds = |line: &&Series| match want {
            Last(value) => (line.last() - value).abs() < 0.001,
            AtLeast(value) => line.highest() >= *value,
        };
        if lines.iter().filter(fits).any(holds) {
            return;
        }
        let told = |line: &&Series| format!("{} last {} highest {}", line.labels, line.last(), line.highest());
        seen = lines.iter().map(told).collect::<Vec<_>>().join("\n");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{name} ({of}) shows\n{seen}\n{}", ground.last_words());
}

/// Of the rules that are checked in, those fire that must, at once or after their time.
async fn alerts_fire(prometheus: &Prometheus) {
    for (alert, state) in [
        ("MeshDeadLetters", "firing"),
        ("MeshNodesLost", "pending|firing"),
        ("MeshServiceDown", "pending|firing"),
    ] {
        let query = format!("ALERTS{{alertname=\"{alert}\",alertstate=~\"{state}\"}}");
        until(60, &format!("{alert} is {state}"), || async {
            (!prometheus.instant(&query).await.is_empty()).then_some(())
        })
        .await;
    }
    // Nobody collects telemetry here, and nothing else is wrong.
    let critical = "ALERTS{alertstate=\"firing\",severity=\"critical\",alertname!~\"MeshServiceDown|MeshHttpErrors\"}";
    let fires = prometheus.instant(critical).await;
    assert!(fires.is_empty(), "{fires:?}");
}

/// The dashboard of one invocation: its SQL runs as the role that Grafana has, which can read no word that was said.
async fn one_invocation(ground: &Ground) {
    let failed = ground.http.get("/api/v1/invocations?state=failed&limit=1").await;
    let id = failed["items"][0]["id"].as_str().expect("one failed").to_owned();
    let mut reader = reader(&ground.mesh).await;
    let mut told = 0;
    for panel in boards::panels() {
        for target in panel.targets() {
            let Some(sql) = target.body["rawSql"].as_str() else {
                continue;
            };
            let sql = sql.replace("${invocation:sqlstring}", &format!("'{id}'"));
            assert!(!sql.contains('$'), "{}: {sql}", panel.name());
            let rows = sqlx::query(AssertSqlSafe(sql.clone())).fetch_all(&mut reader).await;
            let rows = rows.unwrap_or_else(|error| panic!("{}: {sql}: {error}", panel.name()));
            assert!(!rows.is_empty(), "{}: {sql}", panel.name());
            told += 1;
        }
    }
    assert_eq!(told, 4, "panels of Postgres");
    let shown: String = sqlx::query_scalar("SELECT id FROM grafana.invocation($1)")
        .bind(&id)
        .fetch_one(&mut reader)
        .await
        .unwrap();
    assert_eq!(shown, id, "an id is the same on its way there and back");
    for id in ["", "inv_", "inv_81J9ZZZZZZZZZZZZZZZZZZZZZZ", "'; SELECT 1; --"] {
        let rows = sqlx::query("SELECT * FROM grafana.steps($1)")
            .bind(id)
            .fetch_all(&mut reader)
            .await
            .unwrap();
        assert!(rows.is_empty(), "{id}");
    }
    for forbidden in [
        "SELECT body FROM execution.record LIMIT 1",
        "SELECT input FROM execution.invocation LIMIT 1",
        "SELECT short_text FROM execution.summary LIMIT 1",
        "SELECT error FROM execution.summary LIMIT 1",
        "SELECT * FROM execution.record_default LIMIT 1",
        "SELECT * FROM identity.audit LIMIT 1",
        "SELECT * FROM memory.memory LIMIT 1",
        "DELETE FROM execution.summary",
        "CREATE TABLE grafana.mine (id int)",
        "CREATE TEMP TABLE mine (id int)",
    ] {
        let refused = sqlx::query(forbidden).fetch_all(&mut reader).await;
        assert!(refused.is_err(), "{forbidden} was taken");
    }
}

/// Logs in as Grafana does.
async fn reader(mesh: &Mesh) -> PgConnection {
    let pool = mesh.database().await;
    sqlx::query("ALTER ROLE mesh_grafana LOGIN PASSWORD 'of-a-test'")
        .execute(&pool)
        .await
        .unwrap();
    let mut url = reqwest::Url::parse(&mesh.state().database).unwrap();
    url.set_username("mesh_grafana").unwrap();
    url.set_password(Some("of-a-test")).unwrap();
    PgConnection::connect(url.as_str()).await.expect("Grafana may log in")
}
