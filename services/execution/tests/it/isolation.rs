//! A tenant sees nothing of another.

use mesh_api::PageQuery;
use mesh_api::execution::*;
use mesh_testkit::wait_until;
use mesh_types::Code;
use serde_json::json;

use crate::mesh::{Mesh, SOON, request};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of what is asked")]
async fn a_tenant_sees_nothing_of_another() {
    let (mesh, _process) = Mesh::start().await;
    let id = mesh
        .accept(
            "noop",
            request(json!({"payload": {"text": "secret"}, "idempotency_key": "k"})),
            SOON,
        )
        .await
        .unwrap()
        .id;
    mesh.publish("mesh.invoke.default.noop", "{").await;
    let dead = DeadLetterListRequest::default;
    wait_until(SOON, || async {
        mesh.ask::<DeadLetterList>(dead()).await.unwrap().items.len() == 1
    })
    .await;
    mesh.check().await;
    let not_found = |problem: mesh_types::Problem| assert!(problem.is(Code::InvocationNotFound), "{problem:?}");
    not_found(
        mesh.ask_as::<InvocationGet>("other", InvocationRequest { id })
            .await
            .unwrap_err(),
    );
    let steps = StepsRequest {
        id,
        bodies: Bodies::Full,
        page: PageQuery::default(),
    };
    not_found(mesh.ask_as::<InvocationSteps>("other", steps).await.unwrap_err());
    not_found(
        mesh.ask_as::<InvocationFeed>(
            "other",
            FeedRequest {
                invocation: id,
                after_seq: 0,
            },
        )
        .await
        .unwrap_err(),
    );
    not_found(
        mesh.ask_as::<InvocationCancel>("other", CancelRequest { id, reason: None })
            .await
            .unwrap_err(),
    );
    let list = mesh
        .ask_as::<InvocationList>("other", ListRequest::default())
        .await
        .unwrap();
    assert!(list.items.is_empty());
    let counts = mesh
        .ask_as::<InvocationCounts>("other", InvocationFilter::default())
        .await
        .unwrap();
    assert_eq!(counts, Counts::default());
    let letters = mesh
        .ask_as::<DeadLetterList>("other", DeadLetterListRequest { all: true, ..dead() })
        .await
        .unwrap();
    assert!(letters.items.is_empty());
    let letter = mesh.ask::<DeadLetterList>(dead()).await.unwrap().items.remove(0).id;
    let problem = mesh
        .ask_as::<DeadLetterGet>("other", DeadLetterRequest { id: letter })
        .await
        .unwrap_err();
    assert!(problem.is(Code::DeadLetterNotFound));
    // A key belongs to its tenant; an id is one for all, and tells nothing.
    mesh.world.publish("other", "noop", &json!({"runtime": "noop"}));
    let own = AcceptRequest {
        agent: "noop".parse().unwrap(),
        request: request(json!({"idempotency_key": "k"})),
        wait_ms: 20_000,
    };
    let own = mesh.ask_as::<InvocationAccept>("other", own).await.unwrap();
    assert_ne!(own.id, id);
    let foreign = AcceptRequest {
        agent: "noop".parse().unwrap(),
        request: request(json!({"invocation_id": id})),
        wait_ms: 0,
    };
    let problem = mesh.ask_as::<InvocationAccept>("other", foreign).await.unwrap_err();
    assert!(problem.is(Code::KeyReused) && !problem.detail.contains("secret"));
}
