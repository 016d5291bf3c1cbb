//! The local API over real HTTP.

mod chat;
mod opening;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_runtime::{Context, Secret};
use mesh_types::Code;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::keys::Key;
use super::testing::{FakeCentre, FakeNode, context, models};
use super::*;
use crate::chat::Chat;
use crate::models::{InferenceConfig, Provider};

struct World {
    node: Arc<FakeNode>,
    centre: Arc<FakeCentre>,
    context: Context,
    address: SocketAddr,
    folder: tempfile::TempDir,
    http: Client,
}

impl World {
    async fn start(node: Arc<FakeNode>, inference: InferenceConfig) -> Self {
        let context = context(None).await;
        let folder = tempfile::tempdir().unwrap();
        let centre = Arc::new(FakeCentre::default());
        let models = models(&inference, folder.path(), centre.clone());
        let settings: Arc<dyn Settings> = node.clone();
        let parts = Parts {
            chat: Arc::new(Chat::new(models.clone(), settings.clone())),
            settings,
            models,
            centre: centre.clone(),
            folder: folder.path().to_owned(),
        };
        let address = start((std::net::Ipv4Addr::LOCALHOST, 0).into(), parts, &context)
            .await
            .unwrap();
        Self {
            node,
            centre,
            context,
            address,
            folder,
            http: Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn development() -> Self {
        Self::start(FakeNode::new(Access::Development), InferenceConfig::default()).await
    }

    fn local_key(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("local-key")).unwrap()
    }

    fn plain(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    fn keyed(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.plain(method, path).bearer_auth(key)
    }

    async fn status_with(&self, key: &str) -> u16 {
        let answer = self.keyed(Method::GET, "/api/v1/status", key).send().await.unwrap();
        answer.status().as_u16()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

async fn problem(response: Response, status: u16, kind: &str) -> Value {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["type"], kind, "{problem}");
    problem
}

#[tokio::test]
async fn without_a_key_there_is_health_and_the_page_and_nothing_else() {
    let world = World::development().await;
    let health: Value = world
        .plain(Method::GET, "/health")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&health["status"], &health["service"]), (&json!("ok"), &json!("node")));
    for asset in ["/", "/page.js", "/api.js", "/chat.js", "/page.css"] {
        let answer = world.plain(Method::GET, asset).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{asset}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'"), "{policy}");
    }
    for (method, path) in [
        (Method::GET, "/api/v1/agent-node/configuration"),
        (Method::POST, "/api/v1/agent-node/configuration"),
        (Method::GET, "/api/v1/configure/inference/provider"),
        (Method::PUT, "/api/v1/configure/inference/provider"),
        (Method::GET, "/api/v1/configure/inference/models"),
        (Method::GET, "/api/v1/status"),
        (Method::POST, "/api/v1/chat"),
    ] {
        let answer = world.plain(method, path).json(&json!({})).send().await.unwrap();
        problem(answer, 401, "identity/unauthorized").await;
    }
    let session: Value = world
        .plain(Method::GET, "/api/v1/session")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(session, json!({"signed_in": false}));
    let key = world.local_key();
    assert_eq!(world.status_with(&key).await, 200);
    assert_eq!(world.status_with("mlk_wrong").await, 401);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &world.folder.path().join("local-key").metadata().unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_is_turned_into_a_cookie_that_ends_with_signing_out() {
    let world = World::development().await;
    let key = world.local_key();
    let wrong = world
        .plain(Method::POST, "/api/v1/session")
        .json(&json!({"key": "mlk_x"}));
    problem(wrong.send().await.unwrap(), 401, "identity/unauthorized").await;
    let signed = world.plain(Method::POST, "/api/v1/session").json(&json!({"key": key}));
    let signed = signed.send().await.unwrap();
    let cookie = signed.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(!cookie.contains(&key));
    let pair = cookie.split(';').next().unwrap().to_owned();
    let with = |method, path| world.plain(method, path).header("cookie", pair.clone());
    let session: Value = with(Method::GET, "/api/v1/session")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(session, json!({"signed_in": true}));
    assert_eq!(with(Method::GET, "/api/v1/status").send().await.unwrap().status(), 200);
    with(Method::DELETE, "/api/v1/session").send().await.unwrap();
    assert_eq!(with(Method::GET, "/api/v1/status").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn other_pages_and_other_names_are_refused() {
    let world = World::development().await;
    let key = world.local_key();
    let port = world.address.port();
    let ask = || world.keyed(Method::GET, "/api/v1/status", &key);
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "127.0.0.1".to_owned(),
        "127.0.0.1:1".to_owned(),
    ] {
        problem(
            ask().header("host", &host).send().await.unwrap(),
            403,
            "identity/forbidden",
        )
        .await;
    }
    for origin in ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"] {
        problem(
            ask().header("origin", origin).send().await.unwrap(),
            403,
            "identity/forbidden",
        )
        .await;
    }
    let own = ask().header("origin", format!("http://127.0.0.1:{port}"));
    assert_eq!(own.send().await.unwrap().status(), 200);
    let named = ask().header("host", format!("localhost:{port}"));
    assert_eq!(named.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_nodes_id_is_never_overwritten_and_only_what_is_given_changes() {
    let world = World::development().await;
    let key = world.local_key();
    let path = "/api/v1/agent-node/configuration";
    let wanted = json!({"mode": "shared", "node_uid": "other", "billable_account_handle": "ann",
                        "sharing": {"users": ["bob"]}, "status": "whatever a record says"});
    let changed: Value = world
        .keyed(Method::POST, path, &key)
        .json(&wanted)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&changed["node_uid"], &changed["mode"]),
        (&json!("kitchen"), &json!("shared"))
    );
    let again = json!({"billable_account_type": "user"});
    world.keyed(Method::POST, path, &key).json(&again).send().await.unwrap();
    let known: Value = world
        .keyed(Method::GET, path, &key)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(known["mode"], "shared");
    assert_eq!(known["billable_account_handle"], "ann");
    assert_eq!(known["billable_account_type"], "user");
    assert_eq!(known["sharing"]["users"], json!(["bob"]));
    let wrong = world.keyed(Method::POST, path, &key).json(&json!({"mode": "open"}));
    problem(wrong.send().await.unwrap(), 400, "mesh/invalid-request").await;
    let torn = world.keyed(Method::POST, path, &key).body("{");
    problem(torn.send().await.unwrap(), 400, "mesh/malformed-json").await;
    let large = world
        .keyed(Method::POST, path, &key)
        .body(" ".repeat(BODY_BYTES_MAX + 1));
    problem(large.send().await.unwrap(), 413, "mesh/body-too-large").await;
    problem(
        world.keyed(Method::GET, "/api/v1/nothing", &key).send().await.unwrap(),
        404,
        "mesh/route-not-found",
    )
    .await;
    problem(
        world.keyed(Method::PATCH, path, &key).send().await.unwrap(),
        405,
        "mesh/method-not-allowed",
    )
    .await;
}

#[tokio::test]
async fn the_provider_is_chosen_unless_the_environment_fixed_it() {
    let world = World::development().await;
    let key = world.local_key();
    let path = "/api/v1/configure/inference/provider";
    let put = |world: &World, provider: &str| {
        let key = world.local_key();
        world
            .keyed(Method::PUT, path, &key)
            .json(&json!({"provider": provider}))
    };
    let chosen: Value = put(&world, "local").send().await.unwrap().json().await.unwrap();
    assert_eq!(chosen["provider"], "local");
    let models = world.keyed(Method::GET, "/api/v1/configure/inference/models", &key);
    let models: Value = models.send().await.unwrap().json().await.unwrap();
    assert_eq!(models["items"], json!([]));
    let chosen: Value = put(&world, "datalayer").send().await.unwrap().json().await.unwrap();
    assert_eq!(chosen["provider"], "mesh");
    problem(put(&world, "openai").send().await.unwrap(), 400, "mesh/invalid-request").await;
    let fixed = InferenceConfig {
        provider_override: Some(Provider::Mesh),
        ..InferenceConfig::default()
    };
    let world = World::start(FakeNode::new(Access::Development), fixed).await;
    problem(
        put(&world, "local").send().await.unwrap(),
        409,
        "node/configuration-fixed",
    )
    .await;
}

#[tokio::test]
async fn an_owned_node_opens_to_what_it_joined_with_and_to_its_owners_keys() {
    let world = World::start(FakeNode::of_ann(Some("mjt_joined")), InferenceConfig::default()).await;
    assert!(!world.folder.path().join("local-key").exists());
    assert_eq!(world.status_with("mjt_joined").await, 200);
    assert_eq!(world.status_with("mak_ann").await, 200);
    let asked = world.centre.verified.load(Ordering::Relaxed);
    assert_eq!(world.status_with("mak_ann").await, 200);
    assert_eq!(
        world.centre.verified.load(Ordering::Relaxed),
        asked,
        "believed for a while"
    );
    assert_eq!(world.status_with("mak_bob").await, 401, "somebody else's key");
    let kept = std::fs::read_to_string(world.folder.path().join("joined-with")).unwrap();
    assert!(!kept.contains("mjt_joined"));
    *world.centre.is_reached.lock().unwrap() = false;
    assert_eq!(world.status_with("mak_ann").await, 200);
    let unknown = world
        .keyed(Method::GET, "/api/v1/status", "mak_other")
        .send()
        .await
        .unwrap();
    problem(unknown, 503, "mesh/unavailable").await;
    *world.centre.is_reached.lock().unwrap() = true;
    for number in 0..20 {
        world.status_with(&format!("mak_guess{number}")).await;
    }
    let tired = world
        .keyed(Method::GET, "/api/v1/status", "mak_guess")
        .send()
        .await
        .unwrap();
    assert!(tired.headers().contains_key("retry-after"));
    problem(tired, 429, "identity/too-many-attempts").await;
    assert_eq!(
        world.status_with("mjt_joined").await,
        200,
        "who is known is not locked out"
    );
}

#[tokio::test]
async fn a_restart_still_knows_what_the_node_joined_with_and_what_the_mesh_said_of_it() {
    let first = World::start(FakeNode::of_ann(Some("mjt_joined")), InferenceConfig::default()).await;
    let context = context(None).await;
    let node = FakeNode::of_ann(None);
    let restarted = || Keys::new(first.folder.path(), node.as_ref(), first.centre.clone(), &context);
    let keys = restarted().await;
    assert!(keys.opens("mjt_joined", node.as_ref()).await.is_ok());
    for other in ["mjt_other", "mjt_another"] {
        assert!(keys.opens(other, node.as_ref()).await.is_err(), "{other}");
    }
    // Without a mesh its last word counts, over a start as well.
    let reach = |is_reached: bool| *first.centre.is_reached.lock().unwrap() = is_reached;
    reach(false);
    assert!(restarted().await.opens("mjt_joined", node.as_ref()).await.is_ok());
    reach(true);
    first.centre.keys.lock().unwrap().remove("mjt_joined");
    let refused = restarted().await.opens("mjt_joined", node.as_ref()).await.unwrap_err();
    assert!(refused.is(Code::Unauthorized) && refused.next.is_some(), "{refused:?}");
    reach(false);
    let unknown = restarted().await.opens("mjt_joined", node.as_ref()).await.unwrap_err();
    assert!(unknown.is(Code::Unavailable), "{unknown:?}");
    // A day after its last word the mesh has to be asked.
    let kept = first.folder.path().join("joined-with");
    let text = std::fs::read_to_string(&kept).unwrap();
    let hash = text.split(' ').next().unwrap();
    let hours_ago = |hours: u64| context.clock.now().as_millis() - hours * 3_600_000;
    for (hours, opens) in [(23, true), (25, false)] {
        std::fs::write(&kept, format!("{hash} {}", hours_ago(hours))).unwrap();
        let opened = restarted().await.opens("mjt_joined", node.as_ref()).await;
        assert_eq!(opened.is_ok(), opens, "{hours} h");
    }
}

#[tokio::test]
async fn a_revoked_join_token_ends_what_it_opened() {
    let world = World::start(FakeNode::of_ann(Some("mjt_joined")), InferenceConfig::default()).await;
    let session = world.plain(Method::POST, "/api/v1/session");
    let signed = session.json(&json!({"key": "mjt_joined"})).send().await.unwrap();
    assert_eq!(signed.status(), 204);
    world.centre.keys.lock().unwrap().remove("mjt_joined");
    let node = FakeNode::of_ann(None);
    let folder = world.folder.path();
    let keys = Keys::new(folder, node.as_ref(), world.centre.clone(), &world.context).await;
    let key = Key::OfMesh(Secret::from("mjt_joined"));
    assert!(keys.still_opens(&key, node.as_ref()).await.is_err());
}
