//! Events and documents as providers send them, put together.

use serde_json::json;

use super::*;

fn assemble(events: &[Value]) -> Result<(Answer, Vec<String>), TryError> {
    let mut assembly = Assembly::new(3);
    let mut told = Vec::new();
    for event in events {
        let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        if let Heard::Text(text) = assembly.take(&data)? {
            told.push(text);
        }
    }
    assembly.end().map(|answer| (answer, told))
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
    assert_eq!(
        answer.tokens,
        Some(Tokens {
            input: 7,
            output: 2,
            ..Tokens::default()
        })
    );
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
    assert_eq!(assemble(&[json!("[DONE]")]).unwrap_err(), TryError::Cut);
}

#[test]
fn counts_of_the_cache_are_kept_whatever_they_are_called() {
    let usage = |usage: Value| {
        let (answer, _) = assemble(&[text("a"), finish("stop"), json!({"choices": null, "usage": usage})]).unwrap();
        answer.tokens.unwrap()
    };
    let openai = json!({"prompt_tokens": 100, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 64}});
    assert_eq!((usage(openai.clone()).input, usage(openai).cached), (100, 64));
    let deepseek = json!({"prompt_tokens": 100, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36});
    assert_eq!(usage(deepseek).cached, 64);
    let none = json!({"prompt_tokens": null, "completion_tokens": 2, "prompt_tokens_details": null});
    assert_eq!((usage(none.clone()).input, usage(none).cached), (0, 0));
    let boast = json!({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 64}});
    assert_eq!(usage(boast).cached, 10, "no more than there were");
}

#[test]
fn thoughts_are_signs_of_life_and_no_text() {
    let mut assembly = Assembly::new(0);
    let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string();
    for (said, heard) in [
        (
            json!({"role": "assistant", "content": null, "reasoning_content": "hm"}),
            Heard::Progress,
        ),
        (json!({"reasoning": "hm", "content": ""}), Heard::Progress),
        (json!({"role": "assistant", "content": ""}), Heard::Nothing),
        (json!({"content": null, "tool_calls": null}), Heard::Nothing),
        (json!({"refusal": "I will not."}), Heard::Text("I will not.".to_owned())),
    ] {
        assert_eq!(assembly.take(&delta(said)).unwrap(), heard);
    }
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
    let now = json!({"id": "call_3_0", "type": "function", "function": {"name": "now", "arguments": "{}"}});
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
    let read = |text: &str| assemble(&[json!(text)]);
    let asks = json!({"role": "assistant", "content": null, "tool_calls": [call.clone()]});
    let (answer, added) = read(&document(asks, "tool_calls")).unwrap();
    assert_eq!((answer.tool_calls, added), (vec![call], vec![]));
    assert_eq!(
        answer.tokens,
        Some(Tokens {
            input: 9,
            output: 3,
            ..Tokens::default()
        })
    );
    let says = json!({"role": "assistant", "content": "Hello", "refusal": null});
    let (answer, added) = read(&document(says, "length")).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason.as_str()),
        ("Hello", "length")
    );
    assert_eq!(added, ["Hello"]);
    for text in ["{}", "[DONE]", r#"{"choices":[]}"#, r#"{"choices":null}"#] {
        assert_eq!(read(text).unwrap_err(), TryError::Cut, "{text}");
    }
    assert!(matches!(read("\"hi\"").unwrap_err(), TryError::Protocol(_)));
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
    for (error, status) in [
        (json!({"message": "m", "code": "503"}), 503),
        (json!({"message": "m", "code": "rate_limit_exceeded"}), 429),
        (
            json!({"message": "m", "type": "invalid_request_error", "code": null}),
            400,
        ),
        (json!({"message": "m", "status": 529}), 529),
        (json!("just words"), 502),
    ] {
        let failed = assemble(&[json!({"error": error})]).unwrap_err();
        assert!(
            matches!(failed, TryError::Status { status: told, .. } if told == status),
            "{failed}"
        );
    }
    assert!(matches!(
        assemble(&[json!("<html>")]).unwrap_err(),
        TryError::Protocol(_)
    ));
}
