//! A node as a stranger speaks to `execution`, and what the rest of the mesh says of it.

use std::time::Duration;

use mesh_api::execution::{Invocation, State};
use mesh_api::journal::{Done, Effect, Ended, Fact, Outcome, StepKind, Usage};
use mesh_api::node::{
    AliveReply, AliveRequest, AppendRequest, ClaimReply, ClaimRequest, HeldWork, NodeAlive, NodeAppend, NodeClaim,
    OneAnswer, OneAppend, Sent, Ticket, WireGrant, WireThen,
};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bucket, Bus};
use mesh_testkit::wait_until;
use mesh_types::event;
use mesh_types::fleet::{AssignedReplica, Assignment};
use mesh_types::{EventId, Id, Problem, ReplicaId, Subject, Tenant, Timestamp};
use serde_json::{Value, json};

use crate::mesh::{Mesh, SOON, request};
use crate::process::Process;

pub(crate) struct FakeNode<'a> {
    pub(crate) bus: &'a Bus,
    pub(crate) name: &'static str,
    pub(crate) incarnation: u64,
}

impl<'a> FakeNode<'a> {
    pub(crate) fn new(mesh: &'a Mesh, name: &'static str) -> Self {
        Self {
            bus: &mesh.bus,
            name,
            incarnation: 1,
        }
    }

    pub(crate) async fn ask<E: Endpoint>(&self, request: &E::Request) -> Result<E::Reply, Problem> {
        let subject = Subject::NodeService {
            node: self.name.parse().unwrap(),
            service: "execution".parse().unwrap(),
            endpoint: E::NAME.parse().unwrap(),
        };
        let caller = Caller::service("nobody-looks", Tenant::default());
        self.bus.call_at::<E>(&subject, &caller, request, E::DEADLINE).await
    }

    pub(crate) async fn claim(&self, request_id: &str, free_slots: u32) -> ClaimReply {
        let request = ClaimRequest {
            owner: None,
            incarnation: self.incarnation,
            request_id: request_id.into(),
            free_slots,
            running: Vec::new(),
            ready: None,
        };
        self.ask::<NodeClaim>(&request).await.unwrap()
    }

    /// What it is to run, as the reconciler writes it.
    pub(crate) async fn assigned(&self, replicas: &[AssignedReplica], drained: bool) {
        let assignment = Assignment {
            generation: 1,
            epoch: 1,
            replicas: replicas.to_vec(),
            drained,
            others_max: None,
        };
        let value = serde_json::to_vec(&assignment).unwrap();
        let key = format!("node.{}", self.name);
        self.bus.kv_put(Bucket::Assignments, &key, value.into()).await.unwrap();
    }

    /// As `heartbeat` tells it.
    pub(crate) async fn lost(&self) {
        let fact = event::Fact::NodeLost {
            node: self.name.parse().unwrap(),
            incarnation: self.incarnation,
        };
        let event = event::Event {
            request_id: None,
            change: None,
            id: EventId::from_u128(self.incarnation.into()),
            tenant: Tenant::default(),
            at: Timestamp::EPOCH,
            actor: "service:heartbeat".into(),
            fact,
        };
        let payload = serde_json::to_vec(&event).unwrap();
        self.bus.publish(&event.subject(), payload.into()).await.unwrap();
    }

    /// Claims until there is something.
    pub(crate) async fn one(&self, request_id: &str) -> WireGrant {
        let found = std::sync::Mutex::new(None);
        let tries = std::sync::atomic::AtomicU32::new(0);
        wait_until(SOON, || async {
            let n = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let grants = self.claim(&format!("{request_id}-{n}"), 1).await.grants;
            *found.lock().unwrap() = grants.into_iter().next();
            found.lock().unwrap().is_some()
        })
        .await;
        found.into_inner().unwrap().unwrap()
    }

    /// Claims the one that is accepted now.
    pub(crate) async fn one_after(&self, mesh: &Mesh, request_id: &str) -> WireGrant {
        accept(mesh).await;
        self.one(request_id).await
    }

    pub(crate) async fn alive(&self, held: &[&Ticket]) -> AliveReply {
        let held = held.iter().map(|ticket| HeldWork {
            invocation: ticket.invocation,
            shard: ticket.shard,
            epoch: ticket.epoch,
        });
        let request = AliveRequest {
            incarnation: self.incarnation,
            held: held.collect(),
        };
        self.ask::<NodeAlive>(&request).await.unwrap()
    }

    pub(crate) async fn append(
        &self,
        ticket: &Ticket,
        after_seq: u32,
        facts: Vec<Sent<Fact>>,
        then: WireThen,
    ) -> OneAnswer {
        let append = OneAppend {
            ticket: ticket.clone(),
            after_seq,
            facts,
            then,
        };
        let request = AppendRequest {
            incarnation: self.incarnation,
            appends: vec![append],
        };
        self.ask::<NodeAppend>(&request).await.unwrap().answers.remove(0)
    }

    pub(crate) async fn end(&self, ticket: &Ticket, after_seq: u32) {
        let ended = WireThen::End(Sent::Here(Box::new(ended())));
        let answer = self.append(ticket, after_seq, Vec::new(), ended).await;
        assert!(matches!(answer, OneAnswer::Ok { .. }), "{answer:?}");
    }
}

/// One replica of an agent.
pub(crate) fn replica(agent: &str) -> AssignedReplica {
    AssignedReplica {
        replica: ReplicaId::from_u128(7),
        tenant: Tenant::default(),
        agent: agent.parse().unwrap(),
        version: 1,
        hash: String::new(),
        concurrency: 3,
        stopping: false,
        foreign: false,
    }
}

pub(crate) fn ended() -> Ended {
    Ended {
        outcome: Outcome::Completed,
        reason: None,
        output: Some(json!({"text": "ok"})),
        error: None,
        usage: Usage::default(),
        provider: None,
    }
}

pub(crate) fn done(step: u32, output: Value) -> Fact {
    Fact::Done(Box::new(Done {
        step,
        kind: StepKind::Noop,
        name: "noop".into(),
        effect: Effect::Pure,
        input: None,
        output: Some(output),
        error: None,
        usage: Usage::default(),
        attempt: 1,
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
    }))
}

/// A mesh with one process and the agent `placed`, which nodes `one`, `other` and `thief` run one replica of.
pub(crate) async fn start() -> (Mesh, Process) {
    let (mesh, process) = Mesh::start().await;
    let placed = json!({"runtime": "noop", "placement": {"replicas": 1}, "limits": {"concurrency": 3}});
    mesh.world.publish("default", "placed", &placed);
    for name in ["one", "other", "thief"] {
        FakeNode::new(&mesh, name).assigned(&[replica("placed")], false).await;
    }
    (mesh, process)
}

pub(crate) async fn accept(mesh: &Mesh) -> Invocation {
    let accepted = mesh.accept("placed", request(json!({})), Duration::ZERO).await.unwrap();
    assert_eq!(accepted.state, State::Queued);
    accepted
}
