//! What lies in a mesh that is backed up, and what must be the same afterwards.

use std::cell::RefCell;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Http, Mesh, items, send, unique, until};

/// Longer than a backup, a stop and a restore take together is not needed: its time may come meanwhile.
const SLEEP_SECONDS: u64 = 20;

/// Credentials are demanded, so that keys and the key of the home are part of the story.
pub(super) fn environment() -> Vec<(&'static str, String)> {
    vec![("MESH_REQUIRE_CREDENTIALS", "1".to_owned())]
}

pub(super) struct World {
    /// An API key of before.
    pub(super) key: String,
    pub(super) echo: String,
    pub(super) paused: String,
    pub(super) nobody: String,
    pub(super) marker: String,
    pub(super) sleeping: String,
    pub(super) listening: String,
    pub(super) asking: String,
    pub(super) held: String,
    /// What a search found, with its scores.
    found: Vec<Value>,
    /// Paths of the API and what they answered.
    seen: Vec<(String, Value)>,
}

fn llm(model: &str, tools: Value) -> Value {
    json!({"model": {"name": model}, "tools": tools, "memory": {"query_top_k": 0, "writeback": false}})
}

async fn declare(http: &Http, prefix: &str, spec: Value) -> String {
    let name = unique(prefix);
    let agent = json!({"metadata": {"name": name}, "spec": spec});
    http.post("/api/v1/agents", &agent).await.expect(201);
    let publish = format!("/api/v1/agents/{name}/publish");
    http.post(&publish, &json!({})).await.expect(200);
    name
}

async fn start(http: &Http, agent: &str, text: &str, session: Option<&str>) -> String {
    let mut body = json!({"payload": {"text": text}});
    if let Some(session) = session {
        body["session"] = json!(session);
    }
    let accepted = http.invoke(agent, "", &body).await.expect(202);
    accepted["id"].as_str().expect("an id").to_owned()
}

/// As the services' user: the URL's password is for us to hand over.
pub(super) async fn nats_of(mesh: &Mesh) -> async_nats::Client {
    let url = mesh.state().nats;
    let (user, place) = url
        .trim_start_matches("nats://")
        .rsplit_once('@')
        .expect("it has a user");
    let (name, password) = user.split_once(':').expect("a password");
    let options = async_nats::ConnectOptions::with_user_and_password(name.into(), password.into())
        // It hears answers below its own name only.
        .custom_inbox_prefix(format!("_INBOX.{name}"));
    options.connect(place).await.expect("NATS takes connections")
}

async fn until_state(http: &Http, id: &str, state: &str) {
    let path = format!("/api/v1/invocations/{id}");
    until(60, &format!("{id} is {state}"), || async {
        (http.get(&path).await["state"] == state).then_some(())
    })
    .await;
}

/// Content and score of each memory that answers a question, best first.
async fn found(http: &Http, agent: &str) -> Vec<Value> {
    let question = json!({"agent": agent, "query": "what does Ann drink?"});
    let reply = http.post("/api/v1/memories/search", &question).await.expect(200);
    let told = |hit: &Value| json!([hit["memory"]["content"], hit["score"]]);
    items(&reply).iter().map(told).collect()
}

async fn second_version(http: &Http, agent: &str) {
    let path = format!("/api/v1/agents/{agent}");
    let mut declared = http.get(&path).await;
    declared["spec"]["instructions"] = json!("Be brief.");
    let body = json!({"metadata": {"name": agent}, "spec": declared["spec"]});
    send(http.request(Method::PUT, &path).json(&body)).await.expect(200);
    http.post(&format!("{path}/publish"), &json!({})).await.expect(200);
}

