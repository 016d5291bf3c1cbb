//! Credentials at the edge: every route demands one, each kind has its rights, a revoked one ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::{Config, RateConfig};
use mesh_api::identity::{
    AuditEntry, AuditNote, AuditNoted, CredentialVerify, Principal, PrincipalKind, VerifyRequest,
};
use mesh_api::{Caller, Role};
use mesh_bus::ServiceHandle;
use mesh_types::{Code, Problem, Tenant};
use reqwest::{Method, Response};
use serde_json::json;

use crate::support::{Edge, json_of, problem};

const KEY: &str = "X-Service-API-Key";

/// An edge that demands credentials, and who it asks about them.
struct Door {
    edge: Edge,
    known: Arc<Mutex<BTreeMap<String, Principal>>>,
    noted: Arc<Mutex<Vec<(Caller, AuditEntry)>>>,
    _identity: ServiceHandle,
}

impl Door {
    async fn start() -> Self {
        let config = Config {
            require_credentials: true,
            // Guessing ends soon; here it must not.
            rates: RateConfig {
                address_requests: 100_000,
                ..RateConfig::default()
            },
            ..Config::default()
        };
        let edge = Edge::start_with(config).await;
        let principal = |id: &str, kind| Principal {
            role: (kind == PrincipalKind::Key).then_some(Role::Developer),
            scopes: Vec::new(),
            id: id.into(),
            kind,
            owner: "ann".into(),
            tenant: Tenant::default(),
        };
        let known = BTreeMap::from([
            ("key".to_owned(), principal("key_1", PrincipalKind::Key)),
            ("token".to_owned(), principal("jtk_1", PrincipalKind::JoinToken)),
            ("node".to_owned(), principal("kitchen", PrincipalKind::Node)),
        ]);
        let known = Arc::new(Mutex::new(known));
        let noted = Arc::new(Mutex::new(Vec::new()));
        let (asked, notes) = (Arc::clone(&known), Arc::clone(&noted));
        let identity = edge
            .bus
            .service("identity", "0.1.0")
            .endpoint::<CredentialVerify, _, _>(move |_: Caller, request: VerifyRequest| {
                let found = asked.lock().unwrap().get(&request.credential).cloned();
                async move { found.ok_or_else(|| Problem::new(Code::Unauthorized, "no credential of this mesh")) }
            })
            .endpoint::<AuditNote, _, _>(move |caller: Caller, entry: AuditEntry| {
                notes.lock().unwrap().push((caller, entry));
                async move { Ok(AuditNoted {}) }
            })
            .start()
            .await
            .unwrap();
        Self {
            edge,
            known,
            noted,
            _identity: identity,
        }
    }

    async fn get(&self, path: &str, key: &str) -> Response {
        self.edge.get(path).header(KEY, key).send().await.unwrap()
    }

    fn noted(&self) -> Vec<(String, String, String)> {
        let noted = self.noted.lock().unwrap();
        let entries = noted.iter().map(|(_, entry)| entry);
        let entries = entries.map(|entry| (entry.actor.clone(), entry.action.clone(), entry.subject.clone()));
        entries.collect()
    }
}

