//! Key-value buckets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mesh_bus::{Bucket, BusError};
use mesh_testkit::TestNats;

use crate::support::{SOON, connect, mesh};

#[tokio::test]
async fn a_watch_says_what_is_there_and_then_what_changes() {
    let (_nats, bus) = mesh().await;
    bus.kv_put(Bucket::Agents, "default.a", "1".into()).await.unwrap();
    let revision = bus.kv_put(Bucket::Agents, "default.a", "2".into()).await.unwrap();
    bus.kv_put(Bucket::Agents, "default.b", "1".into()).await.unwrap();
    let mut watch = bus.kv_watch(Bucket::Agents);
    let mut current = BTreeMap::new();
    while current.len() < 2 {
        let entry = watch.next().await.unwrap();
        current.insert(entry.key.clone(), (entry.value.unwrap(), entry.revision));
    }
    assert_eq!(current["default.a"], ("2".into(), revision));
    bus.kv_delete(Bucket::Agents, "default.b").await.unwrap();
    let entry = watch.next().await.unwrap();
    assert_eq!((entry.key.as_str(), entry.value), ("default.b", None));
    bus.kv_put(Bucket::Agents, "default.c", "3".into()).await.unwrap();
    assert_eq!(watch.next().await.unwrap().value.unwrap(), "3");
}

#[tokio::test]
async fn a_key_is_read_listed_and_forgotten() {
    let (_nats, bus) = mesh().await;
    assert_eq!(bus.kv_list(Bucket::Agents).await.unwrap(), []);
    assert_eq!(bus.kv_get(Bucket::Agents, "default.a").await.unwrap(), None);
    bus.kv_put(Bucket::Agents, "default.a", "1".into()).await.unwrap();
    let revision = bus.kv_put(Bucket::Agents, "default.b", "2".into()).await.unwrap();
    assert_eq!(bus.kv_get(Bucket::Agents, "default.a").await.unwrap().unwrap(), "1");
    bus.kv_delete(Bucket::Agents, "default.a").await.unwrap();
    assert_eq!(bus.kv_get(Bucket::Agents, "default.a").await.unwrap(), None);
    let listed = bus.kv_list(Bucket::Agents).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].key.as_str(), listed[0].revision), ("default.b", revision));
    let wild = bus.kv_put(Bucket::Agents, "default.*", "1".into()).await;
    assert!(matches!(wild, Err(BusError::Key { .. })));
    // Values over the bucket's limit are refused, at the limit they are taken.
    let largest = vec![b'x'; 64 * 1024];
    bus.kv_put(Bucket::Agents, "default.c", largest.clone().into())
        .await
        .unwrap();
    let over = bus
        .kv_put(Bucket::Agents, "default.c", [largest, vec![b'x']].concat().into())
        .await;
    assert!(matches!(over, Err(BusError::Refused { .. })), "{over:?}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_error() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    assert!(bus.kv_get(Bucket::Agents, "a").await.is_err());
    assert!(bus.kv_list(Bucket::Agents).await.is_err());
    assert!(bus.kv_put(Bucket::Agents, "a", "1".into()).await.is_err());
}

#[tokio::test]
async fn a_key_that_nobody_renews_expires_and_its_watchers_hear_of_it() {
    let (_nats, bus) = mesh().await;
    let second = Duration::from_secs(1);
    let mut watch = bus.kv_watch(Bucket::Presence);
    bus.kv_put_for(Bucket::Presence, "kitchen", "1".into(), 3 * second)
        .await
        .unwrap();
    bus.kv_put_for(Bucket::Presence, "cellar", "1".into(), 30 * second)
        .await
        .unwrap();
    let put = |key: &str| (key.to_owned(), Some(Bytes::from_static(b"1")));
    let mut next = async || {
        let entry = tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap();
        (entry.key, entry.value)
    };
    assert_eq!((next().await, next().await), (put("kitchen"), put("cellar")));
    let written = std::time::Instant::now();
    bus.kv_renew(Bucket::Presence, "kitchen", "2".into(), 5 * second)
        .await
        .unwrap();
    assert_eq!(next().await, ("kitchen".to_owned(), Some("2".into())));
    assert_eq!(next().await, ("kitchen".to_owned(), None));
    // Not when the first write's time was over.
    let lived = written.elapsed();
    assert!(lived >= Duration::from_millis(4_500), "{lived:?}");
    assert_eq!(bus.kv_get(Bucket::Presence, "kitchen").await.unwrap(), None);
    assert_eq!(bus.kv_get(Bucket::Presence, "cellar").await.unwrap().unwrap(), "1");
}
