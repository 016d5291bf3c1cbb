//! A service that is silent is degraded, since when, and told.

use mesh_testkit::wait_until;
use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;

use crate::setup::{Mesh, SOON};

#[tokio::test]
async fn a_silent_service_is_degraded_and_recovers() {
    let mesh = Mesh::servers().await;
    let mut config = mesh.config();
    config.interval_ms = 100;
    let mut events = mesh
        .bus
        .subscribe(&Filter::EventsAbout("service".parse().unwrap()))
        .await
        .unwrap();
    let memory = mesh.bus.service("memory", "0.0.0").start().await.unwrap();
    mesh.serve(&mesh.context, config);
    let state = async || {
        let services = mesh.brain().await.services;
        let memory = services.into_iter().find(|service| service.name == "memory");
        memory.map(|memory| (memory.instances, memory.degraded))
    };
    wait_until(SOON, || async { state().await == Some((1, false)) }).await;
    memory.drain(SOON).await;
    wait_until(SOON, || async { state().await == Some((0, true)) }).await;
    let back = mesh.bus.service("memory", "0.0.0").start().await.unwrap();
    wait_until(SOON, || async { state().await == Some((1, false)) }).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let message = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        let event: Event = serde_json::from_slice(&message.payload).unwrap();
        told.push(event.fact);
    }
    assert!(
        matches!(&told[0], Fact::ServiceDegraded { service, .. } if service.as_str() == "memory"),
        "{told:?}"
    );
    assert!(
        matches!(&told[1], Fact::ServiceRecovered { service, .. } if service.as_str() == "memory"),
        "{told:?}"
    );
    back.drain(SOON).await;
}
