//! Server-sent events of an invocation as a client that can lose its connection reads them.

use std::time::Duration;

use futures::StreamExt;
use reqwest::Method;
use serde_json::Value;

use crate::harness::Http;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) data: Value,
}

/// All events from after `last` to the end of the stream.
pub(super) async fn events(http: &Http, invocation: &str, last: Option<&str>) -> Vec<Event> {
    read(http, invocation, last, usize::MAX).await
}

/// At most so many events; then the connection is cut.
pub(super) async fn read(http: &Http, invocation: &str, last: Option<&str>, most: usize) -> Vec<Event> {
    let mut request = http.request(Method::GET, &format!("/api/v1/invocations/{invocation}/events"));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    let response = request.timeout(Duration::from_secs(60)).send().await.unwrap();
    assert!(response.status().is_success(), "{response:?}");
    let mut bytes = response.bytes_stream();
    let (mut events, mut rest) = (Vec::new(), Vec::new());
    while events.len() < most
        && let Some(chunk) = bytes.next().await
    {
        rest.extend_from_slice(&chunk.expect("the stream goes on"));
        while events.len() < most
            && let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n")
        {
            let block: Vec<u8> = rest.drain(..end + 2).collect();
            events.extend(parse(&String::from_utf8(block).expect("UTF-8")));
        }
    }
    events
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let prefix = format!("{name}:");
        let line = block.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map(|value| value.strip_prefix(' ').unwrap_or(value).to_owned())
    };
    Some(Event {
        id: field("id"),
        name: field("event")?,
        data: serde_json::from_str(&field("data").unwrap_or_default()).unwrap_or_default(),
    })
}

/// What a reader shows in the end: the tokens since the last `reset`.
pub(super) fn shown(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        match event.name.as_str() {
            "reset" => text.clear(),
            "token" => text.push_str(event.data["text"].as_str().expect("a text")),
            _ => {}
        }
    }
    text
}
