//! Tools and settings that a caller brings: his calls end the invocation, and his settings stand over the agent's.

use mesh_api::journal::{Ended, Fact, Outcome};
use mesh_types::Code;
use serde_json::{Value, json};

use super::tools::{kinds, spec, told};
use super::world::{Script, World};

fn world(payload_more: Value, script: Script) -> World {
    let mut payload = json!({"messages": [{"role": "user", "content": "go"}],
        "client_tools": [{"type": "function", "function": {"name": "ask", "parameters": {"type": "object"}}}]});
    if let (Value::Object(payload), Value::Object(more)) = (&mut payload, payload_more) {
        payload.extend(more);
    }
    let world = World::new(spec(), payload);
    world.state().orders.script = script;
    world
}

fn end(world: &World) -> Ended {
    let journal = world.journal();
    let ended = journal.iter().find_map(|record| match &record.fact {
        Fact::Ended(ended) => Some((**ended).clone()),
        _ => None,
    });
    ended.expect("it has ended")
}

#[test]
fn a_call_of_the_callers_tool_is_the_answer() {
    let world = world(json!({}), vec![vec![("ask", json!({"n": 1}))]]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let output = end(&world).output.unwrap();
    assert_eq!(output["tool_calls"][0]["function"]["name"], "ask");
    assert_eq!(output["tool_calls"][0]["id"], "call-0-0");
    assert_eq!(kinds(&world).len(), 1, "nothing is posted or remembered");
    let asked = world.state().asked.clone();
    let names = asked[0]
        .tools
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["pay", "look", "read", "ask"]);
}

#[test]
fn in_a_mixed_turn_the_agents_own_tools_run_and_the_callers_are_called_again() {
    let mixed = vec![("look", json!({"n": 1})), ("ask", json!({}))];
    let world = world(json!({}), vec![mixed, vec![("ask", json!({}))]]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let told = told(&world);
    assert_eq!(told[0], r#"{"echo":{"n":1}}"#);
    assert!(told[1].contains("a turn of its own"), "{told:?}");
    assert_eq!(world.state().called.len(), 1, "the caller's tool never runs here");
    assert_eq!(end(&world).output.unwrap()["tool_calls"][0]["id"], "call-1-0");
}

#[test]
fn the_callers_tool_may_not_have_the_name_of_one_of_the_agents() {
    let tools = json!({"client_tools": [{"type": "function", "function": {"name": "pay"}}]});
    let world = world(tools, Vec::new());
    assert_eq!(world.run_to_its_end(), Outcome::Failed);
    let problem = end(&world).error.unwrap();
    assert!(problem.is(Code::InvalidRequest));
    assert_eq!(problem.field.as_deref(), Some("payload.client_tools"));
}

#[test]
fn the_callers_settings_stand_over_the_agents() {
    let options = json!({"model_options": {"temperature": 0.25, "max_tokens": 7,
        "response_schema": {"type": "object"}}});
    let world = world(options, Vec::new());
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let asked = world.state().asked.clone();
    assert_eq!((asked[0].temperature, asked[0].max_tokens), (Some(0.25), Some(7)));
    assert_eq!(asked[0].response_schema, Some(json!({"type": "object"})));
}