#[tokio::test]
async fn every_route_of_the_api_demands_a_credential() {
    let door = Door::start().await;
    let document = serde_json::to_value(gateway::openapi()).unwrap();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        for name in item.as_object().unwrap().keys() {
            let Ok(method) = name.to_uppercase().parse::<Method>() else {
                continue;
            };
            if !["get", "post", "put", "patch", "delete"].contains(&name.as_str()) {
                continue;
            }
            let public = json!({});
            if item[name]["security"]
                .as_array()
                .is_some_and(|all| all.contains(&public))
            {
                continue;
            }
            let without = door.edge.request(method.clone(), &path).send().await.unwrap();
            assert_eq!(without.status(), 401, "{method} {path}");
            let wrong = door.edge.request(method.clone(), &path).header(KEY, "guessed");
            assert_eq!(wrong.send().await.unwrap().status(), 401, "{method} {path}");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
    for path in [
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/docs/",
        "/api/v1/openapi.json",
        "/",
    ] {
        let open = door.edge.get(path).send().await.unwrap();
        assert_eq!(open.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_key_is_taken_from_either_header_and_says_who_asks() {
    let door = Door::start().await;
    let listed = json_of(door.get("/api/v1/agents", "key").await).await;
    assert!(listed["items"].is_array());
    let bearer = door.edge.get("/api/v1/agents").bearer_auth("key").send().await.unwrap();
    assert_eq!(bearer.status(), 200);
    let basic = door
        .edge
        .get("/api/v1/agents")
        .basic_auth("ann", Some("key"))
        .send()
        .await
        .unwrap();
    assert_eq!(problem(basic).await["type"], "identity/unauthorized");
    let tenants = json_of(door.get("/api/v1/tenants", "key").await).await;
    assert_eq!(tenants["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_good_in_its_own_tenant_only_however_another_is_named() {
    let door = Door::start().await;
    let header = door
        .edge
        .get("/api/v1/agents")
        .header(KEY, "key")
        .header("Mesh-Tenant", "daarion");
    assert_eq!(
        problem(header.send().await.unwrap()).await["type"],
        "identity/forbidden"
    );
    let own = door
        .edge
        .get("/api/v1/agents")
        .header(KEY, "key")
        .header("Mesh-Tenant", "default");
    assert_eq!(own.send().await.unwrap().status(), 200);
    let agent = json!({"metadata": {"name": "sofia", "tenant": "daarion"}, "spec": {"instructions": "x"}});
    let bodies = [
        ("/api/v1/agents", agent),
        (
            "/internal/agents/agent:sofia/post-to-channel",
            json!({"channel_id": "c1", "text": "x", "microdao_id": "microdao:daarion"}),
        ),
        (
            "/internal/agent-memory/query",
            json!({"agent_id": "agent:sofia", "microdao_id": "microdao:daarion", "query": "x"}),
        ),
        (
            "/internal/agent-memory/store",
            json!({"agent_id": "agent:sofia", "microdao_id": "microdao:daarion", "content": "x"}),
        ),
        (
            "/internal/agent-runtime/test-channel",
            json!({"agent_id": "agent:sofia", "entrypoint": "channel_message",
                "payload": {"channel_id": "c1", "message_id": "m", "microdao_id": "microdao:daarion"}}),
        ),
    ];
    for (path, body) in bodies {
        let response = door.edge.post(path, &body).header(KEY, "key").send().await.unwrap();
        let problem = problem(response).await;
        assert_eq!(problem["type"], "identity/forbidden", "{path} {problem}");
    }
    let channel = "/api/messaging/channels/c1/messages?microdao_id=microdao:daarion";
    assert_eq!(problem(door.get(channel, "key").await).await["status"], 403);
    let noted = door.noted();
    let expected = ("user:ann".to_owned(), "tenant.use".to_owned(), "daarion".to_owned());
    assert_eq!(noted.iter().filter(|one| **one == expected).count(), 7, "{noted:?}");
}

#[tokio::test]
async fn a_token_only_joins_and_a_node_only_speaks_of_itself() {
    let door = Door::start().await;
    for (credential, path) in [
        ("token", "/api/v1/agents"),
        ("token", "/api/v1/keys"),
        ("token", "/api/runtimes/v1/agent-nodes"),
        ("node", "/api/v1/agents"),
        ("node", "/api/v1/audit"),
        ("node", "/api/runtimes/v1/agent-nodes"),
        ("node", "/api/runtimes/v1/agent-nodes/cellar"),
        ("node", "/api/runtimes/v1/agent-nodes/kitchen/tunnel/events"),
    ] {
        let problem = problem(door.get(path, credential).await).await;
        assert_eq!(problem["type"], "identity/forbidden", "{credential} {path}");
    }
    let noted = door.noted();
    assert_eq!(noted.len(), 8);
    assert_eq!(
        noted[0],
        ("join:jtk_1".into(), "http.request".into(), "/api/v1/agents".into())
    );
    assert_eq!(noted[4].0, "node:kitchen");
}

#[tokio::test]
async fn a_revoked_credential_is_refused_within_ten_seconds() {
    let door = Door::start().await;
    assert_eq!(door.get("/api/v1/agents", "key").await.status(), 200);
    door.known.lock().unwrap().clear();
    let refused = || async { door.get("/api/v1/agents", "key").await.status() == 401 };
    mesh_testkit::wait_until(Duration::from_secs(30), refused).await;
}

#[tokio::test]
async fn an_edge_that_cannot_ask_lets_nobody_in() {
    let config = Config {
        require_credentials: true,
        ..Config::default()
    };
    let edge = Edge::start_with(config).await;
    let response = edge.get("/api/v1/agents").header(KEY, "key").send().await.unwrap();
    assert_eq!(problem(response).await["status"], 503);
}
