//! Consolidation: when an invocation starts, of which memories, that it starts once, and what its end means for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use memory::embed::HashEmbedder;
use mesh_api::execution::{AcceptRequest, Invocation, InvocationAccept, InvocationGet};
use mesh_api::memory::{
    BatchRequest, CONSOLIDATE_ENTRYPOINT, ConsolidateRequest, ConsolidationPayload, MemoryBatch, MemoryConsolidate,
    MemoryForget, MemoryRequest, MemoryStore,
};
use mesh_api::registry::{AgentResolve, Artifact, ArtifactGet, Pointer};
use mesh_bus::ServiceHandle;
use mesh_runtime::Blocking;
use mesh_testkit::wait_until;
use mesh_types::{Code, InvocationId, MemoryId, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::setup::{Mesh, store};

const SOON: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Told {
    accepted: Vec<AcceptRequest>,
    /// By invocation; what was never accepted is not found.
    states: BTreeMap<InvocationId, &'static str>,
    refuses: Option<Problem>,
}

/// Fakes of `registry`, whose agents consolidate after so many, and of `execution`.
struct World {
    mesh: Mesh,
    told: Arc<Mutex<Told>>,
    _services: Vec<ServiceHandle>,
}

impl World {
    async fn start(consolidate_after: u32) -> Self {
        let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
        let mesh = Mesh::start_with(embedder, |config| config.consolidate_tick_ms = 50).await;
        let told = Arc::<Mutex<Told>>::default();
        let bytes = json!({"memory": {"consolidate_after": consolidate_after}}).to_string();
        let registry = mesh
            .context
            .bus
            .service("registry", "0.0.0")
            .endpoint::<AgentResolve, _, _>(|_, request| {
                let is_known = request.agent.as_str() == "sofia";
                let pointer = Pointer {
                    tenant: request.tenant,
                    agent: request.agent,
                    version: 1,
                    hash: "of-the-spec".to_owned(),
                };
                let unknown = || Problem::new(Code::AgentNotFound, "no such agent");
                std::future::ready(is_known.then_some(pointer).ok_or_else(unknown))
            })
            .endpoint::<ArtifactGet, _, _>(move |_, request| {
                let (hash, bytes) = (request.hash, bytes.clone());
                std::future::ready(Ok(Artifact { hash, bytes }))
            });
        let (accepts, gets) = (Arc::clone(&told), Arc::clone(&told));
        let execution = mesh
            .context
            .bus
            .service("execution", "0.0.0")
            .endpoint::<InvocationAccept, _, _>(move |_, request| std::future::ready(accept(&accepts, request)))
            .endpoint::<InvocationGet, _, _>(move |_, request| {
                let state = gets.lock().unwrap().states.get(&request.id).copied();
                let missing = || Problem::new(Code::InvocationNotFound, "no such invocation");
                std::future::ready(state.ok_or_else(missing).map(|state| invocation(request.id, state)))
            });
        let services = vec![registry.start().await.unwrap(), execution.start().await.unwrap()];
        Self {
            mesh,
            told,
            _services: services,
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    async fn store(&self, number: u32, more: Value) -> MemoryId {
        let content = format!("note {number} about subject {}", number * 7919);
        let mut request = json!({"agent": "sofia", "content": content});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.mesh.ask::<MemoryStore>(store(request)).await.unwrap().id
    }

    /// Passes of the loop that have begun and ended from now on.
    async fn passes(&self, more: u64) {
        let passes = || {
            let status = self.mesh.context.loops.status("memory", "memory-consolidate");
            status.map_or(0, |status| status.passes)
        };
        let from = passes();
        wait_until(SOON, || async { passes() > from + more }).await;
    }

    /// Distinct invocations that were accepted, oldest first, with their memories.
    fn invocations(&self) -> Vec<(InvocationId, Vec<MemoryId>)> {
        let mut found: Vec<(InvocationId, Vec<MemoryId>)> = Vec::new();
        for accepted in &self.told().accepted {
            let id = accepted.request.invocation_id.unwrap();
            let payload = ConsolidationPayload::deserialize(&accepted.request.payload).unwrap();
            match found.iter().find(|(known, _)| *known == id) {
                Some((_, memories)) => assert_eq!(*memories, payload.memories, "a repeat asks for something else"),
                None => found.push((id, payload.memories)),
            }
        }
        found
    }

    async fn until_invocations(&self, count: usize) -> Vec<(InvocationId, Vec<MemoryId>)> {
        wait_until(SOON, || async { self.invocations().len() >= count }).await;
        self.invocations()
    }

    fn end(&self, id: InvocationId, state: &'static str) {
        self.told().states.insert(id, state);
    }

    async fn now(&self) -> Result<(Option<InvocationId>, u32), Problem> {
        let agent = "sofia".parse().unwrap();
        let request = ConsolidateRequest { agent, at_least: 2 };
        let started = self.mesh.ask::<MemoryConsolidate>(request).await?;
        Ok((started.invocation, started.memories))
    }
}

fn accept(told: &Mutex<Told>, request: AcceptRequest) -> Result<Invocation, Problem> {
    let mut told = told.lock().unwrap();
    if let Some(problem) = &told.refuses {
        return Err(problem.clone());
    }
    let id = request.request.invocation_id.unwrap();
    told.states.entry(id).or_insert("queued");
    told.accepted.push(request);
    Ok(invocation(id, "queued"))
}

fn invocation(id: InvocationId, state: &str) -> Invocation {
    let value = json!({
        "id": id, "tenant": "default", "agent": "sofia", "version": 1, "state": state, "session": null,
        "entrypoint": CONSOLIDATE_ENTRYPOINT, "priority": 2, "payload": null, "output": null, "error": null,
        "provider": null, "usage": {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}, "parent": null,
        "forked_from": null, "attempt": 1, "created_at": "2026-11-21T12:00:00Z", "started_at": null,
        "ended_at": null, "cursor": 1
    });
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn enough_episodic_memories_start_one_invocation_of_their_agent() {
    let world = World::start(3).await;
    let first = [world.store(1, json!({})).await, world.store(2, json!({})).await];
    world.store(3, json!({"type": "semantic"})).await;
    world.store(4, json!({"scope": "tenant"})).await;
    world.passes(2).await;
    assert_eq!(world.invocations(), [], "two are not enough");
    let third = world.store(5, json!({})).await;
    let started = world.until_invocations(1).await;
    assert_eq!(started[0].1, [first[0], first[1], third], "oldest first");
    let accepted = world.told().accepted[0].clone();
    assert_eq!(accepted.agent.as_str(), "sofia");
    assert_eq!(accepted.request.entrypoint.as_deref(), Some(CONSOLIDATE_ENTRYPOINT));
    assert!(accepted.request.session.is_none() && accepted.request.priority < Some(5));

    // While one is under way nothing else starts, and what it took is not taken again after it.
    for number in 6..9 {
        world.store(number, json!({})).await;
    }
    world.passes(2).await;
    assert_eq!(world.invocations().len(), 1);
    assert_eq!(
        world.now().await.unwrap(),
        (Some(started[0].0), 3),
        "it is told of, not repeated"
    );
    world.end(started[0].0, "completed");
    let started = world.until_invocations(2).await;
    assert_eq!(started[1].1.len(), 3);
    assert!(started[1].1.iter().all(|id| !started[0].1.contains(id)), "{started:?}");
}

#[tokio::test]
async fn a_failed_one_gives_its_memories_back_and_does_not_start_at_once_by_itself() {
    let world = World::start(2).await;
    let ids = [world.store(1, json!({})).await, world.store(2, json!({})).await];
    let started = world.until_invocations(1).await;
    world.end(started[0].0, "dead");
    world.passes(3).await;
    assert_eq!(world.invocations().len(), 1, "not before a while");
    let (again, count) = world.now().await.unwrap();
    assert!(
        again.is_some() && again != Some(started[0].0) && count == 2,
        "a person may"
    );
    assert_eq!(world.until_invocations(2).await[1].1, ids);
}

#[tokio::test]
async fn what_was_begun_and_not_accepted_is_accepted_later_under_the_same_id() {
    let world = World::start(0).await;
    world.told().refuses = Some(Problem::new(Code::Unavailable, "it starts"));
    for number in 1..4 {
        world.store(number, json!({})).await;
    }
    let (begun, count) = world.now().await.unwrap();
    assert_eq!(count, 3);
    world.passes(2).await;
    assert_eq!(world.invocations(), []);
    world.told().refuses = None;
    let started = world.until_invocations(1).await;
    assert_eq!(Some(started[0].0), begun);
    world.passes(2).await;
    assert_eq!(world.told().accepted.len(), 1);

    // Refused for good: the reason is told and the memories wait for another day.
    world.end(started[0].0, "completed");
    for number in 4..6 {
        world.store(number, json!({})).await;
    }
    world.told().refuses = Some(Problem::new(Code::AgentNotFound, "it is gone"));
    wait_until(SOON, || async { world.now().await.is_err() }).await;
    let refused = world.now().await.unwrap_err();
    assert!(refused.is(Code::AgentNotFound), "{refused}");
    world.told().refuses = None;
    assert_eq!(world.now().await.unwrap().1, 2, "they were given back");
}

#[tokio::test]
async fn memories_of_one_user_are_never_condensed_with_those_of_another() {
    let world = World::start(0).await;
    let of = |user: &str| json!({"scope": "user", "user": user});
    for number in 1..4 {
        world.store(number, of("ann")).await;
    }
    for number in 4..6 {
        world.store(number, of("bob")).await;
    }
    world.store(6, json!({"scope": "session", "session": "s1"})).await;
    world.store(7, json!({})).await;
    let (id, count) = world.now().await.unwrap();
    assert_eq!(count, 3);
    let accepted = world.told().accepted[0].clone();
    assert_eq!(accepted.request.context["user"], "ann");
    world.end(id.unwrap(), "completed");
    wait_until(SOON, || async { world.now().await.unwrap().0 != id }).await;
    let accepted = world.told().accepted.last().unwrap().clone();
    assert_eq!(accepted.request.context["user"], "bob");
    let second = world.invocations()[1].0;
    world.end(second, "completed");
    wait_until(SOON, || async { world.now().await.unwrap().0.is_none() }).await;
    assert_eq!(
        world.invocations().len(),
        2,
        "one of a session and one of the agent are no two"
    );
}

#[tokio::test]
async fn long_memories_are_taken_as_many_as_a_prompt_holds() {
    let world = World::start(0).await;
    for number in 1..5_u32 {
        let content = format!("{number} ").repeat(15 * 1024);
        let long = store(json!({"agent": "sofia", "content": content}));
        world.mesh.ask::<MemoryStore>(long).await.unwrap();
    }
    assert_eq!(world.now().await.unwrap().1, 2);
}

#[tokio::test]
async fn a_batch_is_what_that_agent_stored_in_the_order_of_its_ids() {
    let mesh = Mesh::start().await;
    let keep = |agent: &str, content: &str| {
        let metadata = json!({"user_message": "x"});
        store(json!({"agent": agent, "content": content, "metadata": metadata}))
    };
    let one = mesh
        .ask::<MemoryStore>(keep("sofia", "the sky is blue"))
        .await
        .unwrap()
        .id;
    let two = mesh
        .ask::<MemoryStore>(keep("sofia", "grass smells green"))
        .await
        .unwrap()
        .id;
    let other = mesh
        .ask::<MemoryStore>(keep("boris", "coal burns black"))
        .await
        .unwrap()
        .id;
    let gone = mesh
        .ask::<MemoryStore>(keep("sofia", "a passing thought"))
        .await
        .unwrap()
        .id;
    mesh.ask::<MemoryForget>(MemoryRequest { id: gone }).await.unwrap();
    let batch = |ids: Vec<MemoryId>| BatchRequest {
        agent: "sofia".parse().unwrap(),
        ids,
    };
    let found = mesh
        .ask::<MemoryBatch>(batch(vec![two, other, gone, one]))
        .await
        .unwrap();
    let ids: Vec<MemoryId> = found.items.iter().map(|memory| memory.id).collect();
    assert_eq!(ids, [two, one]);
    assert!(found.items.iter().all(|memory| memory.metadata.is_empty()));
    for wrong in [batch(Vec::new()), batch(vec![one; 101])] {
        let refused = mesh.ask::<MemoryBatch>(wrong).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("ids"), "{refused}");
    }
    let few = ConsolidateRequest {
        agent: "sofia".parse().unwrap(),
        at_least: 1,
    };
    let refused = mesh.ask::<MemoryConsolidate>(few).await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("at_least"));
}
