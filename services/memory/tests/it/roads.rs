//! Memories as nodes ask for them: those of the agent that they run, and no other's.

use std::time::Duration;

use mesh_api::Endpoint;
use mesh_api::execution::InvocationAccept;
use mesh_api::identity::AuditOutcome;
use mesh_api::memory::{
    BatchRequest, Memory, MemoryBatch, MemoryConsolidate, MemoryQuery, MemoryStore, QueryRequest, StoreRequest,
};
use mesh_api::node::{Ticket, TicketHeldReply};
use mesh_api::registry::{Artifact, ArtifactGet};
use mesh_api::road::{ByNode, Ticketed};
use mesh_testkit::{TestRoads, wait_until};
use mesh_types::{Code, Id, InvocationId, MemoryId, Problem, Timestamp};
use serde_json::{Value, json};

use crate::setup::{Mesh, store};

const SOON: Duration = Duration::from_secs(30);

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

/// As `sofia` says it in session `s1` with ann, under the invocation.
fn said(id: InvocationId, more: &Value) -> StoreRequest {
    let mut request = json!({"agent": "sofia", "content": "tea is green",
        "source": {"invocation": id, "step": 1}});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    store(request)
}

fn forbidden<T: std::fmt::Debug>(answer: Result<T, Problem>) {
    let refused = answer.unwrap_err();
    assert!(refused.is(Code::Forbidden), "{refused}");
}

/// What `execution` says of the invocation 7, and a registry whose artifact may read `handbook`.
async fn declared(mesh: &Mesh, roads: &TestRoads, capabilities: Value) -> mesh_bus::ServiceHandle {
    let about = TicketHeldReply {
        held: true,
        session: Some("s1".to_owned()),
        user: Some("ann".to_owned()),
        artifact: Some("of-the-spec".to_owned()),
    };
    roads.holds(InvocationId::from_u128(7), about);
    let spec = json!({"memory": {"knowledge": ["handbook"]}, "capabilities": capabilities}).to_string();
    let registry = mesh.context.bus.service("registry", "0.0.0");
    let registry = registry.endpoint::<ArtifactGet, _, _>(move |_, request| {
        let (hash, bytes) = (request.hash, spec.clone());
        std::future::ready(Ok(Artifact { hash, bytes }))
    });
    registry.start().await.unwrap()
}

#[tokio::test]
async fn a_node_speaks_for_the_session_and_the_user_of_its_invocation_and_reads_its_documents() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::start(&mesh.context.bus).await;
    let _registry = declared(&mesh, &roads, json!({})).await;
    let id = InvocationId::from_u128(7);
    let ticket = roads.ticket("kitchen", "default", "sofia", id);
    let own = Asked {
        mesh: &mesh,
        node: "kitchen",
        ticket: &ticket,
    };
    wait_until(SOON, || async { own.texts("sofia").await.is_ok() }).await;
    let query = |more: Value| {
        let mut request = json!({"agent": "sofia", "query": "tea"});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value::<QueryRequest>(request).unwrap()
    };
    let mine = json!({"filters": {"session": "s1", "user": "ann"}, "knowledge": ["handbook"]});
    own.ask::<MemoryQuery>(query(mine)).await.unwrap();
    for other in [
        json!({"filters": {"session": "s2"}}),
        json!({"filters": {"user": "bob"}}),
        json!({"knowledge": ["handbook", "salaries"]}),
    ] {
        forbidden(own.ask::<MemoryQuery>(query(other)).await);
    }

    own.ask::<MemoryStore>(said(id, &json!({"scope": "user", "user": "ann", "session": "s1"})))
        .await
        .unwrap();
    for other in [
        json!({"scope": "user", "user": "bob"}),
        json!({"scope": "session", "session": "s2"}),
        json!({"session": "s2"}),
        json!({"scope": "tenant"}),
    ] {
        forbidden(own.ask::<MemoryStore>(said(id, &other)).await);
    }
    assert!(roads.notes().iter().all(|note| note.actor == "node:kitchen"));
}

