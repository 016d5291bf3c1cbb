//! `runtime: http`: an agent that answers elsewhere, at once or as a stream of text.

use futures::StreamExt;
use mesh_types::Problem;
use mesh_types::agent::HttpAgent;
use mesh_types::tool::{ToolCall, ToolReply};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::failure;
use crate::http_tool;
use crate::sse::Events;
use crate::web::{self, Ask, Web};

const ACCEPT: &str = "text/event-stream, application/json;q=0.9, text/plain;q=0.5";
/// More than this of tokens or dollars in one call is taken for nonsense and cut.
const TOKENS_MAX: u64 = 1_000_000_000;
const COST_USD_MAX: f64 = 1_000_000.0;

/// POST of `{"payload": …, "session": …}`. Text that streams also goes to `on_text`.
pub(crate) async fn call(
    web: &Web,
    agent: &HttpAgent,
    call: &ToolCall,
    bytes_max: usize,
    on_text: &mut (dyn FnMut(String) + Send),
) -> Result<ToolReply, Problem> {
    let mut body = json!({"payload": call.arguments});
    if let Some(session) = &call.session {
        body["session"] = session.as_str().into();
    }
    let ask = Ask {
        method: Method::POST,
        url: &agent.url,
        accept: ACCEPT,
        idempotency_key: Some(&call.idempotency_key),
        body: Some(body.to_string().into_bytes()),
        hosts: None,
    };
    let response = web::successful(web.send(ask).await?).await?;
    let provider = response.url().host_str().map(str::to_owned);
    let reply = if web::content_type(&response).starts_with("text/event-stream") {
        streamed(response, bytes_max, on_text).await?
    } else {
        at_once(http_tool::result(response, bytes_max).await?)
    };
    Ok(ToolReply { provider, ..reply })
}

fn at_once(answer: Value) -> ToolReply {
    let usage = usage(&answer["usage"]);
    let output = match answer {
        Value::Object(_) => answer,
        Value::String(text) => json!({"text": text}),
        Value::Null => json!({}),
        other => json!({"value": other}),
    };
    ToolReply {
        usage,
        ..ToolReply::of(output)
    }
}

/// What the events have said so far.
#[derive(Default)]
struct Said {
    text: String,
    output: Option<Value>,
    usage: (u64, u64, f64),
    is_done: bool,
}

async fn streamed(
    response: Response,
    bytes_max: usize,
    on_text: &mut (dyn FnMut(String) + Send),
) -> Result<ToolReply, Problem> {
    let mut events = Events::new(bytes_max);
    let mut said = Said::default();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(failure::of_request)?;
        let complete = events.feed(&chunk).map_err(|_| failure::too_long(bytes_max))?;
        for data in complete {
            said.take(&data, bytes_max, on_text)?;
        }
        if said.is_done {
            return Ok(said.reply());
        }
    }
    if let Some(data) = events.rest() {
        said.take(&data, bytes_max, on_text)?;
    }
    Ok(said.reply())
}

impl Said {
    /// `{"text": …}`, the chunks of OpenAI's chat API, `{"output": …}`, `{"usage": …}`, `{"error": …}`, or plain text.
    fn take(&mut self, data: &str, bytes_max: usize, on_text: &mut (dyn FnMut(String) + Send)) -> Result<(), Problem> {
        if self.is_done {
            return Ok(());
        }
        if data.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let piece = match serde_json::from_str::<Value>(data) {
            Ok(Value::Object(mut event)) => {
                if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
                    let said = error["message"]
                        .as_str()
                        .map_or_else(|| error.to_string(), str::to_owned);
                    return Err(failure::transient(failure::quoted(&said)));
                }
                if let Some(said) = event.get("usage").filter(|usage| usage.is_object()) {
                    self.usage = usage(said);
                }
                if let Some(output) = event.remove("output").filter(Value::is_object) {
                    self.output = Some(output);
                }
                let text = event.get("text").and_then(Value::as_str);
                let delta = || event.get("choices")?[0]["delta"]["content"].as_str();
                text.or_else(delta).unwrap_or_default().to_owned()
            }
            Ok(Value::String(text)) => text,
            _ => data.to_owned(),
        };
        if piece.is_empty() {
            return Ok(());
        }
        self.text.push_str(&piece);
        if self.text.len() > bytes_max {
            return Err(failure::too_long(bytes_max));
        }
        on_text(piece);
        Ok(())
    }

    fn reply(self) -> ToolReply {
        let mut output = self.output.unwrap_or_else(|| json!({}));
        // What streamed is the text: whoever followed it has seen the same.
        if !self.text.is_empty() || output.get("text").is_none() {
            output["text"] = self.text.into();
        }
        ToolReply {
            usage: self.usage,
            ..ToolReply::of(output)
        }
    }
}

/// As this mesh says it, or as OpenAI does.
fn usage(said: &Value) -> (u64, u64, f64) {
    let tokens = |ours: &str, theirs: &str| {
        let count = said[ours].as_u64().or_else(|| said[theirs].as_u64());
        count.unwrap_or(0).min(TOKENS_MAX)
    };
    let cost = said["cost_usd"].as_f64().unwrap_or(0.0).clamp(0.0, COST_USD_MAX);
    (
        tokens("input_tokens", "prompt_tokens"),
        tokens("output_tokens", "completion_tokens"),
        cost,
    )
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
