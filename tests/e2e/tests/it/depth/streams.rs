//! Streams that lose their connection: the joined tokens are the final text, nothing is lost and nothing repeated.

use std::collections::HashSet;

use futures::StreamExt;
use serde_json::{Value, json};

use super::sse::{Event, read, shown};
use super::{Field, llm, text};

/// Reads in pieces of so many events, each over a connection of its own, to the end.
async fn in_pieces(field: &Field, id: &str, most: usize) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let last = all.iter().rev().find_map(|event| event.id.clone());
        let piece = read(&field.http(), id, last.as_deref(), most).await;
        assert!(!piece.is_empty(), "it ended without its end: {:?}", all.last());
        all.extend(piece);
        if all.last().is_some_and(|event| event.name == "invocation.completed") {
            return all;
        }
    }
}

#[tokio::test]
async fn a_reader_that_loses_its_connection_shows_the_final_text() {
    let field = Field::shared().await;
    for (model, resets) in [("words", 0), ("halfway", 1)] {
        let agent = field
            .agent("talker", llm(&format!("mock:script:{model}"), json!([])))
            .await;
        let id = field.start(&agent, &json!({"payload": {"text": "talk"}})).await;
        let http = field.http();
        let (whole, some, few) = tokio::join!(
            super::sse::events(&http, &id, None),
            in_pieces(field, &id, 7),
            in_pieces(field, &id, 2)
        );
        let ended = field.get(&id).await;
        for events in [&whole, &some, &few] {
            assert_eq!(shown(events), text(&ended), "{model}: {events:?}");
            let count = |name: &str| events.iter().filter(|event| event.name == name).count();
            assert_eq!(
                (count("step.recorded"), count("invocation.completed")),
                (1, 1),
                "{model}: {events:?}"
            );
            assert!(count("token") > 1, "{model}: {events:?}");
            let ids: Vec<&String> = events.iter().filter_map(|event| event.id.as_ref()).collect();
            let distinct: HashSet<_> = ids.iter().collect();
            assert_eq!(distinct.len(), ids.len(), "{model}: an event came twice: {ids:?}");
        }
        let of_whole = whole.iter().filter(|event| event.name == "reset").count();
        assert_eq!(of_whole, resets, "{model}: {whole:?}");
    }
}

#[tokio::test]
async fn tokens_come_while_the_model_speaks() {
    let field = Field::shared().await;
    let agent = field.agent("talker", llm("mock:script:ramble", json!([]))).await;
    let id = field.start(&agent, &json!({"payload": {"text": "talk"}})).await;
    let http = field.http();
    let mut most = 3;
    let early = loop {
        let events = read(&http, &id, None, most).await;
        if events.iter().any(|event| event.name == "token") {
            break events;
        }
        most += 1;
    };
    let state = field.get(&id).await["state"].clone();
    assert_eq!(state, "running", "the whole answer was waited for: {early:?}");
    field.cli(&["cancel", &id]).await;
}

#[tokio::test]
async fn a_call_over_nats_streams_chunks_then_the_result_then_nothing() {
    let field = Field::shared().await;
    let client = field.mesh.nats().await;
    for model in ["words", "halfway"] {
        let agent = field
            .agent("talker", llm(&format!("mock:script:{model}"), json!([])))
            .await;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.unwrap();
        let body = json!({"payload": {"text": "talk"}, "stream": true}).to_string();
        let subject = format!("mesh.call.default.{agent}");
        client.publish_with_reply(subject, inbox, body.into()).await.unwrap();
        let mut messages: Vec<Value> = Vec::new();
        loop {
            let next = tokio::time::timeout(std::time::Duration::from_secs(30), answers.next()).await;
            let message = next.expect("an answer in time").expect("the subscription lives");
            if message.payload.is_empty() {
                break;
            }
            messages.push(serde_json::from_slice(&message.payload).unwrap());
        }
        let result = messages.pop().expect("a result");
        let mut said = (0, String::new());
        for chunk in &messages {
            let attempt = chunk["attempt"].as_u64().unwrap_or_else(|| panic!("no chunk: {chunk}"));
            if attempt != said.0 {
                said = (attempt, String::new());
            }
            assert_eq!(chunk["offset"], said.1.len(), "{chunk}");
            said.1.push_str(chunk["text"].as_str().unwrap());
        }
        assert!(messages.len() > 5, "{messages:?}");
        assert_eq!(said.1, text(&result), "{model}: {messages:?}");
    }
}
