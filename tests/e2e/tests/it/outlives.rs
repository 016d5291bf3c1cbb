//! NATS and Postgres are killed below a running mesh: `mesh up` starts them again, and the next invocation works.

use serde_json::json;

use crate::harness::{Mesh, kill_9, unique, until};

async fn an_invocation_works(mesh: &Mesh, after: &str) {
    let (http, marker) = (mesh.http(), unique("said"));
    let body = json!({"idempotency_key": marker, "payload": {"text": marker}});
    let ended = until(60, &format!("an invocation works after {after}"), || async {
        let path = "/api/v1/agents/sofia/invocations?wait=20";
        let request = http.request(reqwest::Method::POST, path).json(&body);
        let answer = crate::harness::send(request).await;
        // While it is away the mesh says so, and takes it later: the key makes it one.
        assert!([200, 202, 503, 504].contains(&answer.status), "{after}: {answer:?}");
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(ended["state"], "completed", "{after}: {ended}");
    assert_eq!(mesh.model.calls(&marker).len(), 1, "{after}");
}

#[tokio::test]
async fn a_killed_nats_and_a_killed_postgres_are_started_again_and_the_next_invocation_works() {
    let mesh = Mesh::up().await;
    let pid = mesh.pid();
    an_invocation_works(&mesh, "the start").await;
    for program in ["nats-server", "postgres"] {
        let Some(before) = mesh.launch.server(program) else {
            println!("not run: this system does not tell the environment of a process");
            return;
        };
        kill_9(before);
        until(60, &format!("{program} runs again"), || async {
            mesh.launch.server(program).filter(|now| *now != before)
        })
        .await;
        an_invocation_works(&mesh, &format!("a kill of {program}")).await;
        mesh.until_healthy().await;
    }
    assert_eq!(mesh.pid(), pid);
}

#[tokio::test]
async fn what_was_published_while_the_mesh_was_away_is_worked_on_when_it_is_back() {
    let mesh = Mesh::up().await;
    let marker = unique("said");
    let client = mesh.nats().await;
    // Its nats-server is left behind, and takes messages.
    mesh.kill_9_alone();
    let body = json!({"payload": {"text": marker}}).to_string();
    let ack = client.request("mesh.invoke.default.sofia", body.into()).await;
    assert!(ack.expect("a PubAck").payload.starts_with(b"{\"stream\""));
    assert_eq!(mesh.model.calls(&marker).len(), 0);
    mesh.start(&[]).await;
    until(60, "it is worked on", || async {
        (mesh.model.calls(&marker).len() == 1).then_some(())
    })
    .await;
}
