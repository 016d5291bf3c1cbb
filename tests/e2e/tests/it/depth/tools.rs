//! Tools: what a model calls is checked, runs under its effect class, and comes back to the model.

use serde_json::{Value, json};

use super::{Entry, Field, llm, of_kind, text, with};
use crate::harness::unique;

const CITY: &str = "city";

fn parameters() -> Value {
    json!({"type": "object", "properties": {CITY: {"type": "string"}, "delay_ms": {"type": "integer"}},
        "required": [CITY], "additionalProperties": false})
}

#[tokio::test]
async fn tools_of_each_effect_class_run_together_and_their_results_come_back() {
    let field = Field::shared().await;
    let classes = ["pure", "idempotent", "at_most_once"];
    let places: Vec<String> = classes.iter().map(|class| unique(class)).collect();
    let mut tools: Vec<Value> = classes
        .iter()
        .zip(&places)
        .map(|(class, place)| field.http_tool(class, place, json!({"effect": class, "parameters": parameters()})))
        .collect();
    // What is not declared runs at most once.
    tools[2].as_object_mut().unwrap().remove("effect");
    let agent = field.agent("classes", llm("mock:script:tools", json!(tools))).await;
    let asked = json!({CITY: "Kyiv", "delay_ms": 2_000}).to_string();
    let ended = field.ask(&agent, &asked).await;
    assert_eq!(text(&ended).matches("Kyiv").count(), 3, "{ended}");
    let id = ended["id"].as_str().unwrap();
    let steps = field.http().steps(id).await;
    let entries: Vec<Entry> = places.iter().flat_map(|place| field.outside.entries(place)).collect();
    assert_eq!(entries.len(), 3, "{entries:?}");
    for (class, entry) in classes.iter().zip(&entries) {
        let of_tool = of_kind(&steps, "tool");
        let step = of_tool.iter().find(|step| step["name"] == *class).expect(class);
        assert_eq!(step["effect"], *class);
        assert_eq!(entry.key, format!("{id}/{}", step["number"]), "{class}");
        assert_eq!(entry.body[CITY], "Kyiv");
        assert_eq!(step["output"]["heard"][CITY], "Kyiv");
    }
    let last_start = entries.iter().map(|entry| entry.started).max();
    let first_end = entries.iter().map(|entry| entry.ended.expect("answered")).min();
    assert!(last_start < first_end, "they ran one after the other: {entries:?}");
}

#[tokio::test]
async fn a_call_that_is_wrong_is_told_to_the_model_and_nothing_runs() {
    let field = Field::shared().await;
    for (model, said, told) in [
        ("mock:script:tools", json!({CITY: 7}), "is not of type"),
        ("mock:script:tools", json!({"town": "Kyiv"}), "town"),
        ("mock:script:no-json", json!({}), "not valid JSON"),
        (
            "mock:script:unknown-tool",
            json!({}),
            "there is no tool `rm`; the tools: lookup",
        ),
    ] {
        let place = unique("lookup");
        let tool = field.http_tool("lookup", &place, json!({"parameters": parameters()}));
        let agent = field.agent("wrong", llm(model, json!([tool]))).await;
        let ended = field.ask(&agent, &said.to_string()).await;
        assert!(text(&ended).contains(told), "{model}: {ended}");
        assert!(
            text(&ended).contains("The tool does not take these arguments"),
            "{model}: {ended}"
        );
        assert!(field.outside.entries(&place).is_empty(), "{model}: it ran");
    }
}

#[tokio::test]
async fn a_tool_that_fails_is_tried_again_as_its_effect_class_allows() {
    let field = Field::shared().await;
    for (effect, calls, told) in [
        ("idempotent", 2, "found"),
        ("pure", 2, "found"),
        ("at_most_once", 1, "error: The tool failed"),
    ] {
        let place = unique(effect);
        let tool = field.http_tool("lookup", &place, json!({"effect": effect}));
        let agent = field.agent("failing", llm("mock:script:tools", json!([tool]))).await;
        let ended = field
            .ask(
                &agent,
                &json!({"fails": 503, "times": 1, "answer": "found"}).to_string(),
            )
            .await;
        assert!(text(&ended).contains(told), "{effect}: {ended}");
        let entries = field.outside.entries(&place);
        assert_eq!(entries.len(), calls, "{effect}: {entries:?}");
        assert!(entries.iter().all(|entry| entry.key == entries[0].key), "{entries:?}");
    }
}

#[tokio::test]
async fn a_result_that_its_schema_does_not_take_and_a_slow_tool_are_told_as_errors() {
    let field = Field::shared().await;
    let returns = json!({"type": "object", "required": ["price"]});
    let tools = json!([
        field.http_tool("typed", &unique("typed"), json!({"returns": returns})),
        field.http_tool("slow", &unique("slow"), json!({"timeout": "300ms"})),
        {"name": "page", "kind": "builtin"},
    ]);
    let refused = field
        .http()
        .post(
            "/api/v1/agents",
            &json!({"metadata": {"name": unique("refused")},
        "spec": llm("mock", tools.clone())}),
        )
        .await;
    assert_eq!(refused.status, 422, "no builtin of that name: {}", refused.text);
    let tools = json!([tools[0], tools[1]]);
    let agent = field.agent("typed", llm("mock:script:tools", tools)).await;
    let asked = json!({"typed": {"answer": {"cost": 1}}, "slow": {"delay_ms": 2_000}});
    let ended = field.ask(&agent, &asked.to_string()).await;
    let steps = field.http().steps(ended["id"].as_str().unwrap()).await;
    let errors: Vec<String> = of_kind(&steps, "tool")
        .iter()
        .map(|step| step["error"].to_string())
        .collect();
    assert!(errors[0].contains("price"), "{errors:?}");
    assert!(errors[1].contains("300"), "{errors:?}");
    assert_eq!(text(&ended).matches("error: ").count(), 2, "{ended}");
}

