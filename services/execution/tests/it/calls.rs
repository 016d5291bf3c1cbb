//! `mesh.call`: accept, run, answer; and the stream of chunks before the answer.

use mesh_api::PageQuery;
use mesh_api::execution::{Bodies, InvocationSteps, State, StepsRequest};
use mesh_api::journal::StepKind;
use mesh_types::InvocationId;
use serde_json::{Value, json};

use crate::mesh::Mesh;

fn id(invocation: &Value) -> InvocationId {
    invocation["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_call_of_a_noop_agent_answers_the_completed_invocation_and_its_steps() {
    let (mesh, process) = Mesh::start().await;
    let answer = mesh.call("noop", r#"{"payload":{"text":"hi"}}"#).await;
    assert_eq!(answer["state"], "completed", "{answer}");
    assert_eq!(answer["output"], json!({"steps": 3}));
    assert_eq!(answer["payload"], json!({"text": "hi"}));
    assert_eq!(
        (answer["attempt"].as_u64(), answer["version"].as_u64()),
        (Some(1), Some(1))
    );
    let page = PageQuery::default();
    let steps = mesh
        .ask::<InvocationSteps>(StepsRequest {
            id: id(&answer),
            bodies: Bodies::Full,
            page,
        })
        .await
        .unwrap();
    let kinds: Vec<_> = steps.items.iter().map(|step| (step.number, step.kind)).collect();
    assert_eq!(kinds, [(1, StepKind::Noop), (2, StepKind::Noop), (3, StepKind::Noop)]);
    assert!(
        steps
            .items
            .iter()
            .all(|step| step.ended_at.is_some() && step.epoch == 1)
    );
    assert_eq!(mesh.check().await, 1);
    process.stop().await;
}

#[tokio::test]
async fn an_empty_body_is_a_request_and_a_bad_one_is_a_problem() {
    let (mesh, _process) = Mesh::start().await;
    assert_eq!(mesh.call("noop", "").await["state"], "completed");
    for (agent, body, kind) in [
        ("noop", "{", "mesh/malformed-json"),
        ("noop", r#"{"payload":1,"payload":2}"#, "mesh/malformed-json"),
        ("noop", r#"{"text":"hi"}"#, "mesh/invalid-request"),
        ("noop", r#"{"priority":-1}"#, "mesh/invalid-request"),
        ("stranger", "{}", "registry/agent-not-found"),
    ] {
        let answer = mesh.call(agent, body).await;
        assert_eq!(answer["type"], kind, "{body}: {answer}");
        assert!(answer["status"].as_u64().unwrap() < 500);
    }
    assert_eq!(mesh.check().await, 1);
}

#[tokio::test]
async fn an_agent_calls_its_model_and_posts_its_reply_once() {
    let (mesh, _process) = Mesh::start().await;
    let answer = mesh
        .call("talker", r#"{"payload":{"text":"hi","channel_id":"room"}}"#)
        .await;
    assert_eq!(answer["output"], json!({"text": "Hello, world"}), "{answer}");
    assert_eq!(
        (answer["provider"].as_str(), answer["usage"]["cost_usd"].as_f64()),
        (Some("fake"), Some(0.5))
    );
    mesh.world.assert_each_completion_ran_once(1);
    assert_eq!(
        mesh.world.posts.lock().unwrap().values().copied().collect::<Vec<_>>(),
        [1]
    );
    mesh.check().await;
}

#[tokio::test]
async fn a_streamed_call_sends_chunks_then_the_result_then_an_empty_message() {
    let (mesh, _process) = Mesh::start().await;
    let body = br#"{"payload":{"text":"hi"},"stream":true}"#.to_vec();
    let messages = mesh
        .request("mesh.call.default.talker", body.into(), |payload| payload.is_empty())
        .await;
    let (last, rest) = messages.split_last().unwrap();
    assert!(last.is_empty());
    let (result, chunks) = rest.split_last().unwrap();
    let result: Value = serde_json::from_slice(result).unwrap();
    assert_eq!(result["state"], "completed", "{result}");
    let texts: String = chunks
        .iter()
        .map(|chunk| {
            serde_json::from_slice::<Value>(chunk).unwrap()["text"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(texts, "Hello, world");
    // A problem ends the stream, too.
    let body = br#"{"stream":true}"#.to_vec();
    let messages = mesh
        .request("mesh.call.default.stranger", body.into(), |payload| payload.is_empty())
        .await;
    let problem: Value = serde_json::from_slice(&messages[0]).unwrap();
    assert_eq!(
        (messages.len(), problem["type"].as_str()),
        (2, Some("registry/agent-not-found"))
    );
}

#[tokio::test]
async fn an_agent_published_a_moment_ago_is_known() {
    let (mesh, _process) = Mesh::start().await;
    assert_eq!(mesh.call("late", "{}").await["type"], "registry/agent-not-found");
    mesh.world.publish("default", "late", &json!({"runtime": "noop"}));
    assert_eq!(mesh.call("late", "{}").await["state"], "completed");
    let asked = mesh.world.resolved.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(mesh.call("late", "{}").await["state"], "completed");
    assert_eq!(
        mesh.world.resolved.load(std::sync::atomic::Ordering::SeqCst),
        asked,
        "it is remembered"
    );
}

#[tokio::test]
async fn many_calls_at_once_each_end_once() {
    let (mesh, _process) = Mesh::start().await;
    let answers = futures::future::join_all((0..200).map(|_| async {
        let request = crate::mesh::request(json!({"payload": {"text": "hi"}}));
        mesh.accept("noop", request, crate::mesh::SOON).await.unwrap()
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.state == State::Completed));
    assert_eq!(mesh.check().await, 200);
}
