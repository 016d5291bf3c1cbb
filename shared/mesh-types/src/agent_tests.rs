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
fn what_an_agent_asks_of_its_memory_has_limits() {
    let declared = |memory: Value| {
        let agent = json!({"metadata": {"name": "a"}, "spec": {"memory": memory}});
        Agent::from_json(agent).map_err(|problem| problem.field.unwrap())
    };
    let bases = |count: usize| (0..count).map(|n| format!("base-{n}")).collect::<Vec<_>>();
    let spec = declared(json!({"knowledge": bases(16), "consolidate_after": 2}))
        .unwrap()
        .spec;
    assert_eq!((spec.memory.knowledge.len(), spec.memory.consolidate_after), (16, 2));
    assert!(declared(json!({"consolidate_after": 0, "knowledge": []})).is_ok());
    assert!(declared(json!({"consolidate_after": 1_000})).is_ok());
    for after in [1, 1_001] {
        let refused = declared(json!({"consolidate_after": after})).unwrap_err();
        assert_eq!(refused, "spec.memory.consolidate_after");
    }
    for bases in [bases(17), vec!["twice".to_owned(); 2]] {
        assert_eq!(
            declared(json!({"knowledge": bases})).unwrap_err(),
            "spec.memory.knowledge"
        );
    }
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

/// The field that is refused, below `spec`.
fn broken(spec: Value) -> Option<String> {
    let problem = Agent::from_json(json!({"metadata": {"name": "a"}, "spec": spec})).err()?;
    assert!(problem.is(Code::AgentInvalid), "{problem:?}");
    Some(problem.field.unwrap().strip_prefix("spec.").unwrap().to_owned())
}

#[test]
fn each_kind_of_tool_takes_what_is_its_own() {
    let tools = json!([
        "now",
        {"name": "http_get", "allow": ["example.org", "*.example.org", "10.0.0.1", "::1", "localhost"]},
        {"name": "lookup", "kind": "http", "url": "https://example.org:8443/x?y=z", "parameters": {"type": "object"},
         "returns": {}, "effect": "idempotent", "approval": "always", "timeout": "1h"},
        {"name": "helper", "kind": "agent", "agent": "researcher", "parameters": {"type": "object"}},
        {"name": "files", "kind": "mcp", "mcp": {"command": ["server", "--root", "/data"]}},
        {"name": "maps", "kind": "mcp", "mcp": {"url": "http://[::1]:9000/mcp", "tool": "find place"}, "timeout": "1ms"},
        {"name": "sum", "kind": "script", "script": {"command": ["/bin/sum"], "timeout": "2s", "memory": "256MB"}},
    ]);
    assert_eq!(broken(json!({"tools": tools})), None);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_tool_is_refused_at_the_field_that_is_wrong() {
    let http = |more: Value| {
        let mut tool = json!({"name": "x", "kind": "http", "url": "https://a.example/"});
        tool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        tool
    };
    for (tool, field) in [
        (json!("nope"), "name"),
        (json!({"name": "x"}), "name"),
        (http(json!({"name": ""})), "name"),
        (http(json!({"name": "a b"})), "name"),
        (http(json!({"name": "x".repeat(65)})), "name"),
        (http(json!({"parameters": [1]})), "parameters"),
        (http(json!({"parameters": true})), "parameters"),
        (http(json!({"returns": "text"})), "returns"),
        (json!({"name": "now", "parameters": {}}), "parameters"),
        (http(json!({"timeout": "0ms"})), "timeout"),
        (http(json!({"timeout": "3601s"})), "timeout"),
        (http(json!({"url": "ftp://a.example/"})), "url"),
        (http(json!({"url": "https:///path"})), "url"),
        (http(json!({"url": "https://u:p@/path"})), "url"),
        (http(json!({"url": "https://a.example/a b"})), "url"),
        (json!({"name": "x", "kind": "http"}), "url"),
        (json!({"name": "now", "url": "https://a.example/"}), "url"),
        (http(json!({"agent": "b"})), "agent"),
        (json!({"name": "x", "kind": "agent"}), "agent"),
        (json!({"name": "x", "kind": "mcp"}), "mcp"),
        (http(json!({"mcp": {"url": "https://a.example/"}})), "mcp"),
        (json!({"name": "x", "kind": "mcp", "mcp": {}}), "mcp"),
        (
            json!({"name": "x", "kind": "mcp", "mcp": {"command": ["a"], "url": "https://a.example/"}}),
            "mcp",
        ),
        (
            json!({"name": "x", "kind": "mcp", "mcp": {"command": [""]}}),
            "mcp.command",
        ),
        (
            json!({"name": "x", "kind": "mcp", "mcp": {"command": ["a", "\u{0}"]}}),
            "mcp.command",
        ),
        (
            json!({"name": "x", "kind": "mcp", "mcp": {"url": "a.example"}}),
            "mcp.url",
        ),
        (
            json!({"name": "x", "kind": "mcp", "mcp": {"command": ["a"], "tool": ""}}),
            "mcp.tool",
        ),
        (json!({"name": "x", "kind": "script"}), "script"),
        (http(json!({"script": {"command": ["a"]}})), "script"),
        (
            json!({"name": "x", "kind": "script", "script": {"command": []}}),
            "script.command",
        ),
        (
            json!({"name": "x", "kind": "script", "script": {"command": ["a"], "memory": "much"}}),
            "script",
        ),
        (
            json!({"name": "x", "kind": "script", "script": {"command": ["a"], "timeout": "2h"}}),
            "script",
        ),
        (http(json!({"allow": ["a.example"]})), "allow"),
        (json!({"name": "now", "allow": ["a.example"]}), "allow"),
        (json!({"name": "http_get", "allow": ["https://a.example"]}), "allow"),
        (json!({"name": "http_get", "allow": ["a.example:80"]}), "allow"),
        (json!({"name": "http_get", "allow": ["*"]}), "allow"),
        (json!({"name": "http_get", "allow": ["a.*.example"]}), "allow"),
    ] {
        let at = broken(json!({"tools": ["recall", tool.clone()]}));
        assert_eq!(at, Some(format!("tools[1].{field}")), "{tool}");
    }
    assert_eq!(
        broken(json!({"tools": ["now", http(json!({"name": "now"}))]})),
        Some("tools[1].name".into())
    );
    let many = |count: usize| {
        (0..count)
            .map(|n| http(json!({"name": format!("t{n}")})))
            .collect::<Vec<_>>()
    };
    assert_eq!(broken(json!({"tools": many(128)})), None);
    assert_eq!(broken(json!({"tools": many(129)})), Some("tools".into()));
}

#[test]
fn a_runtime_needs_its_own_part_and_no_other() {
    let script = json!({"command": ["/bin/true"], "timeout": "24h", "memory": "1 GiB"});
    let cli =
        json!({"driver": "codex", "executable": "/opt/codex", "args": ["--fast"], "timeout": "1h", "memory": "1g"});
    let http = json!({"url": "https://a.example/agent", "timeout": "5m", "effect": "idempotent"});
    for spec in [
        json!({"runtime": "script", "script": script}),
        json!({"runtime": "cli", "cli": cli}),
        json!({"runtime": "http", "http": http}),
        json!({"runtime": "noop"}),
    ] {
        let agent = Agent::from_json(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        agent.publishable().unwrap();
    }
    for (spec, field) in [
        (json!({"runtime": "script"}), "script"),
        (json!({"runtime": "cli"}), "cli"),
        (json!({"runtime": "http"}), "http"),
        (json!({"script": script}), "script"),
        (json!({"runtime": "script", "script": script, "cli": cli}), "cli"),
        (json!({"runtime": "cli", "cli": cli, "http": http}), "http"),
        (
            json!({"runtime": "script", "script": {"command": []}}),
            "script.command",
        ),
        (
            json!({"runtime": "script", "script": {"command": ["a"], "timeout": "25h"}}),
            "script.timeout",
        ),
        (
            json!({"runtime": "script", "script": {"command": ["a"], "memory": "0MB"}}),
            "script.memory",
        ),
        (json!({"runtime": "cli", "cli": {"driver": "vim"}}), "cli.driver"),
        (
            json!({"runtime": "cli", "cli": {"driver": "codex", "executable": ""}}),
            "cli.args",
        ),
        (
            json!({"runtime": "cli", "cli": {"driver": "codex", "args": ["\u{0}"]}}),
            "cli.args",
        ),
        (
            json!({"runtime": "cli", "cli": {"driver": "codex", "memory": "1XB"}}),
            "cli",
        ),
        (json!({"runtime": "http", "http": {"url": "a.example"}}), "http.url"),
        (
            json!({"runtime": "http", "http": {"url": "https://a.example", "timeout": "0ms"}}),
            "http.timeout",
        ),
    ] {
        assert_eq!(broken(spec.clone()), Some(field.to_owned()), "{spec}");
    }
    let wasm = Agent::from_json(json!({"metadata": {"name": "a"}, "spec": {"runtime": "wasm"}})).unwrap();
    assert!(wasm.publishable().unwrap_err().is(Code::RuntimeNotAvailable));
}

#[test]
fn limits_are_taken_at_their_bounds_and_not_beyond() {
    let limit = |name: &str, value: Value| broken(json!({"limits": {name: value}}));
    for (name, bounds, beyond) in [
        (
            "tool_calls",
            [json!(0), json!(100_000)],
            [json!(100_001), json!(100_002)],
        ),
        (
            "tokens",
            [json!(1), json!(1_000_000_000)],
            [json!(0), json!(1_000_000_001)],
        ),
        ("cost_usd", [json!(0.0), json!(25.5)], [json!(-0.01), json!(-1)]),
        ("children", [json!(0), json!(1_000)], [json!(1_001), json!(1_002)]),
        ("depth", [json!(0), json!(64)], [json!(65), json!(66)]),
    ] {
        for value in bounds {
            assert_eq!(limit(name, value.clone()), None, "{name} {value}");
        }
        for value in beyond {
            assert_eq!(
                limit(name, value.clone()),
                Some(format!("limits.{name}")),
                "{name} {value}"
            );
        }
    }
}

#[test]
fn a_placement_left_short_keeps_its_bytes_and_takes_the_defaults() {
    let declared = json!({"replicas": 2, "node_selector": {"region": "eu"}});
    let placement: Placement = serde_json::from_value(declared.clone()).unwrap();
    assert_eq!(serde_json::to_value(&placement).unwrap(), declared);
    assert_eq!((placement.rollout.surge, placement.rollout.unavailable), (1, 0));
    let whole = json!({
        "replicas": 2, "node_selector": {}, "spread": "region",
        "autoscaling": {"min": 0, "max": 4, "queue_per_replica": 2, "tokens_per_second_per_replica": 50.5, "idle_seconds": 60},
        "rollout": {"surge": 0, "unavailable": 1, "health_seconds": 10},
    });
    let placement: Placement = serde_json::from_value(whole.clone()).unwrap();
    assert_eq!(serde_json::to_value(&placement).unwrap(), whole);
    assert_eq!(broken(json!({"placement": whole})), None);
}

#[test]
fn a_placement_that_cannot_be_kept_is_refused_by_field() {
    let cases = [
        (json!({"replicas": 10_001}), "placement.replicas"),
        (json!({"node_selector": {"": "x"}}), "placement.node_selector"),
        (json!({"autoscaling": {"max": 0}}), "placement.autoscaling.max"),
        (
            json!({"autoscaling": {"min": 3, "max": 2}}),
            "placement.autoscaling.min",
        ),
        (
            json!({"autoscaling": {"queue_per_replica": 0}}),
            "placement.autoscaling.queue_per_replica",
        ),
        (
            json!({"autoscaling": {"tokens_per_second_per_replica": 0.0}}),
            "placement.autoscaling.tokens_per_second_per_replica",
        ),
        (
            json!({"autoscaling": {"idle_seconds": 86_401}}),
            "placement.autoscaling.idle_seconds",
        ),
        (json!({"rollout": {"surge": 0, "unavailable": 0}}), "placement.rollout"),
        (
            json!({"rollout": {"health_seconds": 0}}),
            "placement.rollout.health_seconds",
        ),
    ];
    for (placement, field) in cases {
        assert_eq!(broken(json!({"placement": placement})).as_deref(), Some(field));
    }
}
