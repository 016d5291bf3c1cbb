//! What one invocation may use: each limit ends it with a reason that names the limit.

use serde_json::{Value, json};

use super::{Field, llm, with};
use crate::harness::{kinds, unique, until};

#[tokio::test]
async fn each_limit_ends_an_invocation_with_its_name() {
    let field = Field::shared().await;
    let hang = field.http_tool("hang", &unique("hanging"), json!({"effect": "idempotent"}));
    for (model, tool, limits, reason, names) in [
        (
            "loop",
            json!("now"),
            json!({"iterations": 3}),
            "limit_iterations",
            "spec.limits.iterations of 3",
        ),
        (
            "many",
            json!("now"),
            json!({"tool_calls": 3}),
            "limit_tool_calls",
            "spec.limits.tool_calls of 3",
        ),
        (
            "counted",
            json!("now"),
            json!({"tokens": 100}),
            "limit_tokens",
            "spec.limits.tokens of 100",
        ),
        (
            "counted",
            json!("now"),
            json!({"cost_usd": 0.5}),
            "limit_cost",
            "spec.limits.cost_usd of 0.5",
        ),
        (
            "tools",
            hang,
            json!({"timeout": "700ms"}),
            "deadline_exceeded",
            "spec.limits.timeout of 700ms",
        ),
    ] {
        let spec = with(
            llm(&format!("mock:script:{model}"), json!([tool])),
            json!({"limits": limits}),
        );
        let agent = field.agent("limited", spec).await;
        let ended = field.ask(&agent, r#"{"hang": {"hangs": true}}"#).await;
        assert_eq!(
            (&ended["state"], &ended["reason"]),
            (&json!("failed"), &json!(reason)),
            "{ended}"
        );
        assert!(ended["error"]["detail"].as_str().unwrap().contains(names), "{ended}");
        // The list may lag a little.
        until(30, "the list of invocations says why", || async {
            let shown = field.cli(&["invocations", "--agent", &agent]).await;
            (shown.stdout.contains(reason) || shown.stdout.contains(names)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_stays_below_its_limits_is_not_ended() {
    let field = Field::shared().await;
    let limits = json!({"iterations": 2, "tool_calls": 1, "tokens": 111, "cost_usd": 1000});
    let spec = with(llm("mock:script:counted", json!(["now"])), json!({"limits": limits}));
    let agent = field.agent("modest", spec).await;
    let ended = field.ask(&agent, "count").await;
    assert_eq!(super::text(&ended), "done");
    assert_eq!(ended["usage"]["input_tokens"], 120, "{ended}");
    assert_eq!(ended["usage"]["output_tokens"], 100, "{ended}");
}

#[tokio::test]
async fn intermediate_steps_come_with_the_result_where_they_were_asked_for() {
    let field = Field::shared().await;
    let agent = field.agent("open", llm("mock:script:counted", json!(["now"]))).await;
    for asks in [false, true] {
        let body = json!({"payload": {"text": "count"}, "intermediate_steps": asks});
        let ended = field.http().invoke(&agent, "?wait=40", &body).await.expect(200);
        if !asks {
            assert!(ended.get("steps").is_none_or(Value::is_null), "{ended}");
            continue;
        }
        let steps = ended["steps"].as_array().expect("steps").clone();
        assert_eq!(kinds(&steps), ["model", "tool", "model"], "{ended}");
        assert_eq!(steps, field.http().steps(ended["id"].as_str().unwrap()).await);
        // Also to those who call over NATS.
        let client = field.mesh.nats().await;
        let answer = client
            .request(format!("mesh.call.default.{agent}"), body.to_string().into())
            .await
            .unwrap();
        let called: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(called["steps"].as_array().map(Vec::len), Some(3), "{called}");
    }
}
