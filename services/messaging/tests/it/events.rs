//! Facts on EVENTS.

use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;
use serde_json::json;

use crate::setup::{Mesh, SOON};

#[tokio::test]
async fn a_channel_and_its_messages_are_told_once_each() {
    let mesh = Mesh::start().await;
    let mut events = mesh.bus.subscribe(&Filter::Events).await.unwrap();
    mesh.bus.flush().await.unwrap();
    for id in ["first", "first", "second"] {
        mesh.post("x", json!({"id": id})).await.unwrap();
    }
    mesh.post("another", json!({"id": "first"})).await.unwrap_err();
    mesh.post("x", json!({"id": "third"})).await.unwrap();
    let channel = || "general".parse().unwrap();
    let posted = |id: &str| Fact::MessagePosted {
        channel: channel(),
        message: id.parse().unwrap(),
    };
    for fact in [
        Fact::ChannelCreated { channel: channel() },
        posted("first"),
        posted("second"),
        posted("third"),
    ] {
        let message = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        let event: Event = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(event.fact, fact);
        assert_eq!(message.subject, event.subject().to_string());
        assert_eq!((event.actor.as_str(), event.tenant.as_str()), ("user:ann", "default"));
    }
}
