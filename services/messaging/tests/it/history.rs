//! Reading: the newest, oldest first, page by page, each tenant its own.

use mesh_api::PageQuery;
use mesh_api::messaging::{ChannelList, MessagePost};
use mesh_types::Code;
use serde_json::json;

use crate::setup::{Mesh, request, texts};

#[tokio::test]
async fn history_is_the_newest_messages_oldest_first() {
    let mesh = Mesh::start().await;
    let mut ids = Vec::new();
    for number in 1..=7 {
        ids.push(mesh.post(&number.to_string(), json!({})).await.unwrap().id.to_string());
    }
    let page = mesh.history("general", 3, None).await.unwrap();
    assert_eq!(texts(&page), ["5", "6", "7"]);
    assert_eq!(page.next.as_deref(), Some(ids[4].as_str()));
    let page = mesh.history("general", 3, page.next.as_deref()).await.unwrap();
    assert_eq!(texts(&page), ["2", "3", "4"]);
    let page = mesh.history("general", 3, page.next.as_deref()).await.unwrap();
    assert_eq!((texts(&page), page.next), (vec!["1".to_owned()], None));
    let whole = mesh.history("general", 7, None).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (7, None));
    // Limits beyond the bounds are brought within.
    assert_eq!(texts(&mesh.history("general", 0, None).await.unwrap()), ["7"]);
    assert_eq!(mesh.history("general", u32::MAX, None).await.unwrap().items.len(), 7);
}

#[tokio::test]
async fn reading_before_an_unknown_message_is_a_clear_error() {
    let mesh = Mesh::start().await;
    mesh.post("x", json!({"id": "m", "channel": "second"})).await.unwrap();
    let problem = mesh.history("general", 5, Some("m")).await.unwrap_err();
    assert_eq!((problem.status, problem.field.as_deref()), (400, Some("before")));
}

/// Ten messages of 1 MiB do not fit into one message of the server.
#[tokio::test]
async fn a_history_of_large_messages_is_cut_to_what_a_reply_carries() {
    let mesh = Mesh::start().await;
    for number in 0..10 {
        mesh.post(&number.to_string().repeat(1_000_000), json!({}))
            .await
            .unwrap();
    }
    let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = mesh.history("general", 500, before.as_deref()).await.unwrap();
        assert!(!page.items.is_empty());
        seen.extend(page.items.iter().rev().map(|message| message.text[..1].to_owned()));
        pages += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..10).rev().map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(pages >= 2, "{pages}");
}

#[tokio::test]
async fn one_channel_in_two_tenants_is_two_channels() {
    let mesh = Mesh::start().await;
    mesh.post("mine", json!({"id": "m"})).await.unwrap();
    mesh.call_as::<MessagePost>("daarion", request("theirs", json!({"id": "m"})))
        .await
        .unwrap();
    assert_eq!(mesh.texts().await, ["mine"]);
    assert_eq!(
        texts(&mesh.history_as("daarion", "general", 50, None).await.unwrap()),
        ["theirs"]
    );
    assert_eq!(mesh.history_as("other", "general", 50, None).await.unwrap().items, []);
}

#[tokio::test]
async fn an_unknown_channel_is_empty_or_refused_as_the_configuration_says() {
    let mesh = Mesh::start().await;
    let empty = mesh.history("nowhere", 50, None).await.unwrap();
    assert_eq!((empty.items, empty.next), (vec![], None));
    let strict = Mesh::start_with(|config| config.auto_create_channels = false).await;
    let problems = [
        strict.history("nowhere", 50, None).await.unwrap_err(),
        strict.post("x", json!({})).await.unwrap_err(),
    ];
    for problem in problems {
        assert!(problem.is(Code::ChannelNotFound), "{problem:?}");
        assert!(problem.next.unwrap().contains("MESH_MESSAGING__AUTO_CREATE_CHANNELS"));
    }
}

#[tokio::test]
async fn channels_are_listed_by_their_newest_message_page_by_page() {
    let mesh = Mesh::start().await;
    for (text, channel) in [("1", "a"), ("2", "b"), ("3", "c"), ("4", "a")] {
        mesh.post(text, json!({"channel": channel})).await.unwrap();
    }
    let list = async |tenant: &str, after: Option<String>| {
        let limit = Some(2);
        mesh.call_as::<ChannelList>(tenant, PageQuery { limit, after }).await
    };
    let first = list("default", None).await.unwrap();
    let ids: Vec<_> = first.items.iter().map(|channel| channel.id.as_str()).collect();
    assert_eq!(ids, ["a", "c"]);
    assert!(first.items[0].last_message_at >= first.items[1].last_message_at);
    let second = list("default", first.next).await.unwrap();
    assert_eq!((second.items[0].id.as_str(), second.next), ("b", None));
    assert!(list("other", None).await.unwrap().items.is_empty());
    let problem = list("default", Some("b".to_owned())).await.unwrap_err();
    assert_eq!((problem.status, problem.field.as_deref()), (400, Some("after")));
}
