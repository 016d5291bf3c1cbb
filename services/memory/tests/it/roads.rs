//! Memories as nodes ask for them: those of the agent that they run, and no other's.

use std::time::Duration;

use mesh_api::Endpoint;
use mesh_api::identity::AuditOutcome;
use mesh_api::memory::{MemoryQuery, MemoryStore, QueryRequest, StoreRequest};
use mesh_api::node::Ticket;
use mesh_api::road::{ByNode, Ticketed};
use mesh_testkit::{TestRoads, wait_until};
use mesh_types::{Code, Id, InvocationId, Problem, Timestamp};
use serde_json::json;

use crate::setup::{Mesh, store};

const SOON: Duration = Duration::from_secs(10);

struct Asked<'a> {
    mesh: &'a Mesh,
    node: &'static str,
    ticket: &'a Ticket,
}

impl Asked<'_> {
    async fn ask<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        let request = Ticketed {
            ticket: self.ticket.clone(),
            request,
        };
        let road = TestRoads::road::<E>(self.node);
        // The headers lie: they do not count.
        let caller = self.mesh.caller("rich");
        self.mesh
            .context
            .bus
            .call_at::<ByNode<E>>(&road, &caller, &request, SOON)
            .await
    }

    async fn texts(&self, agent: &str) -> Result<Vec<String>, Problem> {
        let request: QueryRequest = serde_json::from_value(json!({"agent": agent, "query": "tea"})).unwrap();
        let found = self.ask::<MemoryQuery>(request).await?;
        Ok(found.items.into_iter().map(|hit| hit.memory.content).collect())
    }
}

fn of(agent: &str, invocation: InvocationId) -> StoreRequest {
    let mut request = store(json!({"agent": agent, "content": "tea is green"}));
    request.source = Some(mesh_api::memory::MemorySource { invocation, step: 1 });
    request
}

#[tokio::test]
async fn a_node_reaches_the_memories_of_what_it_runs_and_nothing_else() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::start(&mesh.context.bus).await;
    let id = InvocationId::from_u128(7);
    let ticket = roads.ticket("kitchen", "default", "sofia", id);
    let own = Asked {
        mesh: &mesh,
        node: "kitchen",
        ticket: &ticket,
    };
    wait_until(SOON, || async { own.texts("sofia").await.is_ok() }).await;
    own.ask::<MemoryStore>(of("sofia", id)).await.unwrap();
    let rich = mesh.caller("rich");
    let bus = &mesh.context.bus;
    bus.call::<MemoryStore>(&rich, &store(json!({"agent": "sofia", "content": "tea is gold"})))
        .await
        .unwrap();
    mesh.ask::<MemoryStore>(store(json!({"agent": "boris", "content": "tea is black"})))
        .await
        .unwrap();
    assert_eq!(own.texts("sofia").await.unwrap(), ["tea is green"]);

    let refused = own.texts("boris").await.unwrap_err();
    assert!(refused.is(Code::Forbidden), "{refused}");
    wait_until(SOON, || async { !roads.notes().is_empty() }).await;
    let note = roads.notes().remove(0);
    assert_eq!(
        (note.actor.as_str(), note.action.as_str()),
        ("node:kitchen", "node.memory-query")
    );
    assert_eq!(note.outcome, AuditOutcome::Refused);
    assert!(
        own.ask::<MemoryStore>(of("boris", id))
            .await
            .unwrap_err()
            .is(Code::Forbidden)
    );
    let others = own.ask::<MemoryStore>(of("sofia", InvocationId::from_u128(8))).await;
    assert!(others.unwrap_err().is(Code::Forbidden));

    let forged = Ticket {
        tenant: "rich".parse().unwrap(),
        ..ticket.clone()
    };
    let mut old = Ticket {
        issued_at: Timestamp::EPOCH,
        ..ticket.clone()
    };
    roads.sign("kitchen", &mut old);
    for (node, ticket) in [("kitchen", &forged), ("thief", &ticket), ("kitchen", &old)] {
        let asked = Asked {
            mesh: &mesh,
            node,
            ticket,
        };
        let refused = asked.texts("sofia").await.unwrap_err();
        assert!(refused.is(Code::Forbidden), "{refused}");
    }
    wait_until(SOON, || async {
        roads.notes().iter().any(|note| note.actor == "node:thief")
    })
    .await;
    assert!(roads.notes().len() <= 5, "each node is noted once a second");
}