impl World {
    pub(super) async fn build(mesh: &Mesh) -> Self {
        let key = mesh.admin_key();
        let http = mesh.http().key(&key);
        let echo = declare(&http, "echo", llm("mock", json!([]))).await;
        let failing = declare(&http, "failing", llm("mock:script:fail", json!([]))).await;
        let tools = "mock:script:tools";
        let sleeper = declare(&http, "sleeper", llm(tools, json!(["sleep"]))).await;
        let listener = declare(&http, "listener", llm(tools, json!(["wait_signal"]))).await;
        let refund =
            json!([{"name": "refund", "kind": "http", "url": "http://127.0.0.1:9/refund", "approval": "always"}]);
        let cashier = declare(&http, "cashier", llm(tools, refund)).await;
        let paused = declare(&http, "paused", llm("mock", json!([]))).await;
        http.post(
            &format!("/api/v1/agents/{paused}/pause"),
            &json!({"reason": "too dear"}),
        )
        .await
        .expect(200);
        second_version(&http, &echo).await;

        let mut ended = Vec::new();
        for text in ["one", "two"] {
            ended.push(start(&http, &echo, text, Some("tea")).await);
        }
        ended.push(start(&http, &failing, "x", None).await);
        for id in &ended {
            http.until_ended(id).await;
        }
        let listening = start(&http, &listener, r#"{"name": "paid"}"#, None).await;
        let asking = start(&http, &cashier, r#"{"amount": 12}"#, None).await;
        until_state(&http, &listening, "waiting").await;
        until_state(&http, &asking, "waiting").await;
        let held = start(&http, &paused, "held", None).await;
        let nobody = Self::bury(mesh, &http).await;
        let mut seen = ended;
        seen = seen
            .iter()
            .flat_map(|id| {
                [
                    format!("/api/v1/invocations/{id}"),
                    format!("/api/v1/invocations/{id}/steps"),
                ]
            })
            .collect();
        seen.extend(Self::remember(&http, &echo).await);
        seen.push(format!("/api/v1/agents/{echo}"));
        seen.push(format!("/api/v1/agents/{echo}/versions"));
        let mut told = Vec::new();
        for path in seen {
            let answer = http.get(&path).await;
            told.push((path, answer));
        }
        let found = found(&http, &echo).await;
        assert_eq!(found.len(), 3, "{found:?}");
        let sleeping = start(&http, &sleeper, &format!(r#"{{"seconds": {SLEEP_SECONDS}}}"#), None).await;
        until_state(&http, &sleeping, "waiting").await;
        Self {
            key,
            echo,
            paused,
            nobody,
            marker: unique("pending"),
            sleeping,
            listening,
            asking,
            held,
            found,
            seen: told,
        }
    }

    /// A message to an agent that there is not becomes a dead letter.
    async fn bury(mesh: &Mesh, http: &Http) -> String {
        let nobody = unique("nobody");
        let nats = nats_of(mesh).await;
        let subject = format!("mesh.invoke.default.{nobody}");
        nats.request(subject, r#"{"text":"lost"}"#.into())
            .await
            .expect("it is accepted");
        until(60, "it is a dead letter", || async {
            let letters = items(&http.get("/api/v1/dead-letters").await);
            letters
                .iter()
                .any(|one| one.to_string().contains(&nobody))
                .then_some(())
        })
        .await;
        nobody
    }

    /// Memories, a document, a channel, people: paths that must answer the same.
    async fn remember(http: &Http, agent: &str) -> Vec<String> {
        for content in [
            "Ann takes her tea with milk.",
            "The door is red.",
            "Ben plays chess on Sundays.",
        ] {
            let memory = json!({"agent": agent, "type": "semantic", "content": content});
            http.post("/api/v1/memories", &memory).await.expect(201);
        }
        let channel = unique("room");
        let messages = format!("/api/v1/channels/{channel}/messages");
        http.post(&messages, &json!({"text": "hi"})).await.expect(201);
        let person = json!({"login": unique("ann"), "role": "viewer", "password": "correct horse battery staple"});
        http.post("/api/v1/users", &person).await.expect(201);
        until(60, "the memories are embedded", || async {
            let status = http.get("/api/v1/memories/embedding").await;
            (status["waiting"] == 0 || status["available"] == false).then_some(())
        })
        .await;
        vec![messages, "/api/v1/users".to_owned()]
    }

    /// A backup while invocations keep coming; what it says, and those that were accepted before it began.
    pub(super) async fn back_up_under_load(&self, mesh: &Mesh, file: &str) -> (Value, Vec<String>) {
        let http = mesh.http().key(&self.key);
        let accepted = RefCell::new(Vec::new());
        let load = async {
            loop {
                let id = start(&http, &self.echo, "load", None).await;
                accepted.borrow_mut().push(id);
            }
        };
        let backup = async {
            until(60, "load is there", || async {
                (accepted.borrow().len() >= 20).then_some(())
            })
            .await;
            let before = accepted.borrow().clone();
            let told = mesh.cli(&["backup", "--to", file, "--json"]).await.json();
            (told, before)
        };
        tokio::select! {
            told = backup => told,
            () = load => unreachable!("it goes on"),
        }
    }

    pub(super) async fn compare(&self, http: &Http) {
        for (path, before) in &self.seen {
            let after = http.get(path).await;
            assert_eq!(&after, before, "{path}");
        }
        assert_eq!(found(http, &self.echo).await, self.found);
    }
}
