//! What the fleet decides: who may claim, which version new work is pinned to, who is gone; and what strangers are told.

use std::time::Duration;

use mesh_api::Endpoint;
use mesh_api::execution::{
    AcceptRequest, Demand, DemandRequest, ExecutionDemand, Invocation, InvocationAccept, InvokeRequest,
};
use mesh_api::identity::AuditOutcome;
use mesh_api::journal::TokenChunk;
use mesh_api::node::{Bell, NodeAppend, OneAnswer, Sent, TOKEN, Ticket, TokenBatch, WireThen};
use mesh_api::road::{ByNode, Ticketed};
use mesh_bus::{Bucket, Subscription};
use mesh_testkit::wait_until;
use mesh_types::fleet::{AssignedReplica, Serving};
use mesh_types::subject::Filter;
use mesh_types::{Code, Subject, Tenant};
use serde_json::json;

use crate::fake_node::{FakeNode, accept, done, replica, start};
use crate::figures::sum;
use crate::mesh::{Mesh, SOON, request};

async fn demand(mesh: &Mesh) -> Demand {
    mesh.ask::<ExecutionDemand>(DemandRequest {}).await.unwrap()
}

#[tokio::test]
async fn work_is_given_to_nodes_that_are_assigned_its_agent_and_to_no_others() {
    let (mesh, _process) = start().await;
    let [node, stranger, other] = ["one", "stranger", "other"].map(|name| FakeNode::new(&mesh, name));
    other.assigned(&[replica("another")], false).await;
    let waiting = accept(&mesh).await;
    assert_eq!(waiting.reason.as_deref(), Some("waits_for_node"));
    assert_eq!(mesh.get(waiting.id).await.reason.as_deref(), Some("waits_for_node"));
    let first = node.one("first").await;
    node.append(&first.ticket, 2, Vec::new(), WireThen::Release).await;
    assert!(
        stranger.claim("s", 4).await.grants.is_empty(),
        "nobody assigned it anything"
    );
    assert!(
        other.claim("o", 4).await.grants.is_empty(),
        "it is assigned another agent"
    );
    // What it had is not taken from it, but it gets nothing new.
    let second = node.one("second").await;
    accept(&mesh).await;
    let stops = AssignedReplica {
        stopping: true,
        ..replica("placed")
    };
    node.assigned(&[stops], false).await;
    other.assigned(&[replica("placed")], true).await;
    stranger.assigned(&[replica("placed"), replica("placed")], false).await;
    let third = stranger.one("third").await;
    assert!(node.claim("stopping", 4).await.grants.is_empty());
    assert!(other.claim("drained", 4).await.grants.is_empty());
    node.end(&second.ticket, second.work.unwrap().journal.last().unwrap().seq)
        .await;
    // Two replicas of three slots, one of which is used.
    futures::future::join_all((0..6).map(|_| accept(&mesh))).await;
    let more = stranger.claim("more", 8).await.grants;
    assert_eq!(more.len(), 6, "a node says what it runs: {:?}", third.ticket);
}

async fn bells(mesh: &Mesh, node: &str) -> Subscription {
    let node = node.parse().unwrap();
    mesh.bus.subscribe(&Filter::Only(Subject::Bell { node })).await.unwrap()
}

#[tokio::test]
async fn only_who_may_claim_what_waits_is_rung_and_an_assignment_rings() {
    let (mesh, _process) = start().await;
    let late = FakeNode::new(&mesh, "late");
    let (mut one, mut lates) = (bells(&mesh, "one").await, bells(&mesh, "late").await);
    accept(&mesh).await;
    let rung = tokio::time::timeout(SOON, one.next()).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Bell>(&rung.payload).unwrap().owner, "one");
    // It is rung again while it waits; whoever is not assigned hears nothing meanwhile.
    let again = tokio::time::timeout(SOON, one.next());
    tokio::select! {
        _ = lates.next() => panic!("it was not assigned anything"),
        again = again => { again.unwrap().unwrap(); }
    }
    late.assigned(&[replica("placed")], false).await;
    tokio::time::timeout(SOON, lates.next()).await.unwrap().unwrap();
}

/// Waits until the process hears of losses: by one that it is told of again and again.
async fn hears_of_losses(mesh: &Mesh) {
    let decoy = FakeNode::new(mesh, "thief");
    decoy.one_after(mesh, "decoy").await;
    wait_until(SOON, || async {
        decoy.lost().await;
        demand(mesh).await.agents.iter().any(|agent| agent.waiting == 1)
    })
    .await;
    let again = decoy.one("again").await;
    decoy.end(&again.ticket, 3).await;
    mesh.ended(again.ticket.invocation).await;
}

