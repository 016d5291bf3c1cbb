//! Model calls as nodes ask for them: streamed, for what they hold, or their own.

use std::time::Duration;

use mesh_api::StreamEndpoint;
use mesh_api::execution::Empty;
use mesh_api::inference::{Chat, Chunk, Complete, CompleteRequest, Completion, Models};
use mesh_api::node::Ticket;
use mesh_api::road::{ByNode, Ticketed};
use mesh_testkit::{TestRoads, wait_until};
use mesh_types::{Code, Id, InvocationId, Problem};
use serde_json::json;

use crate::setup::Mesh;

const SOON: Duration = Duration::from_secs(30);

fn request(model: &str, key: Option<String>) -> CompleteRequest {
    let messages = json!([{"role": "user", "content": "hello"}]);
    serde_json::from_value(json!({"model": model, "idempotency_key": key, "messages": messages})).unwrap()
}

async fn stream<E>(mesh: &Mesh, request: &E::Request) -> (Result<Completion, Problem>, String)
where
    E: StreamEndpoint<Reply = Completion, Chunk = Chunk>,
{
    let mut text = String::new();
    let on_chunk = |chunk| {
        if let Chunk::Text(piece) = chunk {
            text.push_str(&piece);
            mesh.fake.tick();
        }
    };
    let (bus, caller) = (&mesh.context.bus, mesh.caller());
    let road = TestRoads::road::<E>("kitchen");
    let done = bus.call_stream_at::<E>(&road, &caller, request, on_chunk).await;
    (done, text)
}

fn held(ticket: &Ticket, request: CompleteRequest) -> Ticketed<CompleteRequest> {
    Ticketed {
        ticket: ticket.clone(),
        request,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_streams_for_the_invocation_that_it_holds_and_for_no_other() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::start(&mesh.context.bus).await;
    let id = InvocationId::from_u128(7);
    let ticket = roads.ticket("kitchen", "default", "sofia", id);
    let own = held(&ticket, request("gpt-ticking", Some(format!("{id}/1"))));
    let (done, text) = stream::<ByNode<Complete>>(&mesh, &own).await;
    assert_eq!(done.unwrap().text, text);
    let other = InvocationId::from_u128(8);
    let others = held(&ticket, request("gpt-ticking", Some(format!("{other}/1"))));
    let (refused, text) = stream::<ByNode<Complete>>(&mesh, &others).await;
    assert!(refused.unwrap_err().is(Code::Forbidden) && text.is_empty());
    let forged = Ticket {
        invocation: other,
        ..ticket
    };
    let asked = held(&forged, request("gpt-ticking", Some(format!("{other}/1"))));
    assert!(
        stream::<ByNode<Complete>>(&mesh, &asked)
            .await
            .0
            .unwrap_err()
            .is(Code::Forbidden)
    );
    wait_until(SOON, || async { !roads.notes().is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_of_the_node_itself_needs_no_ticket_and_lists_models() {
    let mesh = Mesh::start().await;
    let _roads = TestRoads::start(&mesh.context.bus).await;
    let (done, text) = stream::<Chat>(&mesh, &request("gpt-ticking", Some("chat/1".into()))).await;
    assert_eq!(done.unwrap().text, text);
    let (bus, caller) = (&mesh.context.bus, mesh.caller());
    let road = TestRoads::road::<Models>("kitchen");
    let models = bus.call_at::<Models>(&road, &caller, &Empty {}, SOON).await.unwrap();
    assert!(!models.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_ends_the_providers_call() {
    let mesh = Mesh::start_with(|config| {
        config.limits.first_byte_timeout_ms = 60_000;
        config.limits.idle_timeout_ms = 60_000;
    })
    .await;
    let roads = TestRoads::start(&mesh.context.bus).await;
    let id = InvocationId::from_u128(7);
    let ticket = roads.ticket("kitchen", "default", "sofia", id);
    let asked = held(&ticket, request("gpt-held", Some(format!("{id}/1"))));
    let (bus, caller) = (mesh.context.bus.clone(), mesh.caller());
    let call = tokio::spawn(async move {
        let road = TestRoads::road::<Complete>("kitchen");
        bus.call_stream_at::<ByNode<Complete>>(&road, &caller, &asked, |_| {})
            .await
    });
    wait_until(SOON, || async { mesh.fake.held() == 1 }).await;
    call.abort();
    wait_until(SOON, || async { mesh.fake.held() == 0 }).await;
}
