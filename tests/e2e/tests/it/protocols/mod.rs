//! The protocols of others, spoken by their official clients, unmodified: OpenAI's, A2A, MCP, AG-UI. The clients' own
//! scripts are in `tests/clients`; each checks what it gets, and says `ok` for every check.

pub(crate) mod clients;
mod pushes;
mod rust;

use clients::Script;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{Http, Mesh, send, unique, until};

/// A mesh that demands credentials, with one agent for each part that the scripts need.
struct Stage {
    mesh: Mesh,
    key: String,
    agents: Vec<(&'static str, String)>,
}

/// Parts, and the model that plays each.
const PARTS: [(&str, &str); 6] = [
    ("echo", "mock:script:echo"),
    ("tools", "mock:script:tools"),
    ("stream", "mock:script:stream"),
    ("slow", "mock:script:slow"),
    ("flaky", "mock:script:flaky"),
    ("fail", "mock:script:fail"),
];

impl Stage {
    async fn shared() -> &'static Self {
        static SHARED: OnceCell<Stage> = OnceCell::const_new();
        SHARED.get_or_init(Self::up).await
    }

    async fn up() -> Self {
        let mesh = Mesh::up_with(&[
            ("MESH_REQUIRE_CREDENTIALS", "1".to_owned()),
            ("MESH_GATEWAY__PUSH_PRIVATE_NETWORKS", "loopback".to_owned()),
        ])
        .await;
        let key = mesh.admin_key();
        let http = mesh.http().key(&key);
        let mut agents = Vec::new();
        for (part, model) in PARTS {
            let name = unique(part);
            declare(&http, &name, model).await;
            agents.push((part, name));
        }
        let stage = Self { mesh, key, agents };
        stage.teach(&http).await;
        stage
    }

    /// A document and a memory to be read.
    async fn teach(&self, http: &Http) {
        let document = json!({"name": "rain.md", "text": "Whoever walks in the rain takes an umbrella."});
        let added = http.request(reqwest::Method::POST, "/api/v1/knowledge/weather/documents");
        let added = send(added.json(&document)).await;
        assert!(added.status < 300, "{added:?}");
        let memory = json!({"agent": self.agents[0].1, "type": "semantic", "content": "The user likes rain."});
        let stored = send(http.request(reqwest::Method::POST, "/api/v1/memories").json(&memory)).await;
        assert!(stored.status < 300, "{stored:?}");
    }

    fn python(&self, script: &'static str) -> Script {
        self.prepared(Script::python(script))
    }

    fn javascript(&self, script: &'static str) -> Script {
        self.prepared(Script::javascript(script))
    }

    fn prepared(&self, script: Script) -> Script {
        let http = self.mesh.http();
        let script = script.set("MESH_TEST_URL", http.base()).set("MESH_TEST_KEY", &self.key);
        self.agents.iter().fold(script, |script, (part, name)| {
            script.set(&format!("MESH_TEST_AGENT_{}", part.to_uppercase()), name)
        })
    }
}

async fn declare(http: &Http, name: &str, model: &str) {
    let agent = json!({"apiVersion": "mesh/v1", "kind": "Agent", "metadata": {"name": name},
        "spec": {"instructions": "You play a part.", "model": {"name": model},
            "memory": {"query_top_k": 0, "writeback": false}, "retry": {"attempts": 2}}});
    let made = send(http.request(reqwest::Method::POST, "/api/v1/agents").json(&agent)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let path = format!("/api/v1/agents/{name}/publish");
    let published = send(http.request(reqwest::Method::POST, &path)).await;
    assert!(published.status < 300, "{published:?}");
    // The pointer is on its way to who accepts.
    until(30, "the agent takes work", || async {
        let answer = http.try_get(&format!("/v1/models/{name}")).await?;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn openais_python_client_speaks_to_agents() {
    let script = Stage::shared().await.python("openai_chat");
    script.passes(8).await;
}

#[tokio::test]
async fn openais_javascript_client_speaks_to_agents() {
    let script = Stage::shared().await.javascript("openai_chat");
    script.passes(6).await;
}

#[tokio::test]
async fn the_mcp_client_calls_agents_and_reads_what_they_know() {
    let script = Stage::shared().await.python("mcp_agents");
    script.passes(4).await;
}

#[tokio::test]
async fn the_a2a_client_gives_tasks_and_is_told_of_them() {
    let script = Stage::shared().await.python("a2a_tasks");
    script.passes(7).await;
}

#[tokio::test]
async fn ag_uis_types_read_every_event() {
    let script = Stage::shared().await.python("ag_ui_run");
    script.passes(4).await;
}

#[tokio::test]
async fn ag_uis_client_shows_runs() {
    let script = Stage::shared().await.javascript("ag_ui_run");
    script.passes(4).await;
}

#[tokio::test]
async fn errors_have_the_shape_of_their_protocol() {
    let stage = Stage::shared().await;
    let (http, stranger) = (stage.mesh.http().key(&stage.key), stage.mesh.http());
    let refused = stranger.try_get("/v1/models").await.expect("an answer");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.body["error"]["code"], "invalid_api_key", "{refused:?}");
    let path = format!("/a2a/{}", stage.agents[0].1);
    let call = |method: &str| json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": {}});
    let answer = |body: Value, version: &'static str| {
        let request = http
            .request(reqwest::Method::POST, &path)
            .header("A2A-Version", version);
        async move { send(request.json(&body)).await.expect(200) }
    };
    let unknown = answer(call("Nothing"), "1.0").await;
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(7), &json!(-32601)));
    let old = answer(call("GetTask"), "0.3").await;
    assert_eq!(old["error"]["code"], -32009, "{old}");
    let listed = http.get("/.well-known/agent-card.json").await;
    let skills = listed["skills"].as_array().expect("skills");
    assert!(
        skills.iter().any(|skill| skill["id"] == stage.agents[0].1.as_str()),
        "{listed}"
    );
}
