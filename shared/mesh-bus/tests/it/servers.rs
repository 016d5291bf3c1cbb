//! Which servers are worked on.

use bytes::Bytes;
use mesh_bus::{Bucket, Headers, LazySync, ServerRefused, topology};
use mesh_testkit::TestNats;
use mesh_types::Subject;

use crate::support::{connect, connect_with};

#[tokio::test]
async fn a_server_that_syncs_is_taken() {
    let nats = TestNats::start().await;
    let facts = connect(&nats).await.check_server(LazySync::Refuse).await.unwrap();
    assert_eq!(facts.sync_always, Some(true));
    assert!(facts.version.starts_with("2."), "{facts:?}");
}

#[tokio::test]
async fn a_server_that_syncs_lazily_is_refused_unless_allowed() {
    let nats = TestNats::start_with(|options| options.lazy_sync = true).await;
    let bus = connect(&nats).await;
    let refused = bus.check_server(LazySync::Refuse).await.unwrap_err();
    assert_eq!(refused, ServerRefused::LazySync);
    assert!(refused.to_string().contains("MESH_ALLOW_LAZY_SYNC=1"));
    let facts = bus.check_server(LazySync::Allow).await.unwrap();
    assert_eq!(facts.sync_always, Some(false));
}

#[tokio::test]
async fn a_server_that_is_not_seen_to_sync_counts_as_without() {
    let nats = TestNats::start().await;
    let other = TestNats::start().await;
    let blind = [
        (None, "no monitoring address"),
        (Some("http://127.0.0.1:1".to_owned()), "127.0.0.1:1"),
        (Some("ftp://127.0.0.1".to_owned()), "only http://"),
        (Some(nats.monitor_url().to_owned() + "/varz"), "404"),
        (Some(other.monitor_url().to_owned()), "another nats-server"),
    ];
    for (url, why) in blind {
        let bus = connect_with(&nats, |options| options.monitor_url = url).await;
        let refused = bus.check_server(LazySync::Refuse).await.unwrap_err();
        assert!(matches!(refused, ServerRefused::Unseen { .. }), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
        let facts = bus.check_server(LazySync::Allow).await.unwrap();
        assert_eq!(facts.sync_always, None);
    }
}

#[tokio::test]
async fn the_monitoring_shows_streams_with_their_limits_and_durable_consumers_with_what_waits() {
    let nats = TestNats::start().await;
    let url = format!("{}, http://127.0.0.1:1", nats.monitor_url());
    let bus = connect_with(&nats, |options| options.monitor_url = Some(url)).await;
    let topology = topology::standard();
    bus.apply_topology(&topology).await.unwrap();
    let subject = Subject::Invoke {
        tenant: "default".parse().unwrap(),
        agent: "sofia".parse().unwrap(),
    };
    for id in ["one", "two"] {
        let stored = bus.publish_durable(&subject, id, Headers::new(), Bytes::from_static(b"{}"));
        stored.await.unwrap();
    }
    let watch = bus.kv_watch(Bucket::Presence);
    let seen = bus.monitor().await;
    drop(watch);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].server, "127.0.0.1:1");
    assert!(seen[1].figures.is_err());
    let figures = seen[0].figures.as_ref().unwrap();
    assert!(figures.memory_bytes > 0 && figures.connections >= 1, "{figures:?}");
    let find = |name: &str| figures.streams.iter().find(|stream| stream.name == name).unwrap();
    let invocations = find("INVOCATIONS");
    assert_eq!(invocations.messages, 2);
    assert!(
        invocations.bytes > 0 && invocations.bytes_max.is_some(),
        "{invocations:?}"
    );
    let waiting: Vec<_> = invocations.consumers.iter().map(|consumer| consumer.pending).collect();
    assert_eq!(waiting, [2], "its one durable consumer");
    assert!(find("KV_PRESENCE").consumers.is_empty(), "a watch is no consumer");
}
