//! An OpenAI-compatible model: what it answers follows from the request alone; some first tries fail, stall, or break in
//! the middle.
//!
//! The last user message says what it does: `<key> say` answers with text, `<key> use <tool> <tool> …` calls those tools
//! in parallel first.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::{Shared, broken, key_of, whole};
use crate::draw::Draw;
use crate::evidence::ModelCall;

const SSE: &str = "text/event-stream";
/// Below what an owner is silent before its shards are taken: a late try of a dead worker ends before the next begins.
const STALL: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Answers,
    Fails,
    Stalls,
    /// Half of the answer, then a broken connection.
    Breaks,
}

pub(super) async fn complete(State(kept): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let key = key_of(&headers);
    let (place, before) = {
        let mut seen = kept.seen();
        let before = seen.model.iter().filter(|call| call.key == key).count();
        seen.model.push(ModelCall {
            key: key.clone(),
            at: kept.now(),
            answered: None,
        });
        (seen.model.len() - 1, before)
    };
    let answer = Answer::to(&body["messages"]);
    let mut draw = kept.draw(&key, before);
    let moods = [
        (76, Mood::Answers),
        (9, Mood::Fails),
        (7, Mood::Stalls),
        (8, Mood::Breaks),
    ];
    let mood = draw.weighted(&moods).filter(|_| before == 0).unwrap_or(Mood::Answers);
    match mood {
        Mood::Answers => tokio::time::sleep(Duration::from_millis(draw.between(2, 60))).await,
        Mood::Stalls => tokio::time::sleep(STALL).await,
        Mood::Fails => {
            let error = json!({"error": {"message": "as the schedule asks"}});
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response();
        }
        Mood::Breaks => {
            let mut events = answer.events();
            events.truncate(events.len() / 2);
            return broken(SSE, events);
        }
    }
    let pause = Duration::from_millis(draw.between(0, 12));
    let (events, tokens) = (answer.events(), answer.tokens);
    let last = events.len() - 1;
    let pieces = futures::stream::iter(events.into_iter().enumerate()).then(move |(nth, event)| {
        let kept = kept.clone();
        async move {
            tokio::time::sleep(pause).await;
            // The caller takes the usage as soon as it comes, and may then hang up before the end mark.
            if nth + 1 >= last {
                kept.seen().model[place].answered = Some(tokens);
            }
            event
        }
    });
    whole(SSE, pieces)
}

/// What the model says to a conversation.
struct Answer {
    text: String,
    tools: Vec<(String, Value)>,
    tokens: (u64, u64),
}

impl Answer {
    fn to(messages: &Value) -> Self {
        let empty = Vec::new();
        let messages = messages.as_array().unwrap_or(&empty);
        let last = messages
            .iter()
            .rposition(|message| message["role"] == "user")
            .unwrap_or(0);
        let said = messages.get(last).map(text_of).unwrap_or_default();
        let is_answered = messages.iter().skip(last).any(|message| message["role"] == "tool");
        let mut draw = Draw::of(messages.len() as u64, &Value::from(messages.clone()).to_string());
        let mut words = said.split_whitespace();
        let key = words.next().unwrap_or_default().to_owned();
        let tools = match words.next() {
            Some("use") if !is_answered => words.map(|tool| (tool.to_owned(), arguments(tool, &key))).collect(),
            _ => Vec::new(),
        };
        let count = draw.between(3, 25);
        let text = if tools.is_empty() {
            let words: Vec<String> = (0..count).map(|_| format!("w{:x}", draw.between(0, 4_096))).collect();
            format!("{key} heard: {} ✓", words.join(" "))
        } else {
            String::new()
        };
        Self {
            text,
            tools,
            tokens: (draw.between(1, 2_000), draw.between(1, 500)),
        }
    }

    /// Text word by word or the tool calls, then the usage, then the end mark.
    fn events(&self) -> Vec<Bytes> {
        let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
        let words = self.text.split_inclusive(' ').filter(|word| !word.is_empty());
        let words = words.map(|word| delta(json!({"content": word})));
        let calls = self.tools.iter().enumerate().map(|(index, (name, arguments))| {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            let call = json!({"index": index, "id": format!("call-{index}"), "type": "function", "function": function});
            delta(json!({"tool_calls": [call]}))
        });
        let reason = if self.tools.is_empty() { "stop" } else { "tool_calls" };
        let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
        let (input, output) = self.tokens;
        let usage = json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}});
        let events = words.chain(calls).chain([end, usage]).map(|event| event.to_string());
        let all = events.chain(["[DONE]".to_owned()]);
        all.map(|event| format!("data: {event}\n\n").into()).collect()
    }
}

/// The same operation however often the step runs.
fn arguments(tool: &str, key: &str) -> Value {
    if tool.starts_with(crate::checker::LEDGER_TOOL) {
        json!({"op": format!("{key}:{tool}")})
    } else if tool == crate::checker::TASK_TOOL {
        json!({"agent": crate::load::plan::NOOP, "text": format!("{key}-task say")})
    } else {
        json!({"text": format!("{key}-{tool} say")})
    }
}

fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks
            .iter()
            .filter_map(|block| block["text"].as_str())
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    #[test]
    fn the_answer_follows_from_the_request_alone() {
        let messages = json!([user("k1 say")]);
        let (one, other) = (Answer::to(&messages), Answer::to(&messages));
        assert_eq!((&one.text, one.tokens), (&other.text, other.tokens));
        assert!(one.text.starts_with("k1 heard: "), "{}", one.text);
        assert_ne!(Answer::to(&json!([user("k2 say")])).tokens, one.tokens);
    }

    #[test]
    fn tools_are_called_once_and_their_results_answered_with_text() {
        let asked = user("k1 use ledger_pure helper");
        let first = Answer::to(&json!([asked]));
        assert_eq!(
            first.tools[0],
            ("ledger_pure".to_owned(), json!({"op": "k1:ledger_pure"}))
        );
        assert_eq!(first.tools[1].1, json!({"text": "k1-helper say"}));
        let second = Answer::to(&json!([asked, {"role": "assistant"}, {"role": "tool", "content": "1"}]));
        assert!(second.tools.is_empty() && !second.text.is_empty());
    }

    #[test]
    fn the_events_hold_the_text_the_usage_and_the_end_mark() {
        let answer = Answer::to(&json!([user("k1 say")]));
        let events = answer.events();
        let joined: String = events
            .iter()
            .filter_map(|event| {
                let text = std::str::from_utf8(event).ok()?.strip_prefix("data: ")?.trim();
                let value: Value = serde_json::from_str(text).ok()?;
                Some(value.pointer("/choices/0/delta/content")?.as_str()?.to_owned())
            })
            .collect();
        assert_eq!(joined, answer.text);
        assert_eq!(events.last().unwrap().as_ref(), b"data: [DONE]\n\n");
    }
}
