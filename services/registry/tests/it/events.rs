//! Facts on EVENTS.

use mesh_api::registry::{AgentDelete, AgentRollback, RollbackRequest, TenantEnsure, TenantRequest};
use mesh_bus::Subscription;
use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;

use crate::setup::{Mesh, SOON, guarded, tenant};

async fn next(events: &mut Subscription) -> Event {
    let message = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
    let event: Event = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(message.subject, event.subject().to_string());
    event
}

#[tokio::test]
async fn every_change_is_told_once_in_its_order() {
    let mesh = Mesh::start().await;
    let mut events = mesh.bus.subscribe(&Filter::Events).await.unwrap();
    mesh.bus.flush().await.unwrap();
    mesh.apply("sofia", "one").await;
    mesh.apply("sofia", "one").await;
    let first = mesh.publish("sofia").await.unwrap();
    mesh.publish("sofia").await.unwrap();
    mesh.apply("sofia", "two").await;
    let second = mesh.publish("sofia").await.unwrap();
    mesh.call::<AgentRollback>(RollbackRequest {
        agent: "sofia".parse().unwrap(),
        version: 1,
    })
    .await
    .unwrap();
    mesh.call::<AgentDelete>(guarded("sofia", None)).await.unwrap();
    mesh.call::<AgentDelete>(guarded("sofia", None)).await.unwrap_err();
    let agent = || "sofia".parse().unwrap();
    let wanted = [
        Fact::TenantCreated {
            name: tenant("default"),
        },
        Fact::AgentCreated { agent: agent() },
        Fact::AgentPublished {
            agent: agent(),
            version: 1,
            hash: first.hash.clone(),
        },
        Fact::AgentUpdated {
            agent: agent(),
            generation: 2,
        },
        Fact::AgentPublished {
            agent: agent(),
            version: 2,
            hash: second.hash,
        },
        Fact::AgentPublished {
            agent: agent(),
            version: 1,
            hash: first.hash,
        },
        Fact::AgentDeleted { agent: agent() },
    ];
    for fact in wanted {
        let event = next(&mut events).await;
        assert_eq!(event.fact, fact);
        assert_eq!((event.actor.as_str(), event.tenant.as_str()), ("user:ann", "default"));
    }
}

#[tokio::test]
async fn a_tenant_is_told_of_under_its_own_name_and_once() {
    let mesh = Mesh::start().await;
    let mut events = mesh.bus.subscribe(&Filter::EventsOf(tenant("daarion"))).await.unwrap();
    mesh.bus.flush().await.unwrap();
    for _ in 0..2 {
        let view = mesh
            .call::<TenantEnsure>(TenantRequest {
                name: tenant("daarion"),
            })
            .await
            .unwrap();
        assert_eq!(view.name, tenant("daarion"));
    }
    assert_eq!(
        next(&mut events).await.fact,
        Fact::TenantCreated {
            name: tenant("daarion")
        }
    );
    mesh.call_as::<mesh_api::registry::AgentCreate>("daarion", crate::setup::agent("a", "x"))
        .await
        .unwrap();
    assert_eq!(
        next(&mut events).await.fact,
        Fact::AgentCreated {
            agent: "a".parse().unwrap()
        }
    );
}
