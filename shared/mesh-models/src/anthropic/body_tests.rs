//! Conversations of the mesh as Anthropic's API takes them.

use super::*;

fn sent(request: Value) -> Value {
    let request: CompleteRequest = serde_json::from_value(request).unwrap();
    serde_json::from_slice(&messages("claude-sonnet-4-5", &request, 4_096).unwrap()).unwrap()
}

fn refused(request: Value) -> String {
    let request: CompleteRequest = serde_json::from_value(request).unwrap();
    let error = messages("claude", &request, 4_096).unwrap_err();
    assert!(error.is_refusal() && !error.is_transient(), "{error}");
    error.to_string()
}

#[test]
fn a_conversation_with_tools_is_told_in_blocks() {
    let call = |id: &str, city: &str| {
        json!({"id": id, "type": "function",
               "function": {"name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}")}})
    };
    let body = sent(json!({
        "model": "x", "temperature": 1.5,
        "messages": [
            {"role": "system", "content": "You are Sofia."},
            {"role": "user", "content": "Compare Lviv and Kyiv"},
            {"role": "assistant", "content": "Let me look.", "tool_calls": [call("toolu_1", "Lviv"), call("toolu_2", "Kyiv")]},
            {"role": "tool", "content": "rain", "tool_call_id": "toolu_1"},
            {"role": "tool", "content": "sun", "tool_call_id": "toolu_2"},
            {"role": "user", "content": "And?"},
            {"role": "system", "content": "Be brief."}
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "description": "Of a city",
                   "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}},
                  {"type": "function", "function": {"name": "now"}},
                  {"type": "web_search_20250305", "name": "web_search"}]
    }));
    let expected = json!({
        "model": "claude-sonnet-4-5", "max_tokens": 4096, "stream": true, "temperature": 1.0,
        "system": [{"type": "text", "text": "You are Sofia."}, {"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Compare Lviv and Kyiv"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Lviv"}},
                {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {"city": "Kyiv"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "sun"}]},
                {"type": "text", "text": "And?"}]}
        ],
        "tools": [
            {"name": "weather", "description": "Of a city",
             "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
            {"name": "now", "input_schema": {"type": "object", "properties": {}}},
            {"type": "web_search_20250305", "name": "web_search"}]
    });
    assert_eq!(body, expected);
}

#[test]
fn turns_alternate_and_begin_with_the_users() {
    let roles = |messages: Value| {
        let body = sent(json!({"model": "x", "messages": messages}));
        let turns = body["messages"].as_array().unwrap().clone();
        let roles: Vec<String> = turns
            .iter()
            .map(|turn| turn["role"].as_str().unwrap().to_owned())
            .collect();
        (roles, turns)
    };
    let (begun, turns) = roles(json!([{"role": "assistant", "content": "Hi. "}]));
    assert_eq!(begun, ["user", "assistant"]);
    assert_eq!(turns[1]["content"][0]["text"], "Hi.", "no white space at the end");
    let (merged, turns) = roles(
        json!([{"role": "user", "content": "a"}, {"role": "user", "content": " "},
                                       {"role": "user", "content": "b"}]),
    );
    assert_eq!((merged.len(), turns[0]["content"].as_array().unwrap().len()), (1, 2));
    let (alone, turns) = roles(json!([{"role": "system", "content": "Say hello."}]));
    assert_eq!(
        (alone, &turns[0]["content"][0]["text"]),
        (vec!["user".to_owned()], &json!("Say hello."))
    );
}

#[test]
fn blocks_are_translated_kept_or_refused() {
    let ask = |blocks: Value| json!({"model": "x", "messages": [{"role": "user", "content": blocks}]});
    let mark = json!({"type": "ephemeral"});
    let body = sent(ask(json!([
        {"type": "text", "text": "look", "cache_control": mark},
        {"type": "text", "text": ""},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}, "cache_control": mark},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
    ])));
    let expected = json!([
        {"type": "text", "text": "look", "cache_control": mark},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}, "cache_control": mark},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
    ]);
    assert_eq!(body["messages"][0]["content"], expected);
    assert!(refused(ask(json!([{"type": "input_audio", "input_audio": {"data": ""}}]))).contains("input_audio"));
    assert!(refused(ask(json!([{"type": "image_url", "image_url": {}}]))).contains("image_url"));
    let orphan = json!({"model": "x", "messages": [{"role": "tool", "content": "x", "tool_call_id": "c9"}]});
    assert!(refused(orphan).contains("c9"));
}

#[test]
fn a_schema_becomes_a_tool_that_must_be_called() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let ask = |schema: &Value, tools: Value| {
        sent(json!({"model": "x", "response_schema": schema, "tools": tools,
                    "messages": [{"role": "user", "content": "where?"}]}))
    };
    let alone = ask(&schema, json!([]));
    assert_eq!(alone["tool_choice"], json!({"type": "tool", "name": ANSWER_TOOL}));
    assert_eq!(alone["tools"][0]["input_schema"], schema);
    let beside = ask(&schema, json!([{"type": "function", "function": {"name": "now"}}]));
    assert_eq!(beside["tool_choice"], json!({"type": "any"}));
    assert_eq!(beside["tools"][1]["name"], ANSWER_TOOL);
    let list = json!({"type": "array", "items": {"$ref": "#/$defs/city"}, "$defs": {"city": {"type": "string"}}});
    let expected = json!({"type": "object", "required": ["answer"], "$defs": {"city": {"type": "string"}},
        "properties": {"answer": {"type": "array", "items": {"$ref": "#/$defs/city"}}}});
    assert_eq!(ask(&list, json!([]))["tools"][0]["input_schema"], expected);
}

#[test]
fn calls_of_tools_that_are_no_longer_offered_are_still_known() {
    let call = json!({"id": "a", "type": "function", "function": {"name": "now", "arguments": ""}});
    let body = sent(json!({"model": "x", "messages": [
        {"role": "user", "content": "when?"}, {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "", "tool_call_id": "a"}]}));
    assert_eq!(
        body["tools"],
        json!([{"name": "now", "input_schema": {"type": "object"}}])
    );
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
    assert_eq!(
        body["messages"][2]["content"],
        json!([{"type": "tool_result", "tool_use_id": "a"}])
    );
}
