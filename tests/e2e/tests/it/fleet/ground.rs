//! A mesh that demands credentials, with nodes, agents that run on them, and the questions that the tests ask.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mesh_types::Id;
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;

use super::nodes::{Node, Order};
use crate::harness::{Http, Mesh, items, send, unique, until};

/// Of nodes, in milliseconds.
const LEASE_MS: &str = "3000";

pub(super) struct Ground {
    pub(super) mesh: Mesh,
    pub(super) http: Http,
    pub(super) pool: PgPool,
    pub(super) folder: TempDir,
}

impl Ground {
    pub(super) async fn up() -> Self {
        let mesh = Mesh::up_with(&[
            ("MESH_REQUIRE_CREDENTIALS", "1".into()),
            ("MESH_EXECUTION__NODE_LEASE_MS", LEASE_MS.into()),
        ])
        .await;
        Self {
            http: mesh.http().key(&mesh.admin_key()),
            pool: mesh.database().await,
            folder: tempfile::tempdir().expect("a folder"),
            mesh,
        }
    }

    /// A join token of the admin.
    pub(super) async fn token(&self) -> String {
        let made = self.http.post("/api/v1/join-tokens", &json!({})).await;
        assert!([200, 201].contains(&made.status), "{}", made.text);
        made.body["secret"].as_str().expect("a secret").to_owned()
    }

    pub(super) async fn order(&self, prefix: &str, slots: u32) -> Order {
        Order {
            id: unique(prefix),
            url: self.http.base().to_owned(),
            token: self.token().await,
            slots,
            of: String::new(),
            mode: "private",
        }
    }

    pub(super) fn start(&self, order: &Order) -> Node {
        Node::start(&self.mesh.launch, order, self.folder.path())
    }

    /// Starts a node and waits until the mesh sees it.
    pub(super) async fn node(&self, prefix: &str, slots: u32) -> Node {
        let node = self.start(&self.order(prefix, slots).await);
        self.until_status(&node.id, "online", 30).await;
        node
    }

    pub(super) async fn status(&self, node: &str) -> Option<String> {
        let answer = self.http.try_get(&format!("/api/v1/nodes/{node}")).await?;
        Some(answer.body["status"].as_str()?.to_owned())
    }

    pub(super) async fn until_status(&self, node: &str, status: &str, seconds: u64) {
        until(seconds, &format!("{node} is {status}"), || async {
            (self.status(node).await.as_deref() == Some(status)).then_some(())
        })
        .await;
    }

    /// An agent whose replicas take one invocation at a time; on nodes with that label `of` only, unless it is empty.
    pub(super) async fn agent(&self, replicas: u32, command: &str, effect: &str, of: &str) -> String {
        let name = unique("agent");
        let selector = if of.is_empty() { json!({}) } else { json!({"of": of}) };
        let placement = json!({"replicas": replicas, "node_selector": selector});
        self.publish(&name, &spec(command, effect, &placement)).await;
        name
    }

    /// Declares it, or changes what is declared, and publishes.
    pub(super) async fn publish(&self, name: &str, spec: &Value) {
        let agent = json!({"metadata": {"name": name}, "spec": spec});
        let path = format!("/api/v1/agents/{name}");
        let put = self.http.request(reqwest::Method::PUT, &path).json(&agent);
        match send(put).await.status {
            200 => {}
            404 => drop(self.http.post("/api/v1/agents", &agent).await.expect(201)),
            status => panic!("{path}: {status}"),
        }
        self.http.post(&format!("{path}/publish"), &json!({})).await.expect(200);
    }

    pub(super) async fn invoke(&self, agent: &str) -> String {
        let body = json!({"payload": {"text": "work"}});
        let accepted = self.http.invoke(agent, "", &body).await;
        assert!([200, 202].contains(&accepted.status), "{}", accepted.text);
        accepted.body["id"].as_str().expect("an id").to_owned()
    }

    pub(super) async fn completed(&self, id: &str) -> Value {
        let ended = self.http.until_ended(id).await;
        assert_eq!(ended["state"], "completed", "{ended}");
        ended
    }

    /// Who claimed it, in order.
    pub(super) async fn holders(&self, id: &str) -> Vec<String> {
        let claims = self.records(id, "claimed").await;
        let holder = |claim: &Value| claim["holder"].as_str().expect("a holder").to_owned();
        claims.iter().map(holder).collect()
    }

    pub(super) async fn records(&self, id: &str, kind: &str) -> Vec<Value> {
        let id: mesh_types::InvocationId = id.parse().expect("an id");
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM execution.record WHERE invocation = $1 AND kind = $2 ORDER BY seq")
                .bind(sqlx::types::Uuid::from_u128(id.as_u128()))
                .bind(kind)
                .fetch_all(&self.pool)
                .await
                .expect("records");
        bodies
            .iter()
            .map(|body| serde_json::from_slice(body).expect("a record"))
            .collect()
    }

    /// The nodes that answer for the agent now: as many invocations at once as it has replicas, each of which takes one.
    pub(super) async fn answering(&self, agent: &str, replicas: usize) -> BTreeSet<String> {
        let asked = futures::future::join_all((0..replicas).map(|_| self.invoke(agent))).await;
        let mut nodes = BTreeSet::new();
        for id in asked {
            self.completed(&id).await;
            nodes.extend(self.holders(&id).await.pop());
        }
        nodes
    }

    /// Every replica of each agent has answered; the nodes by agent.
    pub(super) async fn all_answer(&self, agents: &[String], replicas: usize) -> BTreeMap<String, BTreeSet<String>> {
        let one = |agent: &String| {
            let agent = agent.clone();
            async move {
                let nodes = until(60, &format!("{replicas} replicas of {agent} answer"), || async {
                    let nodes = self.answering(&agent, replicas).await;
                    (nodes.len() == replicas).then_some(nodes)
                })
                .await;
                (agent, nodes)
            }
        };
        futures::future::join_all(agents.iter().map(one))
            .await
            .into_iter()
            .collect()
    }

    pub(super) async fn replicas(&self) -> Vec<Value> {
        let brain = self.http.get("/api/v1/brain/state").await;
        brain["replicas"].as_array().cloned().unwrap_or_default()
    }

    /// Replicas that the reconciler has on that node now.
    pub(super) async fn replicas_on(&self, node: &str) -> Vec<Value> {
        let mut replicas = self.replicas().await;
        replicas.retain(|replica| replica["node"] == node);
        replicas
    }

    /// Lines that the agents' scripts wrote there.
    pub(super) fn lines(&self, ledger: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.file(ledger)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the audit says of refusals, newest first.
    pub(super) async fn refusals(&self) -> Vec<Value> {
        items(&self.http.get("/api/v1/audit?outcome=refused&limit=200").await)
    }
}

/// A script agent that takes one invocation a replica at a time.
pub(super) fn spec(command: &str, effect: &str, placement: &Value) -> Value {
    json!({
        "runtime": "script",
        "script": {"command": ["sh", "-c", command], "effect": effect, "timeout": "120s"},
        "limits": {"concurrency": 1, "timeout": "300s"},
        "placement": placement,
    })
}
