//! What happens in an invocation, as a chat completion: in one piece or as chunks. Both say the same text: that of every
//! model step, an empty line between two of them.

use std::collections::BTreeMap;

use mesh_api::execution::{Invocation, Step};
use mesh_api::journal::{StepKind, Usage};
use mesh_types::{Code, InvocationId, Problem};
use serde_json::{Value, json};

use super::error::error;
use crate::http::followed::{Ending, Told, text_of};

const BETWEEN_STEPS: &str = "\n\n";

/// What stands in every answer and chunk.
struct Head {
    id: InvocationId,
    model: String,
    /// Seconds since 1970.
    created: i64,
}

impl Head {
    fn of(invocation: &Invocation) -> Self {
        Self {
            id: invocation.id,
            model: invocation.agent.to_string(),
            created: invocation.created_at.as_micros() / 1_000_000,
        }
    }

    fn object(&self, kind: &str, choices: &Value) -> Value {
        json!({"id": format!("chatcmpl-{}", self.id), "object": kind, "created": self.created, "model": self.model,
            "choices": choices})
    }
}

/// The whole answer, gathered.
pub(super) struct Collected {
    head: Head,
    texts: BTreeMap<u32, String>,
    finish: Option<String>,
}

impl Collected {
    pub(super) fn new(invocation: &Invocation) -> Self {
        Self {
            head: Head::of(invocation),
            texts: BTreeMap::new(),
            finish: None,
        }
    }

    /// The answer, once it has ended.
    ///
    /// # Errors
    /// It ended without one.
    pub(super) fn take(&mut self, told: Told) -> Result<Option<Value>, Problem> {
        match told {
            Told::Text { step, text } => self.texts.entry(step).or_default().push_str(&text),
            Told::Reset { step } => drop(self.texts.remove(&step)),
            Told::Step(step) => self.finish = finish(&step).or_else(|| self.finish.take()),
            Told::Ended(ending) => return self.answer(*ending).map(Some),
            Told::State(..) | Told::Asked(_) => {}
        }
        Ok(None)
    }

    fn answer(&mut self, ending: Ending) -> Result<Value, Problem> {
        let usage = ending.usage;
        let output = ending.outcome(self.head.id)?;
        let texts: Vec<&str> = self
            .texts
            .values()
            .map(String::as_str)
            .filter(|text| !text.is_empty())
            .collect();
        let text = if texts.is_empty() {
            text_of(&output)
        } else {
            texts.join(BETWEEN_STEPS)
        };
        let calls = output["tool_calls"].as_array();
        let mut message = json!({"role": "assistant", "content": text, "refusal": null});
        if let Some(calls) = calls {
            message["tool_calls"] = json!(calls);
            if text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        let finish = reason(calls.is_some(), self.finish.as_deref());
        let choices = json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}]);
        let mut answer = self.head.object("chat.completion", &choices);
        answer["usage"] = counted(usage);
        Ok(answer)
    }
}

/// The answer, piece by piece.
pub(super) struct Chunks {
    head: Head,
    shows_usage: bool,
    begun: bool,
    /// The step whose text was sent last.
    said: Option<u32>,
    finish: Option<String>,
    over: bool,
}

impl Chunks {
    pub(super) fn new(invocation: &Invocation, shows_usage: bool) -> Self {
        Self {
            head: Head::of(invocation),
            shows_usage,
            begun: false,
            said: None,
            finish: None,
            over: false,
        }
    }

    /// Whether nothing follows.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The data of the events to send.
    pub(super) fn take(&mut self, told: Told) -> Vec<String> {
        let mut out = Vec::new();
        if !self.begun {
            self.begun = true;
            out.push(self.chunk(json!({"role": "assistant", "content": "", "refusal": null}), None));
        }
        match told {
            Told::Text { text, .. } if text.is_empty() => {}
            Told::Text { step, text } => {
                let is_next = self.said.replace(step).is_some_and(|said| said != step);
                let text = if is_next {
                    format!("{BETWEEN_STEPS}{text}")
                } else {
                    text
                };
                out.push(self.chunk(json!({"content": text}), None));
            }
            Told::Reset { .. } => out.push(self.broken(&starts_over(self.head.id))),
            Told::Step(step) => self.finish = finish(&step).or_else(|| self.finish.take()),
            Told::Ended(ending) => self.end(*ending, &mut out),
            Told::State(..) | Told::Asked(_) => {}
        }
        out
    }

    /// The stream ends with an error: no `[DONE]` follows.
    pub(super) fn broken(&mut self, problem: &Problem) -> String {
        self.over = true;
        error(problem).to_string()
    }

    fn end(&mut self, ending: Ending, out: &mut Vec<String>) {
        let usage = ending.usage;
        let output = match ending.outcome(self.head.id) {
            Ok(output) => output,
            Err(problem) => {
                out.push(self.broken(&problem));
                return;
            }
        };
        let text = text_of(&output);
        if self.said.is_none() && !text.is_empty() {
            out.push(self.chunk(json!({"content": text}), None));
        }
        let calls = output["tool_calls"].as_array();
        if let Some(calls) = calls {
            let calls = calls.iter().enumerate().map(|(at, call)| {
                let mut call = call.clone();
                call["index"] = json!(at);
                call
            });
            out.push(self.chunk(json!({"tool_calls": calls.collect::<Vec<_>>()}), None));
        }
        let finish = reason(calls.is_some(), self.finish.as_deref());
        out.push(self.chunk(json!({}), Some(finish)));
        if self.shows_usage {
            let mut last = self.head.object("chat.completion.chunk", &json!([]));
            last["usage"] = counted(usage);
            out.push(last.to_string());
        }
        out.push("[DONE]".to_owned());
        self.over = true;
    }

