//! One key, one invocation: over HTTP, one after the other and at once, and over NATS.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Http, Mesh, send, unique, until};

const PATH: &str = "/api/v1/agents/sofia/invocations";

async fn keyed(http: &Http, key: &str, query: &str, body: &Value) -> Answer {
    let request = http.request(Method::POST, &format!("{PATH}{query}"));
    send(request.header("Idempotency-Key", key).json(body)).await
}

fn id(answer: &Answer) -> String {
    let id = answer.body["id"].as_str();
    id.unwrap_or_else(|| panic!("no id: {answer:?}")).to_owned()
}

#[tokio::test]
async fn the_same_key_twice_is_one_invocation_and_another_body_is_refused() {
    let mesh = Mesh::shared().await;
    let (http, key, marker) = (mesh.http(), unique("key"), unique("said"));
    let body = json!({"payload": {"text": marker}});
    let first = keyed(&http, &key, "", &body).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.location, Some(format!("/api/v1/invocations/{}", id(&first))));
    let again = keyed(&http, &key, "?wait=30", &body).await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(id(&again), id(&first));
    assert_eq!(again.body["state"], "completed");
    let other = json!({"payload": {"text": "something else"}});
    let refused = keyed(&http, &key, "", &other).await.expect(422);
    assert!(refused["detail"].is_string(), "{refused}");
    // Written in another order it is the same body.
    let spelled = format!(r#"{{ "payload" : {{ "text" : "{marker}" }} }}"#);
    let request = http.request(Method::POST, PATH).header("Idempotency-Key", &key);
    let same = send(request.header("Content-Type", "application/json").body(spelled)).await;
    assert_eq!(id(&same), id(&first));
    assert_eq!(mesh.model.calls(&marker).len(), 1);
}

#[tokio::test]
async fn the_same_key_sixteen_times_at_once_is_one_invocation() {
    let mesh = Mesh::shared().await;
    let (http, key, marker) = (mesh.http(), unique("key"), unique("said"));
    let body = json!({"payload": {"text": marker}});
    let answers = join_all((0..16).map(|_| keyed(&http, &key, "?wait=30", &body))).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(id(answer), id(&answers[0]));
    }
    assert_eq!(mesh.model.calls(&marker).len(), 1);
    let pool = mesh.database().await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM execution.invocation WHERE key = $1")
        .bind(&key)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn the_same_message_id_over_nats_twice_is_one_invocation() {
    let mesh = Mesh::shared().await;
    let (client, marker) = (mesh.nats().await, unique("said"));
    let payload = json!({"payload": {"text": marker}}).to_string();
    let request = || {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", marker.as_str());
        async_nats::Request::new()
            .payload(payload.clone().into())
            .headers(headers)
    };
    let stored = || async {
        // The reply is the stream's PubAck.
        let ack = client.send_request("mesh.invoke.default.sofia", request()).await;
        let ack: Value = serde_json::from_slice(&ack.expect("a PubAck").payload).unwrap();
        assert_eq!(ack["stream"], "INVOCATIONS", "{ack}");
        ack["seq"].as_u64().expect("its place")
    };
    let first = stored().await;
    // Until the stream's own window of 100 ms is over: the mesh itself must know it.
    until(30, "the stream takes it again", || async {
        (stored().await != first).then_some(())
    })
    .await;
    let pool = mesh.database().await;
    let count = "SELECT count(*) FROM execution.invocation WHERE key = $1";
    let taken = "SELECT count(*) FROM execution.ended JOIN execution.invocation ON id = invocation WHERE key = $1";
    until(30, "it has ended", || async {
        let ended: i64 = sqlx::query_scalar(taken).bind(&marker).fetch_one(&pool).await.ok()?;
        (ended == 1).then_some(())
    })
    .await;
    let rows: i64 = sqlx::query_scalar(count).bind(&marker).fetch_one(&pool).await.unwrap();
    assert_eq!((rows, mesh.model.calls(&marker).len()), (1, 1));
}

#[tokio::test]
async fn an_invocation_that_outlasts_the_wait_is_answered_202_and_goes_on() {
    let mesh = Mesh::shared().await;
    let (http, marker) = (mesh.http(), unique("slow"));
    mesh.model.script(crate::harness::Script {
        of: marker.clone(),
        delay: std::time::Duration::from_secs(2),
        fails: None,
    });
    let body = json!({"payload": {"text": marker}});
    let answer = http.invoke("sofia", "?wait=1", &body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let ended = http.until_ended(&id(&answer)).await;
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!(ended["output"]["text"], format!("The model heard: {marker}"));
}
