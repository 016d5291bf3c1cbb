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

/// Sum of the series of this name that have all these labels; `None` where there is none.
fn sum(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let of = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    });
    let values = of.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.reduce(|sum, value| sum + value)
}

#[tokio::test]
async fn the_servers_below_are_watched_and_one_that_goes_is_seen() {
    let mesh = Mesh::servers().await;
    let options = mesh_bus::BusOptions {
        monitor_url: Some(mesh.nats.monitor_url().to_owned()),
        ..mesh.bus.options().clone()
    };
    let metrics = mesh_runtime::Metrics::default();
    let bus = mesh_bus::Bus::connect(options).await.unwrap();
    let context = mesh_runtime::Context::new("reconciler", bus, metrics.clone());
    mesh.serve(&context, mesh.config());
    let text = || metrics.render().unwrap();
    wait_until(SOON, || async { sum(&text(), "mesh_nats_server_up", &[]) == Some(1.0) }).await;
    wait_until(SOON, || async { sum(&text(), "mesh_postgres_up", &[]) == Some(1.0) }).await;
    wait_until(SOON, || async {
        sum(&text(), "mesh_reconciler_leads", &[]) == Some(1.0)
    })
    .await;
    wait_until(SOON, || async {
        sum(&text(), "mesh_nodes", &[r#"status="online""#]).is_some()
    })
    .await;
    let passed = || async { sum(&text(), "mesh_reconciler_passes_total", &[]).is_some_and(|passes| passes > 0.0) };
    wait_until(SOON, passed).await;
    let shown = text();
    let above = |name: &str, labels: &[&str]| {
        let found = sum(&shown, name, labels);
        assert!(found.is_some_and(|found| found > 0.0), "{name} {labels:?}\n{shown}");
    };
    above("mesh_nats_server_memory_bytes", &[]);
    above("mesh_stream_bytes_max_bytes", &[r#"stream="INVOCATIONS""#]);
    above("mesh_postgres_connections", &[]);
    above("mesh_postgres_connections_max", &[]);
    above("mesh_postgres_transactions", &[r#"outcome="committed""#]);
    above("mesh_postgres_size_bytes", &[r#"schema="reconciler""#]);
    above("mesh_postgres_size_bytes", &[r#"schema="all""#]);
    above("mesh_postgres_blocks", &[r#"from="cache""#]);
    above("mesh_reconciler_passes_total", &[]);
    above("mesh_pool_size", &[r#"role="mesh_reconciler""#]);
    assert_eq!(
        sum(&shown, "mesh_consumer_pending", &[r#"stream="INVOCATIONS""#]),
        Some(0.0)
    );
    mesh.nats.stop().await;
    let gone = || async { sum(&text(), "mesh_nats_server_up", &[]) == Some(0.0) };
    wait_until(SOON.max(std::time::Duration::from_secs(40)), gone).await;
    assert_eq!(
        sum(&text(), "mesh_nats_server_memory_bytes", &[]),
        None,
        "what it was says nothing of now"
    );
    assert_eq!(sum(&text(), "mesh_postgres_up", &[]), Some(1.0));
    context.shutdown.cancel();
}
