//! Nodes, as a stranger speaks to `execution`: what a node may ask, lost grants, repeats, bodies that go ahead.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_api::endpoint::Access;
use mesh_api::execution::{CancelRequest, InvocationCancel, State};
use mesh_api::node::{
    AliveReply, AppendRequest, Bell, NextWord, NodeAppend, NodePut, NodeWork, OneAnswer, OneAppend, PART_BYTES_MAX,
    Put, PutRequest, Sent, Ticket, WireGrant, WireThen, WireWork, WorkRequest,
};
use mesh_api::{Caller, Endpoint};
use mesh_testkit::wait_until;
use mesh_types::subject::Filter;
use mesh_types::{Code, Subject, Tenant};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake_node::{FakeNode, accept, done, start};
use crate::figures::sum;
use crate::mesh::SOON;

#[tokio::test]
async fn a_claim_gives_what_is_needed_once_and_a_repeat_gives_the_same() {
    let (mesh, _process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    let all = futures::future::join_all((0..5).map(|_| accept(&mesh))).await;
    // What it is assigned is known by now.
    let early = node.one("early").await;
    node.append(&early.ticket, 2, Vec::new(), WireThen::Release).await;
    let first = node.claim("first", 8).await;
    assert_eq!(first.grants.len(), 3, "the agent's concurrency");
    assert!(all.iter().all(|invocation| invocation.attempt == 0));
    let again = node.claim("first", 8).await;
    assert_eq!(again.grants, first.grants, "the same request id");
    // What was released has a longer journal, and may come first: its lane has perhaps nothing else.
    let is_fresh = |grant: &&WireGrant| grant.ticket.invocation != early.ticket.invocation;
    let grant = first.grants.iter().find(is_fresh).unwrap();
    let work = grant.work.as_ref().unwrap();
    assert_eq!(work.journal.len(), 2, "accepted, claimed");
    assert_eq!(work.spec.limits.concurrency, 3);
    node.end(&grant.ticket, 2).await;
    mesh.ended(grant.ticket.invocation).await;
    assert!(FakeNode::new(&mesh, "other").claim("other", 1).await.grants.len() == 1);
}

#[tokio::test]
async fn a_node_is_rung_when_there_is_work_and_when_something_is_to_stop() {
    let (mesh, _process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    let subject = Subject::Bell {
        node: "one".parse().unwrap(),
    };
    let mut bells = mesh.bus.subscribe(&Filter::Only(subject)).await.unwrap();
    node.claim("announced", 4).await;
    let invocation = accept(&mesh).await;
    let rung = tokio::time::timeout(SOON, bells.next()).await.unwrap().unwrap();
    let bell: Bell = serde_json::from_slice(&rung.payload).unwrap();
    assert_eq!((bell.owner.as_str(), bell.stops), ("one", false));
    let grant = node.one("first").await;
    let cancel = CancelRequest {
        id: invocation.id,
        reason: None,
    };
    mesh.ask::<InvocationCancel>(cancel).await.unwrap();
    let stops = async {
        while let Some(rung) = bells.next().await {
            if serde_json::from_slice::<Bell>(&rung.payload).unwrap().stops {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, stops).await.expect("it is told to stop");
    assert_eq!(node.alive(&[&grant.ticket]).await.stop, [invocation.id]);
    let released = node.append(&grant.ticket, 2, Vec::new(), WireThen::Release).await;
    assert!(
        matches!(
            released,
            OneAnswer::Ok {
                next: NextWord::Stop,
                ..
            }
        ),
        "{released:?}"
    );
    let ended = mesh.ended(invocation.id).await;
    assert_eq!(ended.state, State::Cancelled, "{ended:?}");
}

#[tokio::test]
async fn a_lost_grant_is_runnable_again_after_two_alives() {
    let (mesh, _process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    accept(&mesh).await;
    let lost = node.one("lost").await;
    assert!(node.alive(&[]).await.stop.is_empty());
    assert!(node.claim("too early", 1).await.grants.is_empty());
    node.alive(&[]).await;
    let again = node.one("again").await;
    assert_eq!(
        (again.ticket.invocation, again.ticket.epoch),
        (lost.ticket.invocation, 2)
    );
    let stale = node
        .append(&lost.ticket, 2, vec![Sent::Here(done(1, json!(1)))], WireThen::GoOn)
        .await;
    assert_eq!(stale, OneAnswer::Stale);
    assert_eq!(node.alive(&[&lost.ticket]).await.stop, [lost.ticket.invocation]);
    // What is named stays.
    for _ in 0..3 {
        assert!(node.alive(&[&again.ticket]).await.stop.is_empty());
    }
    node.end(&again.ticket, 3).await;
    mesh.ended(again.ticket.invocation).await;
}

/// What a process that a node asked tells another one of it.
struct AliveHere;

impl Endpoint for AliveHere {
    const SERVICE: &'static str = "execution";
    const NAME: &'static str = "node-alive";
    type Request = Value;
    type Reply = AliveReply;
    const ACCESS: Access = Access::Service;
}

#[tokio::test]
async fn what_a_process_believes_to_be_anothers_is_not_lost() {
    let (mesh, process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    accept(&mesh).await;
    let Ticket {
        invocation,
        shard,
        epoch,
        ..
    } = node.one("first").await.ticket;
    let held = json!([{"invocation": invocation, "shard": shard, "epoch": epoch}]);
    let subject = Subject::Execution {
        instance: "one".parse().unwrap(),
        command: AliveHere::NAME.parse().unwrap(),
    };
    let caller = Caller::service("execution", Tenant::default());
    // Its directory is behind: nothing is asked of the owner, although it owns what is named.
    for (all, lost) in [(held, 0.0), (json!([]), 1.0)] {
        for _ in 0..3 {
            let part = json!({"node": "one", "request": {"incarnation": 1, "held": [], "all": all}});
            let told = mesh.bus.call_at::<AliveHere>(&subject, &caller, &part, SOON).await;
            let told = told.unwrap();
            assert!(told.stop.is_empty() && told.unanswered.is_empty(), "{told:?}");
        }
        let grants = [r#"reason="grant""#];
        assert_eq!(sum(&process.metrics, "mesh_leases_lost_total", &grants), lost, "{all}");
    }
}

#[tokio::test]
async fn a_ticket_is_good_for_its_node_and_epoch_alone() {
    let (mesh, _process) = start().await;
    let (node, thief) = (FakeNode::new(&mesh, "one"), FakeNode::new(&mesh, "thief"));
    accept(&mesh).await;
    let grant = node.one("first").await;
    let raised = Ticket {
        epoch: 2,
        ..grant.ticket.clone()
    };
    for (who, ticket) in [(&thief, &grant.ticket), (&node, &raised)] {
        let refused = who.append(ticket, 2, Vec::new(), WireThen::Release).await;
        let OneAnswer::Refused(problem) = refused else {
            panic!("{refused:?}")
        };
        assert!(problem.is(Code::Forbidden), "{problem}");
        let work = WorkRequest {
            ticket: ticket.clone(),
            offset: 0,
        };
        assert!(who.ask::<NodeWork>(&work).await.unwrap_err().is(Code::Forbidden));
    }
    let work = WorkRequest {
        ticket: grant.ticket.clone(),
        offset: 0,
    };
    let page = node.ask::<NodeWork>(&work).await.unwrap();
    let whole: WireWork = serde_json::from_slice(&BASE64.decode(page.bytes).unwrap()).unwrap();
    assert_eq!(whole, **grant.work.as_ref().unwrap());
    node.end(&grant.ticket, 2).await;
}

#[tokio::test]
async fn a_later_start_of_a_node_takes_over_from_an_earlier_one_at_once() {
    let (mesh, _process) = start().await;
    let mut node = FakeNode::new(&mesh, "one");
    accept(&mesh).await;
    let first = node.one("first").await;
    node.incarnation = 2;
    let second = node.one("second").await;
    assert_eq!(
        (second.ticket.invocation, second.ticket.epoch),
        (first.ticket.invocation, 2)
    );
    node.incarnation = 1;
    assert_eq!(node.alive(&[&first.ticket]).await.stop, [first.ticket.invocation]);
    accept(&mesh).await;
    assert!(node.claim("from the dead", 4).await.grants.is_empty());
}

#[tokio::test]
async fn a_large_body_goes_ahead_and_is_found_in_its_record() {
    let (mesh, _process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    accept(&mesh).await;
    let grant = node.one("first").await;
    let text = "0123456789abcdef".repeat(60_000);
    let fact = done(1, json!({"text": text}));
    let body = serde_json::to_vec(&fact).unwrap();
    let put = hex::encode(Sha256::digest(&body));
    let named = vec![Sent::Ahead(Put { put: put.clone() })];
    let missing = node.append(&grant.ticket, 2, named.clone(), WireThen::GoOn).await;
    assert!(matches!(missing, OneAnswer::Refused(_)), "{missing:?}");
    for (part, bytes) in (0..).zip(body.chunks(PART_BYTES_MAX)) {
        let request = PutRequest {
            ticket: grant.ticket.clone(),
            hash: put.clone(),
            part,
            bytes: BASE64.encode(bytes),
        };
        node.ask::<NodePut>(&request).await.unwrap();
    }
    let appended = node.append(&grant.ticket, 2, named, WireThen::GoOn).await;
    assert!(matches!(appended, OneAnswer::Ok { seq: 3, .. }), "{appended:?}");
    // By the next claim it is too large for the grant itself.
    node.append(&grant.ticket, 3, Vec::new(), WireThen::Release).await;
    let again = node.one("again").await;
    assert!(again.work.is_none());
    let mut whole = Vec::new();
    loop {
        let work = WorkRequest {
            ticket: again.ticket.clone(),
            offset: whole.len() as u64,
        };
        let page = node.ask::<NodeWork>(&work).await.unwrap();
        whole.extend(BASE64.decode(page.bytes).unwrap());
        if whole.len() as u64 == page.total {
            assert_eq!(hex::encode(Sha256::digest(&whole)), page.hash);
            break;
        }
    }
    let work: WireWork = serde_json::from_slice(&whole).unwrap();
    assert_eq!(work.journal[2].fact, fact);
    assert_eq!(
        mesh.count("SELECT count(DISTINCT hash) FROM execution.body").await,
        1,
        "nothing is left over"
    );
    node.end(&again.ticket, work.journal.last().unwrap().seq).await;
    mesh.ended(again.ticket.invocation).await;
}

#[tokio::test]
async fn an_append_finds_the_owner_wherever_its_shard_is_now() {
    let (mesh, one) = start().await;
    let node = FakeNode::new(&mesh, "one");
    futures::future::join_all((0..3).map(|_| accept(&mesh))).await;
    let grants = node.claim("first", 3).await.grants;
    assert_eq!(grants.len(), 3);
    let two = mesh.process("two").await;
    mesh.owned_by(&[("one", 8), ("two", 8)]).await;
    one.kill();
    // Sent again until it is known, as nodes do.
    for grant in &grants {
        wait_until(SOON, || async {
            let request = AppendRequest {
                incarnation: 1,
                appends: vec![OneAppend {
                    ticket: grant.ticket.clone(),
                    after_seq: 2,
                    facts: vec![Sent::Here(done(1, json!(1)))],
                    then: WireThen::GoOn,
                }],
            };
            let answer = node
                .ask::<NodeAppend>(&request)
                .await
                .map(|mut reply| reply.answers.remove(0));
            assert!(!matches!(answer, Ok(OneAnswer::Stale)), "it is held");
            matches!(answer, Ok(OneAnswer::Ok { seq: 3, .. }))
        })
        .await;
        node.end(&grant.ticket, 3).await;
        let ended = mesh.ended(grant.ticket.invocation).await;
        assert_eq!(ended.attempt, 1, "one claim");
    }
    two.stop().await;
}
