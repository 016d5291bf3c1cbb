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

#[tokio::test]
async fn a_ticket_opens_nothing_once_its_claim_is_over() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::start(&mesh.context.bus).await;
    let [held, late, unknown] = [7, 8, 9].map(InvocationId::from_u128);
    let gone = Problem::new(Code::Unavailable, "it starts");
    roads.held(late, Ok(false));
    roads.held(unknown, Err(gone));
    let tickets = [held, late, unknown].map(|id| roads.ticket("kitchen", "default", "sofia", id));
    let [held_one, late_one, unknown_one] = tickets.each_ref().map(|ticket| Asked {
        mesh: &mesh,
        node: "kitchen",
        ticket,
    });
    wait_until(SOON, || async { held_one.texts("sofia").await.is_ok() }).await;
    held_one.ask::<MemoryStore>(of("sofia", held)).await.unwrap();
    let refused = late_one.texts("sofia").await.unwrap_err();
    assert!(
        refused.is(Code::Forbidden) && refused.detail.contains("the claim is over"),
        "{refused}"
    );
    let refused = late_one.ask::<MemoryStore>(of("sofia", late)).await.unwrap_err();
    assert!(refused.is(Code::Forbidden), "{refused}");
    let refused = unknown_one.texts("sofia").await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    // What was not known is not kept; a wrong answer of `execution` is no verdict either.
    roads.held(unknown, Err(Problem::new(Code::Internal, "it is broken")));
    let refused = unknown_one.texts("sofia").await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    roads.held(unknown, Ok(true));
    assert_eq!(unknown_one.texts("sofia").await.unwrap(), ["tea is green"]);
    // What was held is asked again soon.
    roads.held(held, Ok(false));
    wait_until(SOON, || async { held_one.texts("sofia").await.is_err() }).await;
    assert!(
        roads.notes().is_empty(),
        "who is late attacks nobody: {:?}",
        roads.notes()
    );
}
