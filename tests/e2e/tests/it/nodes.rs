//! Remote workers: `mesh node` processes that claim from the mesh over NATS alone, and what is true when they, or their
//! owners, freeze and die.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Mesh, Script, unique, until};

const LEASE: Duration = Duration::from_secs(15);

/// A node of the mesh, killed when dropped.
pub(crate) struct Node {
    child: Child,
    name: String,
}

impl Node {
    pub(crate) async fn start(mesh: &Mesh, name: &str, folder: &tempfile::TempDir) -> Self {
        let url = mesh.state().nats;
        let log = folder.path().join(format!("{name}.log"));
        let home = folder.path().display().to_string();
        let child = mesh.launch.spawn(
            &["node", "--url", &url, "--id", name, "--slots", "8"],
            &[
                ("MESH_HOME", &home),
                // So that the mesh soon moves the replicas of one that is gone.
                ("AGENT_NODE_HEARTBEAT_SECONDS", "1"),
                ("MESH_NODE__LOCAL", "false"),
            ],
            &log,
        );
        Self {
            child,
            name: name.to_owned(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are positive 32-bit numbers");
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One agent that runs on nodes only, and what was asked of it.
pub(crate) struct Agent<'a> {
    mesh: &'a Mesh,
    pool: PgPool,
    pub(crate) name: String,
}

impl<'a> Agent<'a> {
    async fn publish(mesh: &'a Mesh, mut spec: Value) -> Self {
        let name = unique("agent");
        spec["placement"] = json!({"replicas": 1});
        let agent = json!({"metadata": {"name": name}, "spec": spec});
        mesh.http().post("/api/v1/agents", &agent).await.expect(201);
        let path = format!("/api/v1/agents/{name}/publish");
        mesh.http().post(&path, &json!({})).await.expect(200);
        Self {
            mesh,
            pool: mesh.database().await,
            name,
        }
    }

    /// It asks its model, and does nothing else.
    pub(crate) async fn talker(mesh: &'a Mesh) -> Self {
        let spec = json!({"model": {"name": "gpt-4"}, "memory": {"query_top_k": 0, "writeback": false}});
        Self::publish(mesh, spec).await
    }

    /// It adds a line to `ledger`, at most once, and takes so many seconds after it.
    async fn writer(mesh: &'a Mesh, ledger: &std::path::Path, seconds: u32) -> Self {
        let line = format!(
            "echo ran >> {}; sleep {seconds}; echo '{{\"ok\":true}}'",
            ledger.display()
        );
        let script = json!({"command": ["sh", "-c", line], "effect": "at_most_once", "timeout": "60s"});
        Self::publish(mesh, json!({"runtime": "script", "script": script})).await
    }

    pub(crate) async fn invoke(&self, text: &str) -> String {
        let body = json!({"payload": {"text": text}});
        let accepted = self.mesh.http().invoke(&self.name, "", &body).await;
        assert!([200, 202].contains(&accepted.status), "{}", accepted.text);
        accepted.body["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn ended(&self, id: &str) -> Value {
        let ended = self.mesh.http().until_ended(id).await;
        assert_eq!(ended["state"], "completed", "{ended}");
        ended
    }

    /// Who claimed it, in order.
    async fn holders(&self, id: &str) -> Vec<String> {
        let claims = self.records(id, "claimed").await;
        claims
            .iter()
            .map(|claim| claim["holder"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn records(&self, id: &str, kind: &str) -> Vec<Value> {
        let bodies: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT r.body FROM execution.record r JOIN execution.invocation i ON i.id = r.invocation
             WHERE i.agent = $1 AND r.kind = $2 AND r.invocation = $3 ORDER BY r.seq",
        )
        .bind(&self.name)
        .bind(kind)
        .bind(uuid_of(id))
        .fetch_all(&self.pool)
        .await
        .unwrap();
        bodies
            .iter()
            .map(|body| serde_json::from_slice(body).unwrap())
            .collect()
    }

    async fn held_by(&self, id: &str, seconds: u64, name: &str) {
        until(seconds, &format!("{name} claims it"), || async {
            self.holders(id)
                .await
                .last()
                .is_some_and(|last| last == name)
                .then_some(())
        })
        .await;
    }

    async fn losses(&self) -> i64 {
        sqlx::query_scalar("SELECT coalesce(sum(losses), 0)::bigint FROM execution.open")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

fn uuid_of(id: &str) -> sqlx::types::Uuid {
    use mesh_types::Id;
    let id: mesh_types::InvocationId = id.parse().unwrap();
    sqlx::types::Uuid::from_u128(id.as_u128())
}

/// The model takes so long for what contains `of`.
fn slow(mesh: &Mesh, of: &str, seconds: u64) {
    mesh.model.script(Script {
        of: of.to_owned(),
        delay: Duration::from_secs(seconds),
        fails: None,
    });
}

async fn asked(mesh: &Mesh, of: &str, times: usize) {
    until(30, "the model is asked", || async {
        (mesh.model.calls(of).len() >= times).then_some(())
    })
    .await;
}

/// At most twice: an answer that came while nobody heard it is kept by `inference` for who asks again.
fn assert_asked_under_one_key(mesh: &Mesh, of: &str) {
    let calls = mesh.model.calls(of);
    assert!(
        calls.len() <= 2 && calls.iter().all(|call| call.key == calls[0].key),
        "{calls:?}"
    );
}

fn lines(ledger: &PathBuf) -> usize {
    std::fs::read_to_string(ledger).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn an_agent_with_a_placement_waits_for_a_node_and_runs_there() {
    let mesh = Mesh::up().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::talker(&mesh).await;
    let marker = unique("said");
    let first = agent.invoke(&marker).await;
    let hosted = json!({"payload": {"channel_id": unique("room"), "text": "hosted"}});
    let hosted = mesh.http().invoke("sofia", "?wait=20", &hosted).await.expect(200);
    assert_eq!(hosted["state"], "completed", "{hosted}");
    assert!(agent.holders(&first).await.is_empty(), "nobody runs it here");
    let node = Node::start(&mesh, "kitchen", &folder).await;
    agent.ended(&first).await;
    assert_eq!(agent.holders(&first).await, [node.name.as_str()]);
    // A node that hears no bell looks every ten seconds.
    let began = Instant::now();
    for _ in 0..5 {
        let next = agent.invoke(&unique("said")).await;
        agent.ended(&next).await;
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(25), "the bell rang: {took:?}");
    let all: Vec<String> = futures::future::join_all((0..40).map(|_| agent.invoke(&marker))).await;
    for id in &all {
        agent.ended(id).await;
    }
}

#[tokio::test]
async fn a_killed_node_is_followed_by_another_one_within_its_lease() {
    let mesh = Mesh::up().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::talker(&mesh).await;
    let marker = unique("said");
    slow(&mesh, &marker, 5);
    let mut first = Node::start(&mesh, "first", &folder).await;
    let id = agent.invoke(&marker).await;
    asked(&mesh, &marker, 1).await;
    let _second = Node::start(&mesh, "second", &folder).await;
    first.kill_9();
    agent.held_by(&id, LEASE.as_secs() + 10, "second").await;
    agent.ended(&id).await;
    assert_asked_under_one_key(&mesh, &marker);
}

#[tokio::test]
async fn the_owner_dies_and_the_node_goes_on_with_the_next_one() {
    let mesh = Mesh::up().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::talker(&mesh).await;
    let marker = unique("said");
    // The model's answer comes through the mesh, so the script is what runs on.
    let ledger = folder.path().join("ledger");
    let writer = Agent::writer(&mesh, &ledger, 6).await;
    let _node = Node::start(&mesh, "kitchen", &folder).await;
    let id = writer.invoke(&marker).await;
    until(30, "the script runs", || async { (lines(&ledger) == 1).then_some(()) }).await;
    mesh.kill_9_alone();
    mesh.start(&[]).await;
    writer.ended(&id).await;
    assert_eq!(writer.holders(&id).await, ["kitchen"], "one claim");
    assert_eq!(lines(&ledger), 1);
    let next = agent.invoke(&marker).await;
    agent.ended(&next).await;
}

#[tokio::test]
async fn a_frozen_node_comes_too_late_and_its_single_effect_is_the_one() {
    let mesh = Mesh::up().await;
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let (writer, talker) = (Agent::writer(&mesh, &ledger, 1).await, Agent::talker(&mesh).await);
    let marker = unique("said");
    slow(&mesh, &marker, 3);
    let frozen = Node::start(&mesh, "frozen", &folder).await;
    let (once, again) = (writer.invoke("once").await, talker.invoke(&marker).await);
    until(30, "the script runs", || async { (lines(&ledger) == 1).then_some(()) }).await;
    asked(&mesh, &marker, 1).await;
    frozen.signal(Signal::SIGSTOP);
    let _other = Node::start(&mesh, "other", &folder).await;
    writer.held_by(&once, LEASE.as_secs() + 10, "other").await;
    talker.ended(&again).await;
    until(30, "what may have happened waits", || async {
        (!writer.records(&once, "waiting").await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(lines(&ledger), 1, "it is not run again");
    frozen.signal(Signal::SIGCONT);
    let ended = writer.ended(&once).await;
    assert_eq!(lines(&ledger), 1, "{ended}");
    assert_eq!(talker.holders(&again).await, ["frozen", "other"]);
    assert_asked_under_one_key(&mesh, &marker);
}

#[tokio::test]
async fn a_result_outlives_the_node_that_could_not_tell_it() {
    let mesh = Mesh::up().await;
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let writer = Agent::writer(&mesh, &ledger, 4).await;
    let mut node = Node::start(&mesh, "kitchen", &folder).await;
    let id = writer.invoke("once").await;
    until(30, "the script runs", || async { (lines(&ledger) == 1).then_some(()) }).await;
    mesh.kill_9_alone();
    let results = folder.path().join("nodes/kitchen/results");
    until(30, "the result is kept", || async {
        let kept = std::fs::read_dir(&results).unwrap().flatten();
        kept.into_iter()
            .any(|file| file.path().extension().is_some_and(|end| end == "json"))
            .then_some(())
    })
    .await;
    node.kill_9();
    mesh.start(&[]).await;
    let _node = Node::start(&mesh, "kitchen", &folder).await;
    writer.ended(&id).await;
    assert_eq!(lines(&ledger), 1);
    until(30, "what is answered is not kept", || async {
        (std::fs::read_dir(&results).unwrap().count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_stopped_hands_its_work_over_at_once() {
    let mesh = Mesh::up().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::talker(&mesh).await;
    let marker = unique("said");
    slow(&mesh, &marker, 8);
    let mut first = Node::start(&mesh, "first", &folder).await;
    let id = agent.invoke(&marker).await;
    asked(&mesh, &marker, 1).await;
    let _second = Node::start(&mesh, "second", &folder).await;
    first.signal(Signal::SIGTERM);
    agent.held_by(&id, 30, "second").await;
    assert_eq!(agent.losses().await, 0, "a hand-over is no loss");
    let released = agent.records(&id, "released").await;
    assert_eq!(released[0]["reason"], "handed_over", "{released:?}");
    assert_eq!(first.child.wait().unwrap().code(), Some(0));
    agent.ended(&id).await;
}

#[tokio::test]
async fn two_owners_share_the_shards_and_a_node_serves_both() {
    let mesh = Mesh::up().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::talker(&mesh).await;
    let state = mesh.state();
    let environment = [
        ("MESH_NATS_URL", state.nats.as_str()),
        ("MESH_DATABASE_URL", state.database.as_str()),
        ("MESH_EXECUTION__INSTANCE", "two"),
        ("MESH_ALLOW_LAZY_SYNC", "1"),
    ];
    let log = folder.path().join("two.log");
    let child = mesh.launch.spawn(&["serve", "execution"], &environment, &log);
    let mut two = Node {
        child,
        name: "two".into(),
    };
    until(30, "the shards are shared", || async {
        let owned: i64 = sqlx::query_scalar("SELECT count(*) FROM execution.shard WHERE owner = 'two'")
            .fetch_one(&agent.pool)
            .await
            .unwrap();
        (owned == 8).then_some(())
    })
    .await;
    let _node = Node::start(&mesh, "kitchen", &folder).await;
    let marker = unique("said");
    let all: Vec<String> = futures::future::join_all((0..60).map(|_| agent.invoke(&marker))).await;
    for id in &all {
        agent.ended(id).await;
        assert_eq!(agent.holders(id).await, ["kitchen"]);
    }
    // One of the owners dies in the middle of the work.
    let slowly = unique("slowly");
    slow(&mesh, &slowly, 2);
    let all: Vec<String> = futures::future::join_all((0..8).map(|_| agent.invoke(&slowly))).await;
    asked(&mesh, &slowly, 8).await;
    two.kill_9();
    for id in &all {
        agent.ended(id).await;
        assert_eq!(agent.holders(id).await, ["kitchen"], "nobody lost it");
    }
}
