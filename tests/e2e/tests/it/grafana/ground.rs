//! What goes wrong on purpose: agents that fail, wait and are asked the wrong thing, a node and an owner that die.

use std::process::Child;
use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;

use super::prometheus::{Prometheus, Scraped};
use crate::harness::{Http, Mesh, Script, free_port, unique, until};

/// Said to an agent, it makes its model refuse.
const REFUSED: &str = "please refuse";
/// Makes its model break down.
const BROKEN: &str = "please break";
/// Makes it think for a while.
const SLOW: &str = "please think";
/// Invocations that a paused agent holds.
pub(super) const HELD: usize = 5;
/// Messages that nobody can read.
pub(super) const UNREADABLE: usize = 4;
/// Ends of either kind under load.
const GOOD: usize = 20;
const BAD: usize = 8;
/// Invocations whose model is being asked when their owner dies: of 16 shards, so that some are its own.
const CAUGHT: usize = 16;

/// A mesh, a second owner of shards, two nodes, and who watches them.
pub(super) struct Ground {
    pub(super) mesh: Mesh,
    pub(super) http: Http,
    pub(super) prometheus: Prometheus,
    pool: PgPool,
    second: Owned,
    doomed: Owned,
    _node: Owned,
    folder: TempDir,
}

/// A process that dies with its test.
struct Owned(Child);

