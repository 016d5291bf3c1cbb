//! Which servers are worked on.

use mesh_bus::{LazySync, ServerRefused};
use mesh_testkit::TestNats;

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
