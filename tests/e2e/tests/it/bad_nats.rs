//! Bad input over NATS against the real mesh (CONTRACT, "Bad input"): a dead letter or an error with its reason,
//! nothing lost, and the next good message works.

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::{Mesh, items, unique, until};

const MIB: usize = 1024 * 1024;

/// Published durably: the reply is the stream's PubAck.
async fn publish(client: &Client, subject: &str, payload: impl Into<Bytes>) {
    let ack = client.request(subject.to_owned(), payload.into()).await;
    let ack: Value = serde_json::from_slice(&ack.expect("a PubAck").payload).unwrap();
    assert!(ack["error"].is_null() && ack["stream"] == "INVOCATIONS", "{ack}");
}

/// The dead letter of that subject or message, once it is there.
async fn dead_letter(mesh: &Mesh, of: &str) -> Value {
    let http = mesh.http();
    until(30, &format!("a dead letter of {of}"), || async {
        let page = http.get("/api/v1/dead-letters?limit=500").await;
        let is_it = |letter: &Value| {
            let has = |field: &str| letter[field].as_str().is_some_and(|text| text.contains(of));
            has("subject") || has("message")
        };
        items(&page).into_iter().find(is_it)
    })
    .await
}

async fn next_good_message_works(mesh: &Mesh, client: &Client) {
    let marker = unique("good");
    let body = json!({"payload": {"text": marker}}).to_string();
    publish(client, "mesh.invoke.default.sofia", body).await;
    until(30, "the next good message is worked on", || async {
        (mesh.model.calls(&marker).len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn messages_that_are_no_request_become_dead_letters_with_their_reason() {
    let mesh = Mesh::shared().await;
    let client = mesh.nats().await;
    let nested = format!("{{\"payload\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let cases: [(&[u8], &str); 17] = [
        (b"{", "mesh/malformed-json"),
        (b"not json", "mesh/malformed-json"),
        (b"{\"payload\":\"\xff\xfe\"}", "mesh/malformed-json"),
        (br#"{"payload":1,"payload":2}"#, "payload"),
        (nested.as_bytes(), "nested"),
        (br#"{"payload":"\ud800"}"#, "mesh/malformed-json"),
        (br#"{"payload":1e999}"#, "mesh/malformed-json"),
        (br#"{"payload":-123456789012345678901234567890}"#, "mesh/malformed-json"),
        (b"[]", "mesh/invalid-request"),
        (br#"{"nope":1}"#, "nope"),
        (br#"{"priority":-1}"#, "priority"),
        (br#"{"priority":10}"#, "priority"),
        (br#"{"delay_ms":"soon"}"#, "delay_ms"),
        (br#"{"invocation_id":"inv_1"}"#, "invocation_id"),
        (br#"{"reply_to":"mesh.reply.other.x"}"#, "reply_to"),
        (br#"{"payload":{}}"#, "registry/agent-not-found"),
        (b"", "registry/agent-not-found"),
    ];
    for (body, reason) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        // An agent of its own tells the letters apart; that nobody knows it is found last.
        let subject = format!("mesh.invoke.default.{}", unique("bad"));
        publish(&client, &subject, body.to_vec()).await;
        let letter = dead_letter(mesh, &subject).await;
        assert!(letter["reason"].to_string().contains(reason), "{shown}: {letter}");
        let detail = letter["reason"]["detail"].as_str();
        assert!(detail.is_some_and(|text| !text.is_empty()), "{shown}: {letter}");
        assert_eq!(letter["origin"], "intake", "{shown}: {letter}");
    }
    next_good_message_works(mesh, &client).await;
}

#[tokio::test]
async fn a_message_of_one_mebibyte_is_taken_and_one_byte_more_is_a_dead_letter() {
    let mesh = Mesh::shared().await;
    let (http, client, name) = (mesh.http(), mesh.nats().await, unique("quiet"));
    let agent = json!({"metadata": {"name": name}, "spec": {"runtime": "noop"}});
    http.post("/api/v1/agents", &agent).await.expect(201);
    http.post(&format!("/api/v1/agents/{name}/publish"), &json!({}))
        .await
        .expect(200);
    let frame = r#"{"payload":{"text":""}}"#.len();
    let body = |size: usize| format!(r#"{{"payload":{{"text":"{}"}}}}"#, "x".repeat(size - frame));
    let subject = format!("mesh.invoke.default.{name}");
    publish(&client, &subject, body(MIB + 1)).await;
    publish(&client, &subject, body(MIB)).await;
    let letter = dead_letter(mesh, &subject).await;
    assert_eq!(letter["reason"]["type"], "mesh/body-too-large", "{}", letter["reason"]);
    until(30, "the message of one mebibyte has ended", || async {
        let page = http.get(&format!("/api/v1/invocations?agent={name}")).await;
        let items = items(&page);
        (items.len() == 1 && items[0]["state"] == "completed").then_some(())
    })
    .await;
    // Over the server's own limit the client is told at once, and the connection lives.
    let large = "x".repeat(9 * MIB);
    assert!(client.request(subject, large.into()).await.is_err());
    next_good_message_works(mesh, &client).await;
}

#[tokio::test]
async fn the_router_subject_refuses_what_names_no_agent() {
    let mesh = Mesh::shared().await;
    let client = mesh.nats().await;
    for (field, value, reason) in [
        ("payload", json!({}), "agent_id"),
        ("agent_id", json!("agent:*"), "agent_id"),
        ("agent_id", json!(7), "agent_id"),
        ("agent_id", json!("agent:a b"), "agent_id"),
    ] {
        let marker = unique("router");
        let body = json!({field: value, "metadata": {"marker": marker}});
        publish(&client, "router.invoke.agent", body.to_string()).await;
        let letter = dead_letter(mesh, &marker).await;
        assert!(letter["reason"].to_string().contains(reason), "{body}: {letter}");
    }
    let marker = unique("router");
    let body = json!({"agent_id": "sofia", "payload": {"microdao_id": 5}, "metadata": {"m": marker}});
    publish(&client, "router.invoke.agent", body.to_string()).await;
    let letter = dead_letter(mesh, &marker).await;
    assert_eq!(letter["reason"]["field"], "payload.microdao_id", "{letter}");
    next_good_message_works(mesh, &client).await;
}

#[tokio::test]
async fn an_error_goes_to_reply_to_and_a_call_is_answered_with_it() {
    let mesh = Mesh::shared().await;
    let client = mesh.nats().await;
    let inbox = client.new_inbox();
    let mut errors = client.subscribe(inbox.clone()).await.unwrap();
    client.flush().await.unwrap();
    let body = json!({"payload": {}, "reply_to": inbox}).to_string();
    publish(&client, "mesh.invoke.default.nobody-at-all", body).await;
    let error = tokio::time::timeout(std::time::Duration::from_secs(20), errors.next()).await;
    let error = error.expect("in time").expect("an error");
    let problem: Value = serde_json::from_slice(&error.payload).unwrap();
    assert_eq!(problem["type"], "registry/agent-not-found", "{problem}");
    for (subject, body, code) in [
        ("mesh.call.default.nobody-at-all", "{}", "404"),
        ("mesh.call.default.sofia", "{", "400"),
        ("mesh.call.default.sofia", r#"{"nope":1}"#, "400"),
    ] {
        let answer = client.request(subject, body.into()).await.expect("an answer");
        let headers = answer.headers.as_ref().expect("headers");
        let said = headers.get("Nats-Service-Error-Code").map(|code| code.as_str());
        assert_eq!(said, Some(code), "{subject} {body}");
        let problem: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(problem["detail"].is_string(), "{problem}");
    }
    let answer = client.request("mesh.call.default.sofia", r#"{"payload":{"text":"hi"}}"#.into());
    let ended: Value = serde_json::from_slice(&answer.await.unwrap().payload).unwrap();
    assert_eq!(ended["state"], "completed", "{ended}");
}

#[tokio::test]
async fn a_streamed_call_sends_chunks_the_result_and_an_empty_message() {
    let mesh = Mesh::shared().await;
    let (client, marker) = (mesh.nats().await, unique("stream"));
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    let body = json!({"payload": {"text": marker}, "stream": true}).to_string();
    client
        .publish_with_reply("mesh.call.default.sofia", inbox, body.into())
        .await
        .unwrap();
    let mut heard: Vec<Value> = Vec::new();
    loop {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), answers.next()).await;
        let message = next.expect("in time").expect("a message");
        if message.payload.is_empty() {
            break;
        }
        heard.push(serde_json::from_slice(&message.payload).unwrap());
    }
    let result = heard.pop().expect("a result");
    assert_eq!(result["state"], "completed", "{result}");
    let text: String = heard.iter().filter_map(|chunk| chunk["text"].as_str()).collect();
    assert_eq!(text, format!("The model heard: {marker}"), "{heard:?}");
}
