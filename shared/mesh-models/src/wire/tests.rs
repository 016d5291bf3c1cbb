//! Events and documents as providers send them, put together.

use super::*;

fn assemble(events: &[Value]) -> Result<(Answer, Vec<String>), TryError> {
    let mut assembly = Assembly::default();
    let mut heard = Vec::new();
    for event in events {
        let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        heard.extend(assembly.take(&data)?);
    }
    assembly.end().map(|answer| (answer, heard))
}

fn text(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

#[test]
fn chunks_and_usage_become_one_answer() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
    let (answer, heard) = assemble(&[
        text("Hel"),
        text(""),
        text("lo"),
        finish("stop"),
        usage,
        json!("[DONE]"),
    ])
    .unwrap();
    assert_eq!(answer.text, "Hello");
    assert_eq!(heard, ["Hel", "lo"]);
    assert_eq!(answer.tokens, Some(Tokens { input: 7, output: 2 }));
    assert_eq!(answer.finish_reason, "stop");
}

#[test]
fn half_an_answer_is_none() {
    assert_eq!(assemble(&[text("Hel")]).unwrap_err(), TryError::Cut);
    assert_eq!(assemble(&[]).unwrap_err(), TryError::Cut);
    assert_eq!(
        assemble(&[text("Hel"), finish("length")]).unwrap().0.finish_reason,
        "length"
    );
    assert_eq!(
        assemble(&[text("Hel"), json!("[DONE]")]).unwrap().0.finish_reason,
        "stop"
    );
}

#[test]
fn tool_calls_are_put_together_by_index() {
    let call = |delta: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]});
    let (answer, _) = assemble(&[
        call(json!({"index": 1, "id": "b", "function": {"name": "two", "arguments": "{}"}})),
        call(json!({"index": 0, "id": "a", "type": "function", "function": {"name": "one", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"x\""}})),
        call(json!({"index": 0, "function": {"arguments": ":1}"}})),
        finish("tool_calls"),
    ])
    .unwrap();
    assert_eq!(
        answer.tool_calls[0],
        json!({"id": "a", "type": "function", "function": {"name": "one", "arguments": "{\"x\":1}"}})
    );
    assert_eq!(answer.tool_calls[1]["id"], "b");
    let far = call(json!({"index": 4_000_000_000_u64, "function": {"name": "x"}}));
    assert!(matches!(assemble(&[far]).unwrap_err(), TryError::Protocol(_)));
    let nameless = call(json!({"index": 1, "function": {"name": "x"}}));
    assert!(matches!(
        assemble(&[nameless, finish("stop")]).unwrap_err(),
        TryError::Protocol(_)
    ));
}

/// As recorded from servers of the same wire that keep less to it.
#[test]
fn calls_without_index_id_or_reason_are_whole_in_the_end() {
    let calls = |calls: Value, reason: Value| {
        json!({"choices": [{"index": 0,
        "delta": {"role": "assistant", "content": "", "tool_calls": calls}, "finish_reason": reason}]})
    };
    let whole = json!([{"id": "a", "type": "function", "function": {"name": "one", "arguments": "{\"x\":1}"}},
                       {"id": "b", "type": "function", "function": {"name": "two", "arguments": {"y": 2}}}]);
    let (answer, heard) = assemble(&[calls(whole, json!("stop"))]).unwrap();
    assert_eq!(answer.finish_reason, "tool_calls");
    assert!(heard.is_empty());
    assert_eq!(
        answer.tool_calls,
        [
            json!({"id": "a", "type": "function", "function": {"name": "one", "arguments": "{\"x\":1}"}}),
            json!({"id": "b", "type": "function", "function": {"name": "two", "arguments": "{\"y\":2}"}}),
        ]
    );
    let (answer, _) = assemble(&[
        calls(json!([{"function": {"name": "now"}}]), Value::Null),
        calls(json!([{"function": {"arguments": ""}}]), Value::Null),
        json!("[DONE]"),
    ])
    .unwrap();
    let now = json!({"id": "call_0", "type": "function", "function": {"name": "now", "arguments": "{}"}});
    assert_eq!(
        (answer.tool_calls, answer.finish_reason.as_str()),
        (vec![now], "tool_calls")
    );
}

/// As recorded from a server that does not stream.
#[test]
fn a_document_is_an_answer_too() {
    let document = |message: Value, reason: &str| {
        json!({"id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": reason}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}})
        .to_string()
    };
    let call = json!({"id": "c", "type": "function", "function": {"name": "lookup", "arguments": "{}"}});
    let read = |text: &str| {
        let mut assembly = Assembly::default();
        let added = assembly.take_whole(text.as_bytes())?;
        assembly.end().map(|answer| (answer, added))
    };
    let asks = json!({"role": "assistant", "content": null, "tool_calls": [call.clone()]});
    let (answer, added) = read(&document(asks, "tool_calls")).unwrap();
    assert_eq!((answer.tool_calls, added), (vec![call], None));
    assert_eq!(answer.tokens, Some(Tokens { input: 9, output: 3 }));
    let says = json!({"role": "assistant", "content": "Hello", "refusal": null});
    let (answer, added) = read(&document(says, "length")).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason.as_str()),
        ("Hello", "length")
    );
    assert_eq!(added.as_deref(), Some("Hello"));
    for text in ["{}", "[DONE]", "\"hi\"", r#"{"choices":[]}"#] {
        assert!(matches!(read(text).unwrap_err(), TryError::Protocol(_)), "{text}");
    }
    let failed = read(r#"{"error": {"message": "overloaded", "code": 503}}"#).unwrap_err();
    assert!(failed.is_transient(), "{failed}");
}

#[test]
fn an_error_inside_the_stream_is_an_error() {
    let error = assemble(&[text("a"), json!({"error": {"message": "overloaded", "code": 503}})]).unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("overloaded"),
        "{error}"
    );
    assert!(matches!(
        assemble(&[json!("<html>")]).unwrap_err(),
        TryError::Protocol(_)
    ));
}

#[test]
fn the_body_carries_blocks_verbatim() {
    let blocks = json!([{"type": "text", "text": "hi"}, {"type": "later", "deep": {"x": [1, null]}}]);
    let request: CompleteRequest = serde_json::from_value(json!({
        "model": "x", "messages": [{"role": "user", "content": blocks}], "max_tokens": 5
    }))
    .unwrap();
    let sent: Value = serde_json::from_slice(&body("gpt-4", &request).unwrap()).unwrap();
    assert_eq!(sent["messages"][0]["content"], blocks);
    assert_eq!(sent["model"], "gpt-4");
    assert_eq!(sent["stream_options"]["include_usage"], true);
    assert_eq!(sent["max_tokens"], 5);
    assert!(sent.get("temperature").is_none() && sent.get("tools").is_none());
}

#[test]
fn the_body_carries_calls_and_results_in_the_shape_of_the_wire() {
    let call = json!({"id": "call_a", "type": "function", "function": {"name": "lookup", "arguments": "{}"},
                      "extra_content": {"kept": true}});
    let messages = json!([
        {"role": "user", "content": "where?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": "Lviv", "tool_call_id": "call_a"},
        {"role": "assistant", "content": "Let me see", "tool_calls": [call]},
        {"role": "user", "content": ""}
    ]);
    let mut typed = messages.clone();
    typed[1]["content"] = json!("");
    let request: CompleteRequest = serde_json::from_value(json!({"model": "x", "messages": typed})).unwrap();
    let sent: Value = serde_json::from_slice(&body("gpt-4", &request).unwrap()).unwrap();
    assert_eq!(sent["messages"], messages);
}