#[tokio::test]
async fn what_a_lost_node_held_goes_on_elsewhere_before_its_lease_is_over() {
    let (mesh, process) = start().await;
    hears_of_losses(&mesh).await;
    let (gone, other) = (FakeNode::new(&mesh, "one"), FakeNode::new(&mesh, "other"));
    let lost = gone.one_after(&mesh, "first").await;
    let lost_by = |reason| sum(&process.metrics, "mesh_leases_lost_total", &[reason]);
    let before = lost_by(r#"reason="node""#);
    gone.lost().await;
    let next = other.one("next").await;
    assert_eq!(
        (lost_by(r#"reason="node""#) - before, lost_by(r#"reason="lease""#)),
        (1.0, 0.0)
    );
    assert_eq!(
        (next.ticket.invocation, next.ticket.epoch),
        (lost.ticket.invocation, lost.ticket.epoch + 1)
    );
    // It was only cut off, and comes back too late.
    let late = gone
        .append(&lost.ticket, 2, vec![Sent::Here(done(1, json!(1)))], WireThen::GoOn)
        .await;
    assert_eq!(late, OneAnswer::Stale);
    assert_eq!(gone.alive(&[&lost.ticket]).await.stop, [lost.ticket.invocation]);
    other.end(&next.ticket, 3).await;
    mesh.ended(next.ticket.invocation).await;
}

#[tokio::test]
async fn a_node_that_is_back_before_anybody_claims_goes_on() {
    let (mesh, _process) = start().await;
    hears_of_losses(&mesh).await;
    let node = FakeNode::new(&mesh, "one");
    let held = node.one_after(&mesh, "first").await;
    node.lost().await;
    // Who has lost it does not hold it any more.
    wait_until(SOON, || async {
        demand(&mesh).await.agents.iter().any(|agent| agent.waiting == 1)
    })
    .await;
    assert!(node.alive(&[&held.ticket]).await.stop.is_empty());
    assert!(
        FakeNode::new(&mesh, "other")
            .claim("too late", 1)
            .await
            .grants
            .is_empty()
    );
    node.end(&held.ticket, 2).await;
    assert_eq!(mesh.ended(held.ticket.invocation).await.attempt, 1, "one claim");
}

#[tokio::test]
async fn new_work_is_pinned_to_what_serves() {
    let (mesh, _process) = start().await;
    assert_eq!(accept(&mesh).await.version, 1, "as published");
    let spec = json!({"runtime": "noop", "noop": {"steps": 2}, "placement": {"replicas": 1}});
    let serving = Serving {
        version: 7,
        hash: mesh.world.artifact(&spec),
        epoch: 1,
    };
    let value = serde_json::to_vec(&serving).unwrap();
    let bucket = Bucket::Assignments;
    mesh.bus
        .kv_put(bucket, "agent.default.placed", value.clone().into())
        .await
        .unwrap();
    mesh.bus
        .kv_put(bucket, "agent.default.noop", value.into())
        .await
        .unwrap();
    wait_until(SOON, || async { accept(&mesh).await.version == 7 }).await;
    let hosted = mesh.accept("noop", request(json!({})), Duration::ZERO).await.unwrap();
    assert_eq!(hosted.version, 1, "what runs here follows the published version");
    mesh.bus.kv_delete(bucket, "agent.default.placed").await.unwrap();
    wait_until(SOON, || async { accept(&mesh).await.version == 1 }).await;
}

#[tokio::test]
async fn demand_counts_what_waits_and_what_runs_over_all_owners() {
    let (mesh, _one) = start().await;
    let node = FakeNode::new(&mesh, "one");
    let two = mesh.process("two").await;
    mesh.owned_by(&[("one", 8), ("two", 8)]).await;
    futures::future::join_all((0..12).map(|_| accept(&mesh))).await;
    mesh.accept("slow", request(json!({})), Duration::ZERO).await.unwrap();
    let held = node.one("first").await;
    wait_until(SOON, || async { demand(&mesh).await.complete }).await;
    let all = demand(&mesh).await.agents;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(
        (all[0].agent.as_str(), all[0].waiting, all[0].running),
        ("placed", 11, 1)
    );
    assert!(all[0].oldest_waiting_ms > 0);
    node.end(&held.ticket, 2).await;
    wait_until(SOON, || async { demand(&mesh).await.agents[0].running == 0 }).await;
    two.stop().await;
}

#[tokio::test]
async fn a_foreign_ticket_is_in_the_audit() {
    let (mesh, _process) = start().await;
    let (node, thief) = (FakeNode::new(&mesh, "one"), FakeNode::new(&mesh, "thief"));
    let grant = node.one_after(&mesh, "first").await;
    for _ in 0..3 {
        let refused = thief.append(&grant.ticket, 2, Vec::new(), WireThen::Release).await;
        assert!(matches!(refused, OneAnswer::Refused(problem) if problem.is(Code::Forbidden)));
    }
    wait_until(SOON, || async { !mesh.world.notes.lock().unwrap().is_empty() }).await;
    let notes = mesh.world.notes.lock().unwrap().clone();
    assert!(notes.len() <= 2, "it is not filled: {notes:?}");
    let (note, append) = (&notes[0], format!("node.{}", NodeAppend::NAME));
    assert_eq!((note.actor.as_str(), &note.action), ("node:thief", &append));
    assert_eq!(note.outcome, AuditOutcome::Refused);
    node.end(&grant.ticket, 2).await;
}

#[tokio::test]
async fn an_invocation_on_a_node_calls_another_one_in_its_own_tenant() {
    let (mesh, _process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    let grant = node.one_after(&mesh, "first").await;
    let asked = |ticket: Ticket| Ticketed {
        ticket,
        request: AcceptRequest {
            agent: "noop".parse().unwrap(),
            request: InvokeRequest::default(),
            wait_ms: 0,
        },
    };
    let called: Invocation = node
        .ask::<ByNode<InvocationAccept>>(&asked(grant.ticket.clone()))
        .await
        .unwrap();
    assert_eq!(called.tenant, grant.ticket.tenant);
    mesh.ended(called.id).await;
    let elsewhere = Ticket {
        tenant: "rich".parse().unwrap(),
        ..grant.ticket.clone()
    };
    let refused = node.ask::<ByNode<InvocationAccept>>(&asked(elsewhere)).await;
    assert!(refused.unwrap_err().is(Code::Forbidden));
    node.end(&grant.ticket, 2).await;
}

async fn stream(node: &FakeNode<'_>, ticket: &Ticket, text: &str) {
    let chunk = TokenChunk {
        step: 1,
        epoch: ticket.epoch,
        attempt: 1,
        block: 0,
        offset: 0,
        text: text.into(),
    };
    let batch = TokenBatch {
        ticket: ticket.clone(),
        chunks: vec![chunk],
    };
    let subject = Subject::NodeService {
        node: node.name.parse().unwrap(),
        service: "execution".parse().unwrap(),
        endpoint: TOKEN.parse().unwrap(),
    };
    let payload = serde_json::to_vec(&batch).unwrap();
    node.bus.publish(&subject, payload.into()).await.unwrap();
}

#[tokio::test]
async fn tokens_of_who_holds_it_are_passed_on_and_of_nobody_else() {
    let (mesh, _process) = start().await;
    let (node, thief) = (FakeNode::new(&mesh, "one"), FakeNode::new(&mesh, "thief"));
    let first = node.one_after(&mesh, "first").await;
    let mut tokens = mesh.bus.subscribe(&Filter::TokensOf(Tenant::default())).await.unwrap();
    stream(&node, &first.ticket, "a").await;
    let heard = tokio::time::timeout(SOON, tokens.next()).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<TokenChunk>(&heard.payload).unwrap().text, "a");
    node.append(&first.ticket, 2, Vec::new(), WireThen::Release).await;
    let second = node.one("second").await;
    stream(&thief, &second.ticket, "stolen").await;
    stream(&node, &first.ticket, "late").await;
    let forged = Ticket {
        tenant: "rich".parse().unwrap(),
        ..second.ticket.clone()
    };
    stream(&node, &forged, "forged").await;
    stream(&node, &second.ticket, "b").await;
    let heard = tokio::time::timeout(SOON, tokens.next()).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<TokenChunk>(&heard.payload).unwrap().text, "b");
    node.end(&second.ticket, second.work.unwrap().journal.last().unwrap().seq)
        .await;
}

#[tokio::test]
async fn a_node_cannot_have_its_answer_sent_where_it_may_not_speak() {
    let (mesh, _process) = start().await;
    let client = async_nats::connect(mesh.nats.url()).await.unwrap();
    let mut deputy = client.subscribe("mesh.svc.registry.>").await.unwrap();
    let mut inbox = client.subscribe("_INBOX.mine").await.unwrap();
    let asked = || json!({"incarnation": 1, "request_id": "r", "free_slots": 1}).to_string();
    for reply in ["mesh.svc.registry.agent-delete", "_INBOX.mine"] {
        client
            .publish_with_reply("mesh.node.one.execution.claim", reply, asked().into())
            .await
            .unwrap();
    }
    let answered = futures::StreamExt::next(&mut inbox);
    tokio::time::timeout(SOON, answered).await.unwrap().unwrap();
    let misled = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut deputy));
    assert!(misled.is_none(), "{misled:?}");
}