#[tokio::test]
async fn an_agent_that_may_shares_with_all_and_none_is_made_of_what_others_know() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::start(&mesh.context.bus).await;
    let _registry = declared(&mesh, &roads, json!({"can_share_memories": true})).await;
    let id = InvocationId::from_u128(7);
    let ticket = roads.ticket("kitchen", "default", "sofia", id);
    let own = Asked {
        mesh: &mesh,
        node: "kitchen",
        ticket: &ticket,
    };
    wait_until(SOON, || async { own.texts("sofia").await.is_ok() }).await;
    own.ask::<MemoryStore>(said(id, &json!({"scope": "tenant"})))
        .await
        .unwrap();
    let keep = |value: Value| mesh.ask::<MemoryStore>(store(value));
    let ours = keep(json!({"agent": "sofia", "content": "ours"})).await.unwrap().id;
    let bobs = json!({"agent": "sofia", "content": "of bob", "scope": "user", "user": "bob"});
    let bobs = keep(bobs).await.unwrap().id;
    let boris = keep(json!({"agent": "boris", "content": "of boris"})).await.unwrap().id;
    // Said again: an id of its own, which leads to the same memory.
    let again = json!({"agent": "sofia", "content": "of bob", "scope": "user", "user": "bob"});
    let again = StoreRequest {
        id: Some(MemoryId::from_u128(77)),
        ..store(again)
    };
    assert_eq!(mesh.ask::<MemoryStore>(again).await.unwrap().id, bobs);
    let others = [
        ("derived_from", bobs),
        ("derived_from", boris),
        ("supersedes", boris),
        ("supersedes", MemoryId::from_u128(77)),
    ];
    for (field, other) in others {
        let made = said(id, &json!({"content": "made of it", field: [ours, other]}));
        forbidden(own.ask::<MemoryStore>(made).await);
    }
    let made: Memory = own
        .ask::<MemoryStore>(said(id, &json!({"content": "made of ours", "derived_from": [ours]})))
        .await
        .unwrap();
    assert_eq!(made.agent.as_str(), "sofia");
}

#[tokio::test]
async fn a_node_reads_by_id_only_what_its_invocation_condenses() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::start(&mesh.context.bus).await;
    let accepting = mesh.context.bus.service("execution", "0.0.0");
    let accepting = accepting
        .endpoint::<InvocationAccept, _, _>(|_, _| std::future::ready(Err(Problem::new(Code::Unavailable, "later"))));
    let _accepting = accepting.start().await.unwrap();
    let mut ids: Vec<MemoryId> = Vec::new();
    for content in ["tea in the morning", "coffee at noon", "water before bed"] {
        let kept = json!({"agent": "sofia", "content": content, "scope": "session", "session": "s9"});
        ids.push(mesh.ask::<MemoryStore>(store(kept)).await.unwrap().id);
    }
    let other = mesh.store("of the agent itself").await.id;
    let request = serde_json::from_value(json!({"agent": "sofia"})).unwrap();
    let started = mesh.ask::<MemoryConsolidate>(request).await.unwrap();
    let id = started.invocation.unwrap();
    assert_eq!(started.memories, 3);
    let tickets = [id, InvocationId::from_u128(7)].map(|id| roads.ticket("kitchen", "default", "sofia", id));
    let [condensing, talking] = tickets.each_ref().map(|ticket| Asked {
        mesh: &mesh,
        node: "kitchen",
        ticket,
    });
    wait_until(SOON, || async { talking.texts("sofia").await.is_ok() }).await;
    let batch = |ids: Vec<MemoryId>| BatchRequest {
        agent: "sofia".parse().unwrap(),
        ids,
    };
    let found = condensing.ask::<MemoryBatch>(batch(ids.clone())).await.unwrap();
    assert_eq!(found.items.len(), 3);
    forbidden(condensing.ask::<MemoryBatch>(batch(vec![other])).await);
    forbidden(talking.ask::<MemoryBatch>(batch(ids.clone())).await);
    // It has no session of its own, and still its facts go where their sources are.
    let fact = json!({"type": "semantic", "content": "drinks a lot", "scope": "session", "session": "s9",
        "derived_from": ids});
    condensing.ask::<MemoryStore>(said(id, &fact)).await.unwrap();
    forbidden(
        talking
            .ask::<MemoryStore>(said(InvocationId::from_u128(7), &fact))
            .await,
    );
}
