//! Tests of the declared agent.

use serde_json::json;

use super::*;

#[test]
fn what_is_left_out_takes_the_contracts_values() {
    let agent = Agent::from_json(json!({"metadata": {"name": "agent:sofia"}})).unwrap();
    assert_eq!(
        serde_json::to_value(&agent).unwrap(),
        json!({
            "apiVersion": "mesh/v1", "kind": "Agent", "metadata": {"name": "sofia"},
            "spec": {
                "runtime": "llm",
                "model": {"name": "gpt-4", "temperature": 0.7, "max_tokens": 1000, "fallbacks": []},
                "instructions": "", "capabilities": {},
                "context": {"history": 50, "recent": 10},
                "memory": {"query_top_k": 5, "writeback": true},
                "tools": [], "session": {"policy": "queue"},
                "limits": {"iterations": 12, "timeout": "120s", "concurrency": 16},
                "retry": {"attempts": 3, "backoff": "exponential"}
            }
        })
    );
}

#[test]
fn an_error_names_the_field() {
    let wrong = |value| Agent::from_json(value).unwrap_err();
    let problem = wrong(json!({"metadata": {"name": "a"}, "spec": {"model": {"temperature": 9}}}));
    assert_eq!(problem.field.as_deref(), Some("spec.model.temperature"));
    let problem = wrong(json!({"metadata": {"name": "a"}, "spec": {"modle": {}}}));
    assert!(problem.detail.contains("unknown field `modle`"));
    let problem = wrong(json!({"metadata": {"name": "a.*"}}));
    assert_eq!(problem.field.as_deref(), Some("metadata.name"));
    let problem = wrong(json!({"metadata": {"name": "a"}, "spec": {"limits": {"timeout": "soon"}}}));
    assert!(problem.detail.contains("120s"), "{problem:?}");
}

#[test]
fn the_flat_form_is_kept_as_a_container_that_cannot_be_published() {
    let agent = Agent::from_json(json!({
        "name": "old", "docker_image": "repo/x:1", "cpu_limit": "500m", "memory_limit": "256Mi", "env_vars": {"A": "1"}
    }))
    .unwrap();
    assert_eq!(agent.spec.runtime, Runtime::Container);
    assert_eq!(agent.spec.container.as_ref().unwrap().env["A"], "1");
    assert!(agent.publishable().unwrap_err().is(Code::RuntimeNotAvailable));
    assert!(Agent::from_json(json!({"name": "old", "docker_image": "x", "gpu": 1})).is_err());
}

#[test]
fn a_span_survives_its_text() {
    for text in ["250ms", "10s", "120s", "5m", "2h", "0ms"] {
        let span: Span = text.parse().unwrap();
        assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
    }
    assert_eq!(Span(Duration::from_secs(120)).to_string(), "120s");
    for text in ["", "10", "s", "-1s", "1.5s", "99999999999999999999d", "1w"] {
        assert!(text.parse::<Span>().is_err(), "{text}");
    }
}
