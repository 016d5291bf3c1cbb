//! What went wrong in a trace is found in the log, on stdout and at the collector.

use serde_json::{Value, json};

use super::{Traced, outside};
use crate::harness::until;

pub(super) async fn a_failure_is_found_in_it(traced: &Traced) {
    let agent = traced.agent("mute", "mock:script:no-such-script", json!([])).await;
    let (trace, parent) = outside();
    let ended = traced.ask(&agent, "say something", &parent).await;
    assert_eq!(ended["state"], "failed", "{ended}");
    let step = traced.span(&trace, "chat mock:script:no-such-script").await;
    assert!(step.is_error && step.attributes["error.type"].contains('/'), "{step:?}");
    let run = traced.span(&trace, &format!("invoke_agent {agent}")).await;
    assert!(run.is_error, "{run:?}");
    let line = until(10, "the failure is in the log", || async {
        let text = traced.mesh.log_file();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .into_iter()
            .find(|line| line["message"] == "no model answered" && line["trace_id"] == trace.as_str())
    })
    .await;
    let span = line["span_id"].as_str().unwrap_or_default();
    assert_eq!(span.len(), 16, "{line}");
    // The same line, at the collector.
    let sent = until(10, "the line is sent", || async {
        let lines = traced.sink.lines();
        lines.into_iter().find(|sent| {
            sent.text == "no model answered" && (sent.trace.as_str(), sent.span.as_str()) == (&trace, span)
        })
    })
    .await;
    assert_eq!((sent.severity.as_str(), sent.process.as_str()), ("WARN", "mesh"));
    assert_eq!(sent.attributes["mesh.service"], "inference");
    let elsewhere = [
        "timestamp",
        "level",
        "target",
        "message",
        "trace_id",
        "span_id",
        "spans",
    ];
    for name in line.as_object().expect("an object").keys() {
        let is_there = elsewhere.contains(&name.as_str()) || sent.attributes.contains_key(name);
        assert!(is_there, "{name}: {sent:?}");
    }
}
