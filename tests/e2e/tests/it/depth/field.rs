//! A mesh with the world outside of it, and the words in which the tests speak of both.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::outside::Outside;
use super::scripts::scripts;
use crate::harness::{Http, Mesh, Ran, items, send, unique, until};

pub(super) struct Field {
    pub(super) mesh: Mesh,
    pub(super) outside: Arc<Outside>,
}

impl Field {
    /// That of all tests which leave others alone, started by the first of them.
    pub(super) async fn shared() -> &'static Self {
        static SHARED: OnceCell<Field> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Self::up().await }).await
    }

    pub(super) async fn up() -> Self {
        let outside = Arc::new(Outside::start());
        let mesh = Mesh::up_with(&[
            ("MESH_INFERENCE__MOCK_SCRIPTS", scripts().to_string()),
            ("OPENAI_BASE_URL", outside.url("v1")),
            // 11 dollars for what script `counted` says in one turn.
            (
                "MESH_INFERENCE__PRICES",
                r#"{"mock:script:counted": {"input": 100000, "output": 100000}}"#.to_owned(),
            ),
        ])
        .await;
        Self { mesh, outside }
    }

    pub(super) fn http(&self) -> Http {
        self.mesh.http()
    }

    /// Declares and publishes an agent of a name that nobody else has, and answers the name.
    pub(super) async fn agent(&self, prefix: &str, spec: Value) -> String {
        let name = unique(prefix);
        declare(&self.http(), &name, spec).await;
        name
    }

    /// A tool of kind `http` at a place of its own name outside.
    pub(super) fn http_tool(&self, name: &str, place: &str, more: Value) -> Value {
        let tool = json!({"name": name, "kind": "http", "url": self.outside.url(&format!("tool/{place}"))});
        super::agents::with(tool, more)
    }

    /// Invokes it with a text and waits for the end.
    pub(super) async fn ask(&self, agent: &str, text: &str) -> Value {
        let body = json!({"payload": {"text": text}});
        self.http().invoke(agent, "?wait=40", &body).await.expect(200)
    }

    /// Invokes it with JSON as its text and does not wait; its id.
    pub(super) async fn start(&self, agent: &str, body: &Value) -> String {
        let accepted = self.http().invoke(agent, "", body).await.expect(202);
        accepted["id"].as_str().expect("an id").to_owned()
    }

    pub(super) async fn get(&self, id: &str) -> Value {
        self.http().get(&format!("/api/v1/invocations/{id}")).await
    }

    /// The invocation, once it is in that state.
    pub(super) async fn until_state(&self, id: &str, state: &str) -> Value {
        until(30, &format!("{id} is {state}"), || async {
            let path = format!("/api/v1/invocations/{id}");
            let answer = self.http().try_get(&path).await.filter(|answer| answer.status == 200)?;
            (answer.body["state"] == state).then_some(answer.body)
        })
        .await
    }

    /// Its children, oldest first, once there are so many.
    pub(super) async fn children(&self, parent: &str, count: usize) -> Vec<Value> {
        until(30, &format!("{parent} has {count} children"), || async {
            let path = format!("/api/v1/invocations?parent={parent}");
            let mut children = items(&self.http().get(&path).await);
            children.reverse();
            (children.len() >= count).then_some(children)
        })
        .await
    }

    /// What waits for a person in that invocation, once something does.
    pub(super) async fn approval(&self, id: &str) -> Value {
        until(30, &format!("{id} waits for a person"), || async {
            let approvals = items(&self.http().get("/api/v1/approvals").await);
            approvals.into_iter().find(|one| one["invocation"] == id)
        })
        .await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Value {
        self.http().post(path, body).await.expect(200)
    }

    /// Runs a command, which must succeed, and answers what it printed.
    pub(super) async fn cli(&self, arguments: &[&str]) -> Ran {
        let ran = self.mesh.cli(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        ran
    }
}

pub(super) async fn declare(http: &Http, name: &str, spec: Value) {
    let agent = json!({"metadata": {"name": name}, "spec": spec});
    http.post("/api/v1/agents", &agent).await.expect(201);
    let publish = http.request(reqwest::Method::POST, &format!("/api/v1/agents/{name}/publish"));
    send(publish.json(&json!({})).timeout(Duration::from_secs(20)))
        .await
        .expect(200);
}

/// What an `llm` agent answered.
#[track_caller]
pub(super) fn text(invocation: &Value) -> &str {
    assert_eq!(invocation["state"], "completed", "{invocation}");
    invocation["output"]["text"].as_str().expect("a text")
}

/// The steps of that kind.
pub(super) fn of_kind<'a>(steps: &'a [Value], kind: &str) -> Vec<&'a Value> {
    steps.iter().filter(|step| step["kind"] == kind).collect()
}
