//! The audit's chain: facts of all services in it, and every touch of the table shows.

use futures::future::join_all;
use mesh_api::audit::{AuditVerified, AuditVerify, AuditVerifyRequest};
use mesh_api::identity::{AuditEntry, AuditNote, AuditOutcome};
use mesh_testkit::wait_until;
use mesh_types::event::{Change, Event, Fact};
use mesh_types::{EventId, Id as _, RequestId, Tenant};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::setup::{Mesh, SOON};

async fn verify(mesh: &Mesh, noted: Option<String>) -> AuditVerified {
    mesh.call::<AuditVerify>("dev", AuditVerifyRequest { noted })
        .await
        .unwrap()
}

/// The chain when every noted fact has its place.
async fn settled(mesh: &Mesh, facts: u64) -> AuditVerified {
    wait_until(SOON, || async {
        let verified = verify(mesh, None).await;
        verified.unchained == 0 && verified.checked >= facts
    })
    .await;
    verify(mesh, None).await
}

async fn note(mesh: &Mesh, subject: usize) {
    let entry = AuditEntry {
        actor: "user:ann".into(),
        action: "thing.done".into(),
        subject: subject.to_string(),
        outcome: AuditOutcome::Done,
        reason: String::new(),
        before: Value::Null,
        after: json!({"n": subject}),
        request_id: None,
    };
    mesh.call::<AuditNote>("service:gateway", entry).await.unwrap();
}

/// Somebody with the keys of the database: the superuser, past row level security.
async fn touch(pool: &PgPool, statement: &'static str) {
    let touched = sqlx::query(statement).execute(pool).await.unwrap();
    assert!(touched.rows_affected() > 0, "{statement}");
}

#[tokio::test]
async fn facts_noted_at_once_in_two_processes_are_one_chain_and_each_touch_of_it_shows() {
    let mesh = Mesh::start().await;
    let _second = mesh.second_identity().await;
    join_all((0..60).map(|subject| note(&mesh, subject))).await;
    let whole = settled(&mesh, 60).await;
    assert!(whole.intact && whole.broken.is_none(), "{whole:?}");
    let pool = mesh.superuser().await;
    for (statement, mended) in [
        (
            "UPDATE identity.audit SET actor = 'user:nobody' WHERE seq = 7",
            "UPDATE identity.audit SET actor = 'user:ann' WHERE seq = 7",
        ),
        (
            "UPDATE identity.audit SET at = at + interval '1 microsecond' WHERE seq = 7",
            "UPDATE identity.audit SET at = at - interval '1 microsecond' WHERE seq = 7",
        ),
        (
            "UPDATE identity.audit_chain SET seq = seq - 1",
            "UPDATE identity.audit_chain SET seq = seq + 1",
        ),
    ] {
        touch(&pool, statement).await;
        let touched = verify(&mesh, None).await;
        assert!(!touched.intact, "{statement}");
        touch(&pool, mended).await;
        assert!(verify(&mesh, None).await.intact, "{mended}");
    }
    // Taken out, and all after it chained anew: only a head that was kept elsewhere tells.
    touch(&pool, "DELETE FROM identity.audit WHERE seq = 7").await;
    let broken = verify(&mesh, None).await.broken.unwrap();
    assert_eq!((broken.seq, broken.id), (7, None));
    // At once: in between, a process would go on from the head of before.
    touch(
        &pool,
        "WITH gone AS (DELETE FROM identity.audit_chain) UPDATE identity.audit SET seq = NULL, hash = NULL",
    )
    .await;
    note(&mesh, 61).await;
    let forged = settled(&mesh, 60).await;
    assert!(forged.intact, "{forged:?}");
    let told = verify(&mesh, Some(whole.head)).await;
    assert!(!told.intact, "{told:?}");
}

#[tokio::test]
async fn a_write_of_another_service_is_in_the_chain_once_and_what_a_service_does_by_itself_is_not() {
    let mesh = Mesh::start().await;
    let request = RequestId::from_u128(9);
    let event = |id: u128, actor: &str| Event {
        id: EventId::from_u128(id),
        tenant: Tenant::default(),
        at: mesh.now(),
        actor: actor.into(),
        request_id: Some(request),
        change: Some(Box::new(Change {
            before: json!({"n": 1}),
            after: json!({"n": 2}),
        })),
        fact: Fact::AgentUpdated {
            agent: "sofia".parse().unwrap(),
            generation: 2,
        },
    };
    for event in [
        event(1, "user:ann"),
        event(1, "user:ann"),
        event(2, "service:reconciler"),
        event(3, "node:kitchen"),
    ] {
        let body = serde_json::to_vec(&event).unwrap();
        let id = event.id.to_string();
        let headers = mesh_bus::Headers::new();
        mesh.bus
            .publish_durable(&event.subject(), &id, headers, body.into())
            .await
            .unwrap();
    }
    let known = || async {
        let facts = mesh.audit(AuditOutcome::Done).await;
        facts
            .into_iter()
            .filter(|fact| fact.entry.action == "agent.updated")
            .collect::<Vec<_>>()
    };
    wait_until(SOON, || async { known().await.len() == 2 }).await;
    let whole = settled(&mesh, 2).await;
    assert!(whole.intact, "{whole:?}");
    let facts = known().await;
    let ann = facts.iter().find(|fact| fact.entry.actor == "user:ann").unwrap();
    assert_eq!(
        (ann.entry.subject.as_str(), &ann.entry.after),
        ("sofia", &json!({"n": 2}))
    );
    assert_eq!(ann.entry.request_id, Some(request.to_string()));
    assert_eq!(
        facts.len(),
        2,
        "the same event twice is one fact, a service's own is none"
    );
}

#[tokio::test]
async fn what_is_old_is_pruned_from_the_chains_beginning_and_the_rest_still_holds() {
    let mesh = Mesh::start_with(|config| config.audit_days = 1).await;
    for subject in 0..5 {
        note(&mesh, subject).await;
    }
    let whole = settled(&mesh, 5).await;
    let pool = mesh.superuser().await;
    // What was written two days ago, chained as if it had been.
    touch(
        &pool,
        "UPDATE identity.audit SET at = at - interval '2 days', seq = NULL, hash = NULL",
    )
    .await;
    touch(&pool, "DELETE FROM identity.audit_chain").await;
    note(&mesh, 5).await;
    let chained = settled(&mesh, whole.checked + 1).await;
    assert!(chained.intact, "{chained:?}");
    // Another process looks for what is old at its start.
    let _second = mesh.second_identity().await;
    wait_until(SOON, || async { verify(&mesh, None).await.pruned > 0 }).await;
    let rest = verify(&mesh, None).await;
    assert!(rest.intact, "{rest:?}");
    assert_eq!(rest.pruned + rest.checked, chained.checked);
    assert_eq!(rest.head, chained.head);
}
