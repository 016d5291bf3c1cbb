//! What a ticket is still good for when its claim is over: a late result, and nothing else.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_api::execution::{AcceptRequest, InvocationAccept, InvokeRequest};
use mesh_api::journal::{Begun, Done, Effect, Fact, StepKind, Usage};
use mesh_api::node::{
    NodePut, NodeWork, OneAnswer, PART_BYTES_MAX, Put, PutRequest, Sent, Ticket, TicketHeld, TicketHeldReply,
    TicketHeldRequest, WireThen, WireWork, WorkReply, WorkRequest,
};
use mesh_api::road::{ByNode, Ticketed};
use mesh_types::{Code, Problem, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake_node::{FakeNode, start};
use crate::mesh::{Mesh, request};

async fn held(mesh: &Mesh, node: &str, ticket: &Ticket) -> bool {
    let request = TicketHeldRequest {
        node: node.parse().unwrap(),
        invocation: ticket.invocation,
        epoch: ticket.epoch,
    };
    mesh.ask::<TicketHeld>(request).await.unwrap().held
}

async fn work(node: &FakeNode<'_>, ticket: &Ticket) -> Result<WorkReply, Problem> {
    let ticket = ticket.clone();
    node.ask::<NodeWork>(&WorkRequest { ticket, offset: 0 }).await
}

async fn call(node: &FakeNode<'_>, ticket: &Ticket) -> Result<(), Problem> {
    let request = AcceptRequest {
        agent: "noop".parse().unwrap(),
        request: InvokeRequest::default(),
        wait_ms: 0,
    };
    let ticket = ticket.clone();
    let asked = Ticketed { ticket, request };
    node.ask::<ByNode<InvocationAccept>>(&asked).await.map(drop)
}

async fn part(node: &FakeNode<'_>, ticket: &Ticket, hash: &str, part: u32, bytes: &[u8]) -> Result<(), Problem> {
    let request = PutRequest {
        ticket: ticket.clone(),
        hash: hash.into(),
        part,
        bytes: BASE64.encode(bytes),
    };
    node.ask::<NodePut>(&request).await.map(drop)
}

async fn put(node: &FakeNode<'_>, ticket: &Ticket, body: &[u8]) -> Result<Put, Problem> {
    let put = hex::encode(Sha256::digest(body));
    for (index, bytes) in (0..).zip(body.chunks(PART_BYTES_MAX)) {
        part(node, ticket, &put, index, bytes).await?;
    }
    Ok(Put { put })
}

fn is_over<T: std::fmt::Debug>(refused: Result<T, Problem>) {
    let refused = refused.unwrap_err();
    assert!(
        refused.is(Code::Forbidden) && refused.detail.contains("the claim is over"),
        "{refused}"
    );
}

fn mail_begun() -> Fact {
    Fact::Begun(Begun {
        step: 1,
        kind: StepKind::Tool,
        name: "mail".into(),
        effect: Effect::AtMostOnce,
        input: json!({"to": "ann"}),
    })
}

fn mail_sent(output: Value) -> Fact {
    Fact::Done(Box::new(Done {
        step: 1,
        kind: StepKind::Tool,
        name: "mail".into(),
        effect: Effect::AtMostOnce,
        input: None,
        output: Some(output),
        error: None,
        usage: Usage::default(),
        attempt: 1,
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
    }))
}

#[tokio::test]
async fn whoever_is_asked_under_a_ticket_learns_whose_invocation_it_is() {
    let (mesh, _process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    let asked = request(json!({"session": "s1", "context": {"user": "ann"}, "metadata": {"user": "bob"}}));
    mesh.accept("placed", asked, Duration::ZERO).await.unwrap();
    let ticket = node.one("spoken").await.ticket;
    let about = |epoch| TicketHeldRequest {
        node: "one".parse().unwrap(),
        invocation: ticket.invocation,
        epoch,
    };
    let told = mesh.ask::<TicketHeld>(about(ticket.epoch)).await.unwrap();
    assert!(told.held);
    assert_eq!(
        (told.session.as_deref(), told.user.as_deref()),
        (Some("s1"), Some("ann"))
    );
    assert!(told.artifact.is_some_and(|hash| !hash.is_empty()));
    let other = mesh.ask::<TicketHeld>(about(ticket.epoch + 1)).await.unwrap();
    assert_eq!(
        other,
        TicketHeldReply::default(),
        "whoever does not hold it learns nothing"
    );
}

#[tokio::test]
async fn a_ticket_is_good_until_its_claim_is_over() {
    let (mesh, _process) = start().await;
    let (node, other) = (FakeNode::new(&mesh, "one"), FakeNode::new(&mesh, "other"));
    let first = node.one_after(&mesh, "first").await.ticket;
    assert!(held(&mesh, "one", &first).await);
    assert!(!held(&mesh, "other", &first).await, "another node's");
    work(&node, &first).await.unwrap();
    call(&node, &first).await.unwrap();
    node.append(&first, 2, Vec::new(), WireThen::Release).await;
    // Nobody holds it, then somebody else.
    assert!(!held(&mesh, "one", &first).await);
    is_over(work(&node, &first).await);
    let next = other.one("next").await;
    assert_eq!(next.ticket.epoch, 2);
    assert!(held(&mesh, "other", &next.ticket).await && !held(&mesh, "one", &first).await);
    is_over(work(&node, &first).await);
    is_over(call(&node, &first).await);
    work(&other, &next.ticket).await.unwrap();
    other
        .end(&next.ticket, next.work.unwrap().journal.last().unwrap().seq)
        .await;
    mesh.ended(next.ticket.invocation).await;
    for (who, ticket) in [(&node, &first), (&other, &next.ticket)] {
        assert!(!held(&mesh, who.name, ticket).await);
        is_over(work(who, ticket).await);
        is_over(call(who, ticket).await);
        is_over(put(who, ticket, b"{}").await);
    }
    assert_eq!(mesh.count("SELECT count(*) FROM execution.body").await, 0);
    let notes = mesh.world.notes.lock().unwrap().clone();
    assert!(notes.is_empty(), "who is late attacks nobody: {notes:?}");
}

#[tokio::test]
async fn a_late_result_goes_ahead_after_another_node_has_claimed() {
    let (mesh, _process) = start().await;
    let (gone, other) = (FakeNode::new(&mesh, "one"), FakeNode::new(&mesh, "other"));
    let first = gone.one_after(&mesh, "first").await.ticket;
    let began = gone
        .append(&first, 2, vec![Sent::Here(mail_begun())], WireThen::GoOn)
        .await;
    assert!(matches!(began, OneAnswer::Ok { seq: 3, .. }), "{began:?}");
    gone.lost().await;
    let next = other.one("next").await;
    assert_eq!(next.ticket.epoch, 2);
    let fact = mail_sent(json!({"text": "0123456789abcdef".repeat(2_000)}));
    let ahead = put(&gone, &first, &serde_json::to_vec(&fact).unwrap()).await.unwrap();
    let late = gone.append(&first, 3, vec![Sent::Ahead(ahead)], WireThen::GoOn).await;
    assert_eq!(late, OneAnswer::Stale, "it is to stop");
    let page = work(&other, &next.ticket).await.unwrap();
    let whole: WireWork = serde_json::from_slice(&BASE64.decode(page.bytes).unwrap()).unwrap();
    let told = whole.journal.last().unwrap();
    assert!(matches!(told.fact, Fact::Signalled(_)), "{told:?}");
    other.end(&next.ticket, told.seq).await;
    mesh.ended(next.ticket.invocation).await;
}

#[tokio::test]
async fn what_is_sent_ahead_and_never_named_is_bounded_by_invocation() {
    let (mesh, _process) = start().await;
    let node = FakeNode::new(&mesh, "one");
    let (full, free) = (
        node.one_after(&mesh, "full").await.ticket,
        node.one_after(&mesh, "free").await.ticket,
    );
    let bytes = vec![b'x'; PART_BYTES_MAX];
    let hash = |index: u32| hex::encode(Sha256::digest(index.to_be_bytes()));
    let fit = 64 * 1024 * 1024 / u32::try_from(PART_BYTES_MAX).unwrap();
    for index in 0..fit {
        part(&node, &full, &hash(index / 64), index % 64, &bytes).await.unwrap();
    }
    let refused = part(&node, &full, &hash(fit), 0, &bytes).await.unwrap_err();
    assert!(
        refused.is(Code::BodyTooLarge) && refused.detail.contains("64 MiB"),
        "{refused}"
    );
    // A repeat is none more, and others have their own.
    part(&node, &full, &hash(0), 0, &bytes).await.unwrap();
    part(&node, &free, &hash(0), 0, &bytes).await.unwrap();
    // 256 KiB are left: 16 of the smallest.
    for index in 0..16 {
        part(&node, &full, &hash(1_000 + index), 0, b"1").await.unwrap();
    }
    let refused = part(&node, &full, &hash(2_000), 0, b"1").await.unwrap_err();
    assert!(refused.is(Code::BodyTooLarge), "{refused}");
    for ticket in [&full, &free] {
        node.end(ticket, 2).await;
        mesh.ended(ticket.invocation).await;
    }
}
