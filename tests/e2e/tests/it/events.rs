//! Server-sent events of an invocation: its states, steps and tokens as they come, and resuming without a gap or a
//! repeat.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Http, Mesh, unique};

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

/// All events from after `last` to the end of the stream.
async fn events(http: &Http, invocation: &str, last: Option<&str>) -> Vec<Event> {
    let mut request = http.request(Method::GET, &format!("/api/v1/invocations/{invocation}/events"));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    // The server ends the stream after the last event.
    let response = request.timeout(Duration::from_secs(60)).send().await.unwrap();
    assert!(response.status().is_success(), "{response:?}");
    let text = response.text().await.expect("the stream ends");
    text.split("\n\n").filter_map(parse).collect()
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let prefix = format!("{name}:");
        let line = block.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map(|value| value.trim_start().to_owned())
    };
    Some(Event {
        id: field("id"),
        name: field("event")?,
        data: serde_json::from_str(&field("data").unwrap_or_default()).unwrap_or_default(),
    })
}

fn text_of(events: &[Event]) -> String {
    let tokens = events.iter().filter(|event| event.name == "token");
    tokens.filter_map(|event| event.data["text"].as_str()).collect()
}

#[tokio::test]
async fn the_events_of_an_invocation_tell_its_steps_and_tokens_and_resume_without_a_gap() {
    let mesh = Mesh::shared().await;
    let (http, marker) = (mesh.http(), unique("said"));
    mesh.model.script(crate::harness::Script {
        of: marker.clone(),
        delay: Duration::from_millis(500),
        fails: None,
    });
    let body = json!({"payload": {"text": marker}});
    let accepted = http.invoke("sofia", "", &body).await.expect(202);
    let id = accepted["id"].as_str().unwrap();
    let live = events(&http, id, None).await;
    let names: Vec<&str> = live.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names.last(), Some(&"invocation.completed"), "{names:?}");
    let recorded = names.iter().filter(|name| **name == "step.recorded").count();
    assert_eq!(recorded, 3, "{names:?}");
    assert_eq!(text_of(&live), format!("The model heard: {marker}"), "{live:?}");
    // From every event on: exactly the states and steps that came after it.
    let facts = |events: &[Event]| -> Vec<Event> {
        let is_fact = |event: &&Event| !["token", "reset"].contains(&event.name.as_str());
        events.iter().filter(is_fact).cloned().collect()
    };
    for (at, event) in live.iter().enumerate() {
        let Some(last) = &event.id else { continue };
        let is_last = at + 1 == live.len();
        if is_last {
            let path = format!("/api/v1/invocations/{id}/events");
            let request = http.request(Method::GET, &path).header("Last-Event-ID", last);
            let nothing = request.send().await.unwrap();
            assert_eq!(nothing.status(), 204, "nothing follows the end");
        } else {
            let rest = events(&http, id, Some(last)).await;
            assert_eq!(facts(&rest), facts(&live[at + 1..]), "after {last}");
        }
    }
}
