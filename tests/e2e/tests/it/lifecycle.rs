//! `mesh up`, `status`, `down`: one mesh per home, told from outside, and nothing left behind.

use serde_json::{Value, json};

use crate::harness::Mesh;

#[tokio::test]
async fn a_second_up_says_that_one_runs_and_down_leaves_no_process() {
    let mesh = Mesh::prepare(&[]);
    let nothing = mesh.cli(&["status"]).await;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    let up = mesh.cli(&["up", "--detach"]).await;
    assert_eq!(up.code, Some(0), "{up:?}");
    let status = mesh.cli(&["status", "--json"]).await.json();
    let pid = status["pid"].as_u64().expect("a process id");
    assert_eq!(status["healthy"], true, "{status}");
    assert_eq!(status["http"], mesh.http().base(), "{status}");
    for (field, scheme) in [("nats", "nats://127.0.0.1:"), ("database", "postgres://")] {
        let url = status[field].as_str();
        assert!(url.is_some_and(|url| url.starts_with(scheme)), "{field}: {status}");
    }
    let services = status["services"].as_array().expect("a list");
    let names: Vec<&str> = services.iter().filter_map(|one| one["name"].as_str()).collect();
    for name in ["registry", "execution", "messaging", "memory", "inference", "gateway"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for second in [mesh.cli(&["up"]).await, mesh.cli(&["up", "--detach"]).await] {
        assert_eq!(second.code, Some(1), "{second:?}");
        assert!(second.stderr.contains(&pid.to_string()), "{second:?}");
    }
    assert_eq!(mesh.http().get("/health").await["status"], "ok");
    let down = mesh.cli(&["down", "--json"]).await;
    assert_eq!(down.json(), json!({"stopped": pid}));
    let left = mesh.launch.processes();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(mesh.http().try_get("/health").await.is_none());
    let again = mesh.cli(&["down", "--json"]).await;
    assert_eq!(again.json(), json!({"stopped": Value::Null}));
}

#[tokio::test]
async fn health_says_what_the_contract_names() {
    let mesh = Mesh::shared().await;
    let health = mesh.http().get("/health").await;
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(health["nats_connected"], true, "{health}");
    assert_eq!(health["database_connected"], true, "{health}");
    assert!(
        health["service"].is_string() && health["version"].is_string(),
        "{health}"
    );
    for path in ["/livez", "/readyz"] {
        let answer = mesh.http().try_get(path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    let metrics = mesh.http().try_get("/metrics").await.expect("an answer");
    assert!(metrics.text.contains("# TYPE"), "{}", metrics.text);
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_variable_to_change() {
    let mesh = Mesh::shared().await;
    let other = Mesh::prepare(&[("MESH_HTTP_PORT", port_of(mesh.http().base()))]);
    let refused = other.cli(&["up"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("MESH_HTTP_PORT"), "{refused:?}");
    let left = other.launch.processes();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn port_of(base: &str) -> String {
    base.rsplit(':').next().expect("a port").to_owned()
}