impl Owned {
    fn kill_9(&mut self) {
        self.0.kill().expect("it lives");
        self.0.wait().expect("it was killed");
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ground {
    pub(super) async fn up() -> Self {
        let mesh = Mesh::up().await;
        let folder = tempfile::tempdir().expect("a folder");
        let (http, pool) = (mesh.http(), mesh.database().await);
        let port = free_port();
        let second = second(&mesh, &folder, port);
        let (_node, doomed) = (node(&mesh, &folder, "kitchen"), node(&mesh, &folder, "cellar"));
        let gateway = http.base().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let scraped = [
            Scraped {
                service: "mesh",
                port: gateway.expect("a port"),
            },
            Scraped {
                service: "execution",
                port,
            },
        ];
        let prometheus = Prometheus::start(&mesh.launch, &scraped).await;
        let ground = Self {
            mesh,
            http,
            prometheus,
            pool,
            second,
            doomed,
            _node,
            folder,
        };
        until(60, "two processes share the shards", || async {
            (ground.shards_of_second().await == 8).then_some(())
        })
        .await;
        ground
    }

    async fn shards_of_second(&self) -> i64 {
        let owned = "SELECT count(*) FROM execution.shard WHERE owner = 'second'";
        sqlx::query_scalar(owned).fetch_one(&self.pool).await.expect("shards")
    }

    /// Declares and publishes an agent that asks a model.
    pub(super) async fn agent(&self, prefix: &str, more: Value) -> String {
        let name = unique(prefix);
        let mut spec = json!({"model": {"name": "gpt-4"}});
        if let (Some(fields), Value::Object(more)) = (spec.as_object_mut(), more) {
            fields.extend(more);
        }
        let agent = json!({"metadata": {"name": name}, "spec": spec});
        self.http.post("/api/v1/agents", &agent).await.expect(201);
        self.http
            .post(&format!("/api/v1/agents/{name}/publish"), &json!({}))
            .await
            .expect(200);
        name
    }

    /// Invokes it so often at once, and answers the ids.
    pub(super) async fn ask(&self, agent: &str, said: &str, times: usize) -> Vec<String> {
        let one = || async {
            let accepted = self.http.invoke(agent, "", &json!({"payload": {"text": said}})).await;
            assert!([200, 202].contains(&accepted.status), "{}", accepted.text);
            accepted.body["id"].as_str().expect("an id").to_owned()
        };
        futures::future::join_all((0..times).map(|_| one())).await
    }

    async fn ended(&self, ids: &[String], state: &str) {
        for id in ids {
            let ended = self.http.until_ended(id).await;
            assert_eq!(ended["state"], state, "{ended}");
        }
    }

    /// A little of everything, so that counters exist before they are to grow.
    pub(super) async fn warm_up(&self, good: &str, held: &str, placed: &str) {
        let script = |of: &str, fails: Option<u16>, delay: u64| Script {
            of: of.into(),
            fails,
            delay: Duration::from_secs(delay),
        };
        self.mesh.model.script(script(REFUSED, Some(400), 0));
        self.mesh.model.script(script(BROKEN, Some(500), 0));
        self.mesh.model.script(script(SLOW, None, 4));
        self.ended(&self.ask(good, "hello", 1).await, "completed").await;
        self.ended(&self.ask(good, REFUSED, 1).await, "failed").await;
        self.ended(&self.ask(held, "hello", 1).await, "completed").await;
        self.ended(&self.ask(placed, "hello", 1).await, "completed").await;
        self.unreadable(1).await;
        self.wrong_requests(1).await;
        self.remember(1).await;
        // Seen once by Prometheus: what comes now is an increase, and so has a rate.
        until(60, "Prometheus has seen the first of each", || async {
            let query = "sum(mesh_invocations_ended_total{outcome=\"failed\"}) * sum(mesh_dead_letters_total)
                * sum(mesh_http_requests_total{status=\"404\"}) * sum(mesh_memory_queries_total) > 0";
            (!self.prometheus.instant(query).await.is_empty()).then_some(())
        })
        .await;
    }

    /// Answers an invocation that waits.
    pub(super) async fn load(&self, good: &str, held: &str, placed: &str) -> String {
        let path = format!("/api/v1/agents/{held}/pause");
        self.http.post(&path, &json!({"reason": "a test"})).await.expect(200);
        let waiting = self.ask(held, "hello", HELD).await;
        let (ends, failures) = tokio::join!(self.ask(good, "hello", GOOD), self.ask(good, REFUSED, BAD));
        self.ended(&ends, "completed").await;
        self.ended(&failures, "failed").await;
        self.ended(&self.ask(placed, "hello", 4).await, "completed").await;
        self.unreadable(UNREADABLE).await;
        self.wrong_requests(3).await;
        self.remember(3).await;
        waiting[0].clone()
    }

    async fn unreadable(&self, times: usize) {
        let client = self.mesh.nats().await;
        for _ in 0..times {
            let subject = format!("mesh.invoke.default.{}", unique("nobody"));
            #[expect(clippy::disallowed_methods, reason = "as `nats pub` does")]
            client.publish(subject, "{".into()).await.expect("published");
        }
        client.flush().await.expect("flushed");
    }

    /// What is not there.
    async fn wrong_requests(&self, times: usize) {
        for _ in 0..times {
            let missing = self
                .http
                .try_get("/api/v1/agents/nobody-has-this-name")
                .await
                .expect("an answer");
            assert_eq!(missing.status, 404, "{}", missing.text);
        }
    }

    async fn remember(&self, times: usize) {
        for _ in 0..times {
            let body = json!({"agent": "sofia", "query": "seafood", "k": 3});
            self.http.post("/api/v1/memories/search", &body).await.expect(200);
        }
    }

    /// Somebody who follows an invocation, as long as this is kept.
    pub(super) async fn listener(&self, id: &str) -> Response {
        let path = format!("/api/v1/invocations/{id}/events");
        let answer = self
            .http
            .request(reqwest::Method::GET, &path)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        answer
    }

    /// The model breaks down: the first who asks is told so, and after some more the provider is not asked for a while.
    pub(super) async fn break_provider(&self, agent: &str) {
        let body = json!({"model": agent, "messages": [{"role": "user", "content": BROKEN}]});
        let ask = |seconds: u64| {
            let request = self.http.request(reqwest::Method::POST, "/v1/chat/completions");
            request.json(&body).timeout(Duration::from_secs(seconds)).send()
        };
        let told = ask(30).await.map(|answer| answer.status().as_u16());
        assert!(matches!(told, Ok(502)), "{told:?}");
        // These wait for the provider, longer than we do.
        futures::future::join_all((0..4).map(|_| ask(4))).await;
    }

    /// One node and one owner of shards at once, the latter while its agents' model thinks.
    pub(super) async fn kill(&mut self, good: &str) {
        let caught = self.ask(good, SLOW, CAUGHT).await;
        until(30, "their model is asked", || async {
            (self.mesh.model.calls(SLOW).len() >= CAUGHT / 2).then_some(())
        })
        .await;
        self.doomed.kill_9();
        self.second.kill_9();
        until(60, "its shards are taken over", || async {
            (self.shards_of_second().await == 0).then_some(())
        })
        .await;
        self.ended(&caught, "completed").await;
    }

    /// Who wants to talk to the killed node is told that it is offline, again and again.
    pub(super) async fn call_the_dead(&self) {
        let path = "/api/runtimes/v1/agent-nodes/cellar/tunnel/events";
        let ask = || async { self.http.try_get(path).await.map(|answer| answer.status) };
        until(60, "its node is offline", || async {
            (ask().await == Some(503)).then_some(())
        })
        .await;
        // A counter that begins is no increase: the next failures come after the first one was scraped.
        let seen = r#"mesh_http_requests_total{route=~".*/tunnel/events",status="503"}"#;
        until(30, "the failure is scraped", || async {
            (!self.prometheus.instant(seen).await.is_empty()).then_some(())
        })
        .await;
        for _ in 0..3 {
            assert_eq!(ask().await, Some(503));
        }
        let nobody = unique("nobody");
        let path = format!("/api/v1/agents/{nobody}/invocations");
        assert_eq!(self.http.post(&path, &json!({"payload": {}})).await.status, 404);
    }

    /// What the processes beside the mesh said at last.
    pub(super) fn last_words(&self) -> String {
        let mut words = String::new();
        for entry in std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(10).collect();
            words.push_str(&format!("{:?}: {tail:#?}\n", entry.file_name()));
        }
        words
    }
}

fn second(mesh: &Mesh, folder: &TempDir, port: u16) -> Owned {
    let state = mesh.state();
    let port = port.to_string();
    let environment = [
        ("MESH_NATS_URL", state.nats.as_str()),
        (
            "MESH_NATS_MONITOR_URL",
            state.monitor.as_deref().expect("it started NATS itself"),
        ),
        ("MESH_DATABASE_URL", state.database.as_str()),
        ("MESH_EXECUTION__INSTANCE", "second"),
        ("MESH_OPS_PORT", &port),
    ];
    Owned(
        mesh.launch
            .spawn(&["serve", "execution"], &environment, &folder.path().join("second.log")),
    )
}

fn node(mesh: &Mesh, folder: &TempDir, name: &str) -> Owned {
    let home = folder.path().join(name).display().to_string();
    std::fs::create_dir_all(&home).expect("a folder for the node");
    let environment = [
        ("MESH_HOME", home.as_str()),
        ("AGENT_NODE_HEARTBEAT_SECONDS", "1"),
        ("MESH_NODE__LOCAL", "false"),
    ];
    let url = mesh.state().nats;
    let arguments = ["node", "--url", &url, "--id", name, "--slots", "4"];
    Owned(
        mesh.launch
            .spawn(&arguments, &environment, &folder.path().join(format!("{name}.log"))),
    )
}