    fn chunk(&self, delta: Value, finish: Option<&str>) -> String {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        let mut chunk = self.head.object("chat.completion.chunk", &choices);
        if self.shows_usage {
            chunk["usage"] = Value::Null;
        }
        chunk.to_string()
    }
}

fn starts_over(id: InvocationId) -> Problem {
    let words = "the model call starts over: forget the text so far; the invocation goes on";
    Problem::new(Code::Unavailable, words).next(format!("GET /api/v1/invocations/{id} has the answer when it ends"))
}

/// Why a model stopped, as its provider said.
fn finish(step: &Step) -> Option<String> {
    let output = step.output.as_ref().filter(|_| step.kind == StepKind::Model)?;
    Some(output["finish_reason"].as_str()?.to_owned())
}

/// In OpenAI's words.
fn reason(calls: bool, said: Option<&str>) -> &'static str {
    match said {
        _ if calls => "tool_calls",
        Some("length" | "max_tokens") => "length",
        Some("content_filter" | "refusal") => "content_filter",
        _ => "stop",
    }
}

fn counted(usage: Usage) -> Value {
    json!({"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens})
}

#[cfg(test)]
mod tests {
    use mesh_api::execution::State;

    use super::*;

    fn invocation() -> Invocation {
        serde_json::from_value(
            json!({"id": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "tenant": "default", "agent": "sofia",
            "version": 1, "state": "queued", "entrypoint": "openai", "priority": 5, "payload": {}, "usage": {},
            "attempt": 1, "created_at": "2026-01-02T03:04:05Z", "cursor": 1}),
        )
        .unwrap()
    }

    fn text(step: u32, text: &str) -> Told {
        Told::Text {
            step,
            text: text.to_owned(),
        }
    }

    fn ended(state: State, output: Option<Value>) -> Told {
        let usage = Usage {
            input_tokens: 3,
            output_tokens: 2,
            cost_usd: 0.0,
        };
        Told::Ended(Box::new(Ending {
            state,
            output,
            error: None,
            reason: None,
            usage,
        }))
    }

    fn parsed(chunks: &[String]) -> Vec<Value> {
        let parse = |chunk: &String| serde_json::from_str(chunk).unwrap_or_else(|_| json!(chunk));
        chunks.iter().map(parse).collect()
    }

    fn both(all: &[Told]) -> (Result<Option<Value>, Problem>, Vec<Value>) {
        let (mut collected, mut chunks) = (Collected::new(&invocation()), Chunks::new(&invocation(), true));
        let whole = all.iter().try_fold(None, |_, told| collected.take(told.clone()));
        let streamed: Vec<String> = all.iter().flat_map(|told| chunks.take(told.clone())).collect();
        assert!(chunks.is_over());
        (whole, parsed(&streamed))
    }

    #[test]
    fn whole_and_streamed_say_the_same() {
        let all = [
            Told::State(State::Running, Value::Null),
            text(2, "let me"),
            text(2, " see"),
            text(4, "it rains"),
            ended(State::Completed, Some(json!({"text": "it rains"}))),
        ];
        let (whole, chunks) = both(&all);
        let whole = whole.unwrap().unwrap();
        assert_eq!(whole["id"], "chatcmpl-inv_01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!(whole["created"], 1_767_323_045);
        assert_eq!(whole["usage"]["total_tokens"], 5);
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let said: Vec<&str> = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(json!(said.concat()), whole["choices"][0]["message"]["content"]);
        assert_eq!(said.concat(), "let me see\n\nit rains");
        let [.., finish, usage, done] = chunks.as_slice() else {
            panic!("chunks");
        };
        assert_eq!(finish["choices"][0]["finish_reason"], "stop");
        assert_eq!(usage["usage"]["prompt_tokens"], 3);
        assert_eq!(done, "[DONE]");
    }

    #[test]
    fn calls_of_the_clients_tools_come_back_to_it() {
        let call = json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}});
        let all = [ended(State::Completed, Some(json!({"text": "", "tool_calls": [call]})))];
        let (whole, chunks) = both(&all);
        let choice = &whole.unwrap().unwrap()["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["tool_calls"][0]),
            (&json!("tool_calls"), &call)
        );
        assert_eq!(choice["message"]["content"], Value::Null);
        let delta = &chunks[1]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!((&delta["index"], &delta["id"]), (&json!(0), &json!("c1")));
    }

    #[test]
    fn a_call_that_starts_over_breaks_a_stream_and_not_a_whole_answer() {
        let mut chunks = Chunks::new(&invocation(), false);
        chunks.take(text(2, "half"));
        let said = parsed(&chunks.take(Told::Reset { step: 2 }));
        assert!(chunks.is_over() && said[0]["error"]["message"].as_str().unwrap().contains("starts over"));
        let mut collected = Collected::new(&invocation());
        collected.take(text(2, "half")).unwrap();
        collected.take(Told::Reset { step: 2 }).unwrap();
        collected.take(text(2, "all")).unwrap();
        let answer = collected.take(ended(State::Completed, None)).unwrap().unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "all");
    }

    #[test]
    fn a_failure_is_an_error_in_both() {
        let (whole, chunks) = both(&[ended(State::Failed, None)]);
        assert!(whole.unwrap_err().is(Code::InvocationFailed));
        assert_eq!(chunks[1]["error"]["type"], "server_error");
    }

    #[test]
    fn what_is_not_streamed_is_said_at_the_end() {
        let (whole, chunks) = both(&[ended(State::Completed, Some(json!({"value": 7})))]);
        assert_eq!(
            whole.unwrap().unwrap()["choices"][0]["message"]["content"],
            r#"{"value":7}"#
        );
        assert_eq!(chunks[1]["choices"][0]["delta"]["content"], r#"{"value":7}"#);
    }
}
