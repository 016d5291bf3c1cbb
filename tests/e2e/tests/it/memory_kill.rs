//! The memory service, and then Postgres, are killed in the middle of 10,000 stores: every acknowledged memory is
//! there, none twice.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap};
use mesh_servers::{Postgres, ScratchDir};
use mesh_types::{Id, MemoryId};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::harness::{Launch, free_port, start_nats, start_postgres, until};
use tokio::task::JoinSet;

const CLIENTS: usize = 16;
const STORES: usize = 10_000;
const SUBJECT: &str = "mesh.svc.memory.memory-store";

/// After so many acknowledgements, what dies.
const BLOWS: [(usize, Blow); 7] = [
    (1_000, Blow::Service),
    (2_500, Blow::Service),
    (4_000, Blow::Postgres),
    (5_500, Blow::Service),
    (7_000, Blow::Postgres),
    (8_000, Blow::Both),
    (9_000, Blow::Service),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Service,
    Postgres,
    Both,
}

/// Killed when dropped.
struct Service {
    launch: Launch,
    folder: ScratchDir,
    child: Option<Child>,
}

impl Service {
    fn start(&mut self) {
        let log = self.folder.path().join("memory.log");
        self.child = Some(self.launch.spawn(&["serve", "memory"], &[], &log));
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("memory.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the service's last words:\n{}",
                lines[lines.len().saturating_sub(20)..].join("\n")
            );
        }
        self.kill();
        self.launch.kill_all();
    }
}

fn id(number: usize) -> MemoryId {
    MemoryId::from_u128(number as u128 + 1)
}

/// No two say the same.
fn content(number: usize) -> String {
    format!("parcel {number} of {} went to shelf {}", number * 7 + 3, number % 13)
}

/// Stores one memory, under the same id again and again until it is acknowledged.
async fn store(client: &Client, number: usize) {
    let body = json!({"id": id(number), "agent": "sofia", "content": content(number)}).to_string();
    loop {
        let mut headers = HeaderMap::new();
        headers.insert("Mesh-Tenant", "default");
        headers.insert("Mesh-Actor", "user:ann");
        let answer = client.request_with_headers(SUBJECT, headers, body.clone().into()).await;
        if let Ok(answer) = answer {
            let value: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            let is_error = answer
                .headers
                .is_some_and(|headers| headers.get("Nats-Service-Error").is_some());
            if !is_error {
                assert_eq!(value["id"], json!(id(number)), "{value}");
                return;
            }
            assert!(value["status"].as_u64().is_some_and(|status| status >= 429), "{value}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn every_acknowledged_memory_outlives_kills_of_the_service_and_of_postgres_once() {
    let folder = ScratchDir::new().unwrap();
    let (nats_port, monitor_port, postgres_port) = (free_port(), free_port(), free_port());
    let postgres = start_postgres(&folder, postgres_port).await;
    let nats = start_nats(&folder, nats_port, monitor_port).await;
    let launch = Launch::new(&[
        ("MESH_NATS_URL", format!("nats://127.0.0.1:{nats_port}")),
        ("MESH_NATS_MONITOR_URL", format!("http://127.0.0.1:{monitor_port}")),
        ("MESH_DATABASE_URL", postgres.url()),
    ]);
    let migrated = launch.run(&["migrate", "--json"]).await.json();
    assert!(!migrated.is_null());
    let database = postgres.url();
    let mut service = Service {
        launch,
        folder: ScratchDir::new().unwrap(),
        child: None,
    };
    service.start();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let acknowledged = Arc::clone(&acknowledged);
        clients.spawn(async move {
            // A request whose answer died with the service is given up soon.
            let options = ConnectOptions::new().request_timeout(Some(Duration::from_secs(2)));
            let address = format!("nats://127.0.0.1:{nats_port}");
            let connection = options.connect(address).await.expect("NATS takes connections");
            for number in (client..STORES).step_by(CLIENTS) {
                store(&connection, number).await;
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let mut postgres = Some(postgres);
    for (after, blow) in BLOWS {
        until(300, &format!("{after} are acknowledged, then {blow:?}"), || async {
            (acknowledged.load(Ordering::SeqCst) >= after).then_some(())
        })
        .await;
        let before = acknowledged.load(Ordering::SeqCst);
        assert!(before < STORES, "{blow:?} came too late");
        strike(blow, &mut service, &mut postgres).await;
    }
    while let Some(client) = clients.join_next().await {
        client.expect("each store is acknowledged in the end");
    }
    check(&database).await;
    drop(service);
    drop(nats);
}

async fn strike(blow: Blow, service: &mut Service, postgres: &mut Option<Postgres>) {
    if blow != Blow::Postgres {
        service.kill();
    }
    if blow != Blow::Service {
        let mut server = postgres.take().expect("it runs");
        let again = move || {
            server.kill().expect("it dies");
            server.restart().expect("it starts again");
            server
        };
        *postgres = Some(tokio::task::spawn_blocking(again).await.unwrap());
    }
    if blow != Blow::Postgres {
        service.start();
    }
}

async fn check(database: &str) {
    let pool: PgPool = PgPoolOptions::new().max_connections(1).connect(database).await.unwrap();
    let kept: Vec<(String, String, i32)> = sqlx::query_as("SELECT id::text, content, seen FROM memory.memory")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(kept.len(), STORES, "as many as were acknowledged");
    let kept: BTreeMap<String, (String, i32)> = kept
        .into_iter()
        .map(|(id, content, seen)| (id.replace('-', ""), (content, seen)))
        .collect();
    for number in 0..STORES {
        let (text, seen) = &kept[&format!("{:032x}", id(number).as_u128())];
        assert_eq!((text, *seen), (&content(number), 1), "{number}");
    }
    // With each its event, once, and its vector, or its place in the queue of those that wait for one.
    let counts: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM memory.event WHERE body LIKE '%memory.stored.v1%'),
            (SELECT count(*) FROM memory.alias),
            (SELECT count(*) FROM memory.memory m WHERE NOT EXISTS (SELECT FROM memory.memory_vector_384 v
                WHERE v.item = m.id) AND NOT EXISTS (SELECT FROM memory.embed_queue q WHERE q.memory = m.id))",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(counts, (STORES as i64, 0, 0));
}