#[tokio::test]
async fn builtins_read_and_write_the_mesh() {
    let field = Field::shared().await;
    let agent = field.agent("now", llm("mock:script:tools", json!(["now"]))).await;
    let ended = field.ask(&agent, "{}").await;
    assert!(
        text(&ended).contains(&ended["created_at"].as_str().unwrap()[..10]),
        "{ended}"
    );

    let agent = field
        .agent("rememberer", llm("mock:script:memory", json!(["remember", "recall"])))
        .await;
    let ended = field.ask(&agent, "the kettle is blue").await;
    assert!(
        text(&ended).matches("kettle").count() == 1 && text(&ended).contains("mem_"),
        "{ended}"
    );

    let agent = field
        .agent(
            "poster",
            llm("mock:script:channel", json!(["post_message", "summarize_channel"])),
        )
        .await;
    let channel = unique("channel");
    let body = json!({"payload": {"channel_id": channel, "text": "good news"}});
    let ended = field.http().invoke(&agent, "?wait=40", &body).await.expect(200);
    assert!(text(&ended).contains("posted: good news"), "{ended}");
    let messages = field.http().messages(&channel).await;
    let texts: Vec<&str> = messages.iter().filter_map(|message| message["text"].as_str()).collect();
    assert_eq!(
        texts.iter().filter(|text| **text == "posted: good news").count(),
        1,
        "{texts:?}"
    );
    assert!(
        messages.iter().all(|message| message["author"]["kind"] == "agent"),
        "{messages:?}"
    );
}

#[tokio::test]
async fn create_task_starts_an_invocation_of_its_own_where_the_agent_may() {
    let field = Field::shared().await;
    let worker = field.agent("worker", llm("mock:script:echo", json!([]))).await;
    let spec = llm("mock:script:tools", json!(["create_task"]));
    let forbidden = field.agent("humble", spec.clone()).await;
    let asked = json!({"agent": worker, "text": "sweep the floor"}).to_string();
    let ended = field.ask(&forbidden, &asked).await;
    assert_eq!(text(&ended), "No tool is offered.");
    let chief = field
        .agent("chief", with(spec, json!({"capabilities": {"can_create_tasks": true}})))
        .await;
    let ended = field.ask(&chief, &asked).await;
    let created: Value = serde_json::from_str(text(&ended)).expect("JSON");
    let task = field.http().until_ended(created["invocation"].as_str().unwrap()).await;
    assert_eq!(text(&task), "sweep the floor");
    assert_eq!(
        (&task["agent"], &task["parent"]),
        (&json!(worker), &Value::Null),
        "{task}"
    );
}

#[tokio::test]
async fn scripts_mcp_servers_and_pages_are_tools() {
    let field = Field::shared().await;
    let script = json!({"name": "echo", "kind": "script", "effect": "pure", "script": {"command": ["cat"]}});
    let broken = json!({"name": "broken", "kind": "script", "script": {"command": ["cat", "/no/such/file; true"]}});
    let agent = field
        .agent("scripted", llm("mock:script:tools", json!([script, broken])))
        .await;
    let ended = field.ask(&agent, r#"{"city": "$(id) `id`"}"#).await;
    assert!(text(&ended).contains("$(id) `id`"), "arguments meet no shell: {ended}");
    assert!(
        text(&ended).contains("error: ") && text(&ended).contains("/no/such/file; true"),
        "{ended}"
    );

    let place = unique("weather");
    let tool = json!({"name": "forecast", "kind": "mcp", "effect": "pure",
        "mcp": {"url": field.outside.url("mcp"), "tool": "weather"}});
    let agent = field.agent("forecaster", llm("mock:script:tools", json!([tool]))).await;
    let ended = field
        .ask(&agent, &json!({"place": place, "city": "Odesa"}).to_string())
        .await;
    assert!(text(&ended).contains("sunny in"), "{ended}");
    assert_eq!(field.outside.entries(&place).len(), 1);

    let page = json!({"name": "http_get", "kind": "builtin", "allow": ["127.0.0.1"]});
    let agent = field.agent("reader", llm("mock:script:tools", json!([page]))).await;
    let ended = field
        .ask(&agent, &json!({"url": field.outside.url("page")}).to_string())
        .await;
    assert!(text(&ended).contains("a page of this machine"), "{ended}");
    // Not on the list, and private though not loopback.
    for url in [
        field.outside.url("page").replace("127.0.0.1", "localhost"),
        "http://10.0.0.1/".to_owned(),
    ] {
        let ended = field.ask(&agent, &json!({ "url": url }).to_string()).await;
        assert!(text(&ended).contains("The tool may not do that"), "{url}: {ended}");
    }
}
