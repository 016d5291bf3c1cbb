//! Receivers of A2A pushes: kept sealed, shown without secrets, with facts of the audit, so many of a tenant and no more.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use gateway::Config;
use mesh_bus::Bucket;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::guarded::Guarded;
use crate::made::{at, the_invocation};

const KEY: &str = "default_ann";
const SECRETS: [&str; 3] = ["the-token", "the-credentials", "the-query"];

type Told = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

async fn guarded() -> Guarded {
    let guarded = Guarded::start(Config {
        push_private_networks: vec!["loopback".into()],
        ..Config::default()
    })
    .await;
    guarded.edge.commit(&crate::facts::journal()[..2]);
    guarded
}

impl Guarded {
    /// A JSON-RPC call of the protocol; its response.
    async fn a2a(&self, method: &str, params: Value) -> Value {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.post(KEY, "/a2a/sofia", &call).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    async fn kept(&self) -> Vec<String> {
        let kept = self.edge.bus.kv_list(Bucket::Pushes).await.unwrap();
        let texts = kept.into_iter().filter_map(|kept| kept.value);
        texts.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    fn noted(&self) -> Vec<Value> {
        let noted = self.noted.lock().unwrap();
        noted.iter().map(|(_, entry)| json!(entry)).collect()
    }
}

/// A receiver that is told, until it is dropped; its URL.
async fn receiver(told: &Told) -> (String, JoinSet<()>) {
    let take = |State(told): State<Told>, headers: HeaderMap, axum::Json(body): axum::Json<Value>| async move {
        told.lock().unwrap().push((headers, body));
    };
    let app = axum::Router::new()
        .route("/told", post(take))
        .with_state(Arc::clone(told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/told?key=the-query", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, serving)
}

fn config(id: &str, url: &str) -> Value {
    json!({"taskId": the_invocation(), "id": id, "url": url, "token": "the-token",
        "authentication": {"scheme": "Bearer", "credentials": "the-credentials"}})
}

#[tokio::test]
async fn a_receiver_is_kept_sealed_shown_without_secrets_and_told_with_them() {
    let guarded = guarded().await;
    let told = Told::default();
    let (url, _serving) = receiver(&told).await;
    let made = guarded
        .a2a("CreateTaskPushNotificationConfig", config("one", &url))
        .await;
    assert_eq!(made["result"]["id"], "one", "{made}");
    let kept = guarded.kept().await;
    assert_eq!(kept.len(), 1);
    assert!(!SECRETS.iter().any(|secret| kept[0].contains(secret)), "{kept:?}");
    assert!(!kept[0].contains("127.0.0.1"), "{kept:?}");

    let named = json!({"taskId": the_invocation(), "id": "one"});
    let shown = guarded.a2a("GetTaskPushNotificationConfig", named.clone()).await;
    let listed = guarded
        .a2a("ListTaskPushNotificationConfigs", json!({"taskId": the_invocation()}))
        .await;
    for shown in [&shown["result"], &listed["result"]["configs"][0]] {
        assert_eq!(
            (&shown["url"], &shown["authentication"]["scheme"]),
            (&json!(url), &json!("Bearer"))
        );
        assert!(
            shown["token"].is_null() && shown["authentication"]["credentials"].is_null(),
            "{shown}"
        );
    }

    let journal = crate::facts::journal();
    guarded.edge.commit(&journal[2..]);
    guarded.edge.relay(&journal[2..]).await;
    let is_told = || async { told.lock().unwrap().iter().any(|(_, body)| body["task"].is_object()) };
    mesh_testkit::wait_until(Duration::from_secs(30), is_told).await;
    let (headers, last) = told.lock().unwrap().last().cloned().unwrap();
    assert_eq!(headers["x-a2a-notification-token"], "the-token");
    assert_eq!(headers["authorization"], "Bearer the-credentials");
    assert_eq!(last["task"]["status"]["state"], "TASK_STATE_COMPLETED");
    let is_gone = || async { guarded.kept().await.is_empty() };
    mesh_testkit::wait_until(Duration::from_secs(30), is_gone).await;
}

#[tokio::test]
async fn who_made_and_who_deleted_a_receiver_stands_in_the_audit() {
    let guarded = guarded().await;
    let url = "http://127.0.0.1:9/told?key=the-query";
    guarded
        .a2a("CreateTaskPushNotificationConfig", config("one", url))
        .await;
    let named = json!({"taskId": the_invocation(), "id": "one"});
    guarded.a2a("DeleteTaskPushNotificationConfig", named).await;
    assert!(guarded.kept().await.is_empty());
    let noted = guarded.noted();
    let facts: Vec<(&Value, &Value)> = noted
        .iter()
        .map(|entry| (&entry["action"], &entry["outcome"]))
        .collect();
    assert_eq!(
        facts,
        [
            (&json!("push.create"), &json!("done")),
            (&json!("push.delete"), &json!("done"))
        ]
    );
    assert_eq!(noted[0]["actor"], "user:ann");
    assert_eq!(noted[0]["subject"], format!("{}/one", the_invocation()));
    assert_eq!(
        noted[0]["after"],
        json!({"receiver": "http://127.0.0.1:9/told", "scheme": "Bearer"})
    );

    guarded.is_audit_away.store(true, Ordering::SeqCst);
    let refused = guarded
        .a2a("CreateTaskPushNotificationConfig", config("two", url))
        .await;
    assert_eq!(refused["error"]["code"], -32603, "{refused}");
    assert!(guarded.kept().await.is_empty(), "no write without its fact");
}

#[tokio::test]
async fn a_tenant_has_so_many_receivers_and_no_more() {
    let guarded = guarded().await;
    let url = "http://127.0.0.1:9/told";
    // As another process would have them, which tells them at the moment.
    for number in 0..512 {
        let entry = json!({"tenant": "default", "invocation": the_invocation(), "receiver": "", "told": "0",
            "created_at": at(), "lease": {"holder": "another", "until": "2100-01-01T00:00:00Z"}});
        let key = format!("default.{}.n{number}", "inv_0000000000000000000000009Z");
        let kept = guarded.edge.bus.kv_put(Bucket::Pushes, &key, entry.to_string().into());
        kept.await.unwrap();
    }
    let is_refused = || async {
        let made = guarded
            .a2a("CreateTaskPushNotificationConfig", config("one", url))
            .await;
        made["error"]["message"]
            .as_str()
            .is_some_and(|words| words.contains("as many as it may"))
    };
    mesh_testkit::wait_until(Duration::from_secs(30), is_refused).await;
    // Not even begun: nobody would be told of it.
    let message = json!({"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hi"}]});
    let configured = json!({"message": message, "configuration": {"taskPushNotificationConfig": {"url": url}}});
    let refused = guarded.a2a("SendMessage", configured).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    assert!(guarded.edge.world.accepted.lock().unwrap().is_empty());
}
