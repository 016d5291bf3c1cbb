//! Channels as nodes ask for them: in the tenant of what they run, and in its agent's name.

use mesh_api::Endpoint;
use mesh_api::messaging::{ChannelHistory, HistoryRequest, MessagePost};
use mesh_api::node::Ticket;
use mesh_api::road::{ByNode, Ticketed};
use mesh_testkit::TestRoads;
use mesh_types::{Code, Id, InvocationId, Problem};
use serde_json::json;

use crate::setup::{Mesh, SOON, request};

async fn ask<E: Endpoint>(mesh: &Mesh, ticket: &Ticket, request: E::Request) -> Result<E::Reply, Problem> {
    let request = Ticketed {
        ticket: ticket.clone(),
        request,
    };
    let caller = mesh.context.caller("rich".parse().unwrap());
    let road = TestRoads::road::<E>("kitchen");
    mesh.bus.call_at::<ByNode<E>>(&road, &caller, &request, SOON).await
}

#[tokio::test]
async fn a_node_speaks_in_the_name_of_its_agent_alone() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::start(&mesh.bus).await;
    let ticket = roads.ticket("kitchen", "default", "sofia", InvocationId::from_u128(7));
    let said = |kind: &str, id: &str| request("hello", json!({"author": {"kind": kind, "id": id}}));
    ask::<MessagePost>(&mesh, &ticket, said("agent", "sofia"))
        .await
        .unwrap();
    for (kind, id) in [("user", "sofia"), ("user", "ann"), ("agent", "boris")] {
        let refused = ask::<MessagePost>(&mesh, &ticket, said(kind, id)).await.unwrap_err();
        assert!(refused.is(Code::Forbidden), "{kind} {id}: {refused}");
    }
    let asked = HistoryRequest {
        channel: "general".parse().unwrap(),
        limit: 10,
        before: None,
    };
    let history = ask::<ChannelHistory>(&mesh, &ticket, asked.clone()).await.unwrap();
    assert_eq!(history.items.len(), 1, "of the ticket's tenant");
    let forged = Ticket {
        agent: "boris".parse().unwrap(),
        ..ticket
    };
    let refused = ask::<ChannelHistory>(&mesh, &forged, asked).await.unwrap_err();
    assert!(refused.is(Code::Forbidden), "{refused}");
}
