//! `mesh serve`: services as processes of their own against servers of somebody else, started before those servers.

use std::process::Child;

use mesh_servers::ScratchDir;
use serde_json::json;

use crate::harness::{FakeModel, Http, Launch, free_port, start_nats, start_postgres, unique, until};

/// In this order, and the servers only after the first two.
const ORDER: [&[&str]; 4] = [
    &["gateway"],
    &["execution"],
    &["memory", "inference"],
    &["messaging", "registry"],
];

/// Killed when dropped.
struct Processes {
    launch: Launch,
    children: Vec<Child>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.launch.kill_all();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Processes {
    fn serve(&mut self, services: &[&str], folder: &ScratchDir) {
        let arguments = [&["serve"], services].concat();
        let log = folder.path().join(format!("{}.log", services[0]));
        self.children.push(self.launch.spawn(&arguments, &[], &log));
    }
}

#[tokio::test]
async fn services_in_processes_of_their_own_start_in_any_order_before_their_servers() {
    let folder = ScratchDir::new().unwrap();
    let model = FakeModel::start();
    let (nats_port, monitor_port, postgres_port) = (free_port(), free_port(), free_port());
    let http_port = free_port();
    // The password is made with the cluster, so it is made first and stopped again.
    let mut postgres = start_postgres(&folder, postgres_port).await;
    postgres.stop().unwrap();
    let launch = Launch::new(&[
        ("MESH_HTTP_PORT", http_port.to_string()),
        ("MESH_NATS_URL", format!("nats://127.0.0.1:{nats_port}")),
        ("MESH_NATS_MONITOR_URL", format!("http://127.0.0.1:{monitor_port}")),
        ("MESH_DATABASE_URL", postgres.url()),
        ("MESH_REGISTRY__AUTO_CREATE_TENANTS", "true".to_owned()),
        ("MESH_MESSAGING__AUTO_CREATE_CHANNELS", "true".to_owned()),
        ("OPENAI_BASE_URL", model.base_url()),
        ("OPENAI_API_KEY", "of-a-test".to_owned()),
    ]);
    let mut processes = Processes {
        launch,
        children: Vec::new(),
    };
    let http = Http::new(format!("http://127.0.0.1:{http_port}"));
    processes.serve(ORDER[0], &folder);
    processes.serve(ORDER[1], &folder);
    let health = until(30, "the gateway answers without its servers", || {
        http.try_get("/health")
    })
    .await;
    assert_eq!(health.status, 503, "{}", health.text);
    let nats = start_nats(&folder, nats_port, monitor_port).await;
    processes.serve(ORDER[2], &folder);
    postgres.restart().unwrap();
    processes.serve(ORDER[3], &folder);
    let migrated = processes.launch.run(&["migrate", "--json"]).await.json();
    assert!(
        migrated["schema"].is_number() || migrated["schema"].is_string(),
        "{migrated}"
    );
    let name = unique("agent");
    let agent = json!({"metadata": {"name": name}, "spec": {"model": {"name": "gpt-4"}}});
    until(60, "the registry takes an agent", || async {
        let answer = http.post("/api/v1/agents", &agent).await;
        [201, 409].contains(&answer.status).then_some(())
    })
    .await;
    http.post(&format!("/api/v1/agents/{name}/publish"), &json!({}))
        .await
        .expect(200);
    let marker = unique("said");
    let body = json!({"idempotency_key": marker, "payload": {"channel_id": marker, "text": marker}});
    let ended = until(60, "an invocation ends", || async {
        let answer = http.invoke(&name, "?wait=20", &body).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!(http.messages(&marker).await.len(), 1);
    assert_eq!(model.calls(&marker).len(), 1);
    drop(processes);
    drop(nats);
}
