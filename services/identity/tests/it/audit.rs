//! The audit: who did what, who tried what; committed with the change and told as an event.

use mesh_api::PageQuery;
use mesh_api::identity::{
    AuditEntry, AuditList, AuditNote, AuditOutcome, AuditQuery, CredentialVerify, EdgeSecret, EdgeSecretRequest,
    VerifyRequest,
};
use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;
use serde_json::{Value, json};

use crate::setup::{Mesh, SOON, caller};

fn entry(actor: &str, subject: &str, outcome: AuditOutcome) -> AuditEntry {
    AuditEntry {
        actor: actor.into(),
        action: "memory.query".into(),
        subject: subject.into(),
        outcome,
        reason: "of another tenant".into(),
        before: Value::Null,
        after: json!({"k": 1}),
        request_id: None,
    }
}

#[tokio::test]
async fn a_fact_is_told_as_an_event_of_the_same_id() {
    let mesh = Mesh::start().await;
    let mut events = mesh
        .bus
        .subscribe(&Filter::EventsAbout("audit".parse().unwrap()))
        .await
        .unwrap();
    let made = mesh.key("ann").await;
    let message = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
    let event: Event = serde_json::from_slice(&message.payload).unwrap();
    let Fact::AuditNoted {
        action,
        subject,
        outcome,
        ..
    } = &event.fact
    else {
        panic!("{event:?}")
    };
    assert_eq!(
        (action.as_str(), subject, outcome.as_str()),
        ("key.create", &made.key.id, "done")
    );
    let facts = mesh.audit(AuditOutcome::Done).await;
    assert_eq!(facts[0].id, event.id.to_string());
}

#[tokio::test]
async fn the_secret_of_the_edge_stays_the_same_and_is_given_to_nobody_else() {
    let mesh = Mesh::start().await;
    let asked = |actor: &'static str, purpose: &'static str| {
        let purpose = purpose.to_owned();
        let mesh = &mesh;
        async move { mesh.call::<EdgeSecret>(actor, EdgeSecretRequest { purpose }).await }
    };
    let all = futures::future::join_all((0..8).map(|_| asked("service:gateway", "a2a-push"))).await;
    let secrets: Vec<String> = all.into_iter().map(|held| held.unwrap().secret).collect();
    assert_eq!(secrets[0].len(), 64);
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    let other = asked("service:gateway", "another").await.unwrap();
    assert_ne!(other.secret, secrets[0]);
    assert!(!format!("{other:?}").contains(&other.secret));
    for stranger in ["service:memory", "user:admin", "dev", ""] {
        let refused = asked(stranger, "a2a-push").await.unwrap_err();
        assert_eq!(refused.status, 403, "{stranger}: {refused}");
    }
    assert_eq!(asked("service:gateway", "a b").await.unwrap_err().status, 400);
}

#[tokio::test]
async fn a_thousand_wrong_knocks_are_a_few_rows_that_count_them() {
    let mesh = Mesh::start().await;
    let knocks = (0..1_000).map(|_| async {
        let request = VerifyRequest {
            credential: "mak_wrong".into(),
        };
        mesh.call::<CredentialVerify>("service:gateway", request)
            .await
            .unwrap_err()
    });
    let knocks: Vec<_> = knocks.collect();
    futures::stream::StreamExt::collect::<Vec<_>>(futures::stream::StreamExt::buffer_unordered(
        futures::stream::iter(knocks),
        50,
    ))
    .await;
    let count = || async {
        let facts = mesh.audit(AuditOutcome::Refused).await;
        let times: u64 = facts
            .iter()
            .map(|fact| fact.entry.after["times"].as_u64().unwrap_or(1))
            .sum();
        (facts.len(), times)
    };
    mesh_testkit::wait_until(SOON, || async { count().await.1 == 1_000 }).await;
    assert!(count().await.0 < 50, "{:?}", count().await);
}

#[tokio::test]
async fn facts_of_other_services_are_kept_for_their_tenant_and_its_administrators() {
    let mesh = Mesh::start().await;
    let daarion = caller("service:memory", "daarion");
    for (actor, subject) in [("user:ann", "a"), ("user:bob", "b")] {
        let fact = entry(actor, subject, AuditOutcome::Refused);
        mesh.bus.call::<AuditNote>(&daarion, &fact).await.unwrap();
    }
    let read = |actor: &'static str, tenant: &'static str, query: AuditQuery| {
        let mesh = &mesh;
        async move {
            let page = mesh
                .bus
                .call::<AuditList>(&caller(actor, tenant), &query)
                .await
                .unwrap();
            page.items
                .into_iter()
                .map(|fact| fact.entry.subject)
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(read("user:admin", "daarion", AuditQuery::default()).await, ["b", "a"]);
    assert_eq!(read("user:ann", "daarion", AuditQuery::default()).await, ["a"]);
    assert!(read("user:admin", "default", AuditQuery::default()).await.is_empty());
    let done = AuditQuery {
        outcome: Some(AuditOutcome::Done),
        ..AuditQuery::default()
    };
    assert!(read("user:admin", "daarion", done).await.is_empty());
    let one = AuditQuery {
        page: PageQuery {
            limit: Some(1),
            after: None,
        },
        action: Some("memory.query".into()),
        ..AuditQuery::default()
    };
    assert_eq!(read("user:admin", "daarion", one).await, ["b"]);
    mesh.stop().await;
}
