//! A chat completion that is asked for: read strictly, and turned into an invocation. What agents cannot do is refused
//! by name unless it asks for what they do anyway.

use mesh_api::execution::InvokeRequest;
use mesh_types::content::Content;
use mesh_types::{AgentName, Code};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::http::problem::Failure;

/// Fields of OpenAI's API that agents have no use for, with the values that change nothing; `null` never does.
const HARMLESS: [(&str, &[&str]); 14] = [
    ("n", &["1"]),
    ("top_p", &["1", "1.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("logprobs", &["false"]),
    ("logit_bias", &["{}"]),
    ("stop", &["[]"]),
    ("parallel_tool_calls", &["true"]),
    ("store", &["false"]),
    ("service_tier", &["\"auto\"", "\"default\""]),
    ("modalities", &["[\"text\"]"]),
    ("functions", &["[]"]),
    ("prompt_cache_key", ANY),
    ("safety_identifier", ANY),
];
/// Every value.
const ANY: &[&str] = &[];

/// The fields that are taken. Others are refused by name, unless they say what holds anyway.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct ChatRequest {
    /// An agent's name.
    #[schema(min_length = 1, example = "sofia")]
    model: String,
    #[schema(min_items = 1)]
    messages: Vec<ChatMessage>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    /// Functions that the client runs.
    #[serde(default)]
    tools: Option<Vec<Value>>,
    /// `auto` or `none`.
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// At most what the agent declares.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    #[serde(default)]
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u32>,
    /// `text`, `json_object` or `json_schema`.
    #[serde(default)]
    response_format: Option<ResponseFormat>,
    /// Whom the agent speaks with; the session, unless `metadata.session` names one.
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    json_schema: Option<Value>,
}

/// What it comes to.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) agent: AgentName,
    pub(super) request: InvokeRequest,
    pub(super) streams: bool,
    pub(super) shows_usage: bool,
}

impl ChatRequest {
    /// # Errors
    /// Names the field that is wrong or asks for what agents do not do.
    pub(super) fn read(self) -> Result<Wanted, Failure> {
        check_rest(&self.rest)?;
        let agent = self.model.parse().map_err(|_| {
            let shown: String = self.model.chars().take(64).collect();
            let failure = Failure::new(Code::AgentNotFound, format!("there is no agent `{shown}`"));
            Failure(failure.0.field("model").next("GET /v1/models lists them"))
        })?;
        self.check_numbers()?;
        if self.messages.is_empty() {
            return Err(Failure::invalid("messages", "messages must hold at least one message"));
        }
        let messages = self.messages.into_iter().enumerate();
        let messages: Vec<Value> = messages
            .map(|(at, message)| message.read(at))
            .collect::<Result<_, _>>()?;
        let mut payload = json!({"messages": messages});
        let tools = self.tools.unwrap_or_default();
        if offers(self.tool_choice.as_ref())? && !tools.is_empty() {
            payload["client_tools"] = Value::Array(tools);
        }
        let options = [
            ("temperature", self.temperature.map(Value::from)),
            (
                "max_tokens",
                self.max_completion_tokens.or(self.max_tokens).map(Value::from),
            ),
            (
                "response_schema",
                self.response_format.map(ResponseFormat::schema).transpose()?.flatten(),
            ),
        ];
        let given = options
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let options: Map<String, Value> = given.collect();
        if !options.is_empty() {
            payload["model_options"] = Value::Object(options);
        }
        let mut metadata = self.metadata.unwrap_or_default();
        let session = match metadata.remove("session") {
            None | Some(Value::Null) => self.user.clone(),
            Some(Value::String(session)) => Some(session),
            Some(_) => {
                return Err(Failure::invalid(
                    "metadata.session",
                    "metadata.session must be a string",
                ));
            }
        };
        if let Some(user) = self.user {
            metadata.insert("user".into(), Value::from(user));
        }
        Ok(Wanted {
            agent,
            request: InvokeRequest {
                payload,
                entrypoint: Some("openai".into()),
                session,
                metadata,
                ..InvokeRequest::default()
            },
            streams: self.stream.unwrap_or(false),
            shows_usage: self.stream_options.unwrap_or_default().include_usage.unwrap_or(false),
        })
    }

    fn check_numbers(&self) -> Result<(), Failure> {
        if self.temperature.is_some_and(|heat| !(0.0..=2.0).contains(&heat)) {
            return Err(Failure::invalid("temperature", "temperature must lie between 0 and 2"));
        }
        for (name, value) in [
            ("max_tokens", self.max_tokens),
            ("max_completion_tokens", self.max_completion_tokens),
        ] {
            if value == Some(0) {
                return Err(Failure::invalid(name, format!("{name} must be at least 1")));
            }
        }
        Ok(())
    }
}

fn check_rest(rest: &Map<String, Value>) -> Result<(), Failure> {
    for (name, value) in rest.iter().filter(|(_, value)| !value.is_null()) {
        let shown: String = name.chars().take(64).collect();
        let Some((_, harmless)) = HARMLESS.iter().find(|(known, _)| known == name) else {
            return Err(Failure::invalid(&shown, format!("`{shown}` is not taken here")).next("leave it out"));
        };
        let text = value.to_string();
        if !harmless.is_empty() && !harmless.contains(&text.as_str()) {
            let taken = harmless.join(" or ");
            return Err(
                Failure::invalid(&shown, format!("agents do not do that: `{shown}` may be {taken}"))
                    .next("leave it out"),
            );
        }
    }
    Ok(())
}

/// Whether the model is told of the client's tools.
fn offers(choice: Option<&Value>) -> Result<bool, Failure> {
    match choice {
        None | Some(Value::Null) => Ok(true),
        Some(Value::String(choice)) if choice == "auto" => Ok(true),
        Some(Value::String(choice)) if choice == "none" => Ok(false),
        Some(_) => {
            Err(Failure::invalid("tool_choice", "an agent cannot be made to call a tool").next("use auto or none"))
        }
    }
}

impl ChatMessage {
    fn read(self, at: usize) -> Result<Value, Failure> {
        let role = match self.role.as_str() {
            "developer" => "system",
            role @ ("system" | "user" | "assistant" | "tool") => role,
            _ => {
                let field = format!("messages[{at}].role");
                let words = format!("{field} must be system, developer, user, assistant or tool");
                return Err(Failure::invalid(&field, words));
            }
        };
        if role == "tool" && self.tool_call_id.as_deref().unwrap_or_default().is_empty() {
            let field = format!("messages[{at}].tool_call_id");
            return Err(Failure::invalid(
                &field,
                format!("{field} must name the call that it answers"),
            ));
        }
        let mut message = json!({"role": role, "content": self.content.unwrap_or(Content::Text(String::new()))});
        if let Some(calls) = self.tool_calls.filter(|calls| !calls.is_empty()) {
            message["tool_calls"] = Value::Array(calls);
        }
        if let Some(id) = self.tool_call_id {
            message["tool_call_id"] = Value::from(id);
        }
        Ok(message)
    }
}

impl ResponseFormat {
    /// The JSON Schema that the answer must follow.
    fn schema(self) -> Result<Option<Value>, Failure> {
        match (self.kind.as_str(), self.json_schema) {
            ("text", _) => Ok(None),
            ("json_object", _) => Ok(Some(json!({"type": "object"}))),
            ("json_schema", Some(mut named)) if named["schema"].is_object() => Ok(Some(named["schema"].take())),
            ("json_schema", _) => {
                let field = "response_format.json_schema.schema";
                Err(Failure::invalid(field, format!("{field} must be a JSON Schema")))
            }
            _ => Err(Failure::invalid(
                "response_format.type",
                "response_format.type must be text, json_object or json_schema",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: Value) -> Result<Wanted, Failure> {
        let mut body = json!({"model": "sofia", "messages": [{"role": "user", "content": "hi"}]});
        let (Value::Object(body), Value::Object(more)) = (&mut body, more) else {
            unreachable!("objects");
        };
        body.extend(more);
        serde_json::from_value::<ChatRequest>(Value::Object(body.clone()))
            .expect("the fields have the right types")
            .read()
    }

    #[test]
    fn a_request_becomes_an_invocation() {
        let tool = json!({"type": "function", "function": {"name": "weather"}});
        let wanted = read(
            json!({"tools": [tool], "tool_choice": "auto", "max_completion_tokens": 9, "user": "ann",
            "metadata": {"session": "s1", "team": "x"}, "stream": true, "stream_options": {"include_usage": true},
            "response_format": {"type": "json_object"}, "n": 1, "top_p": 1.0, "seed": null}),
        )
        .unwrap();
        assert!(wanted.streams && wanted.shows_usage);
        let InvokeRequest {
            payload,
            session,
            metadata,
            ..
        } = wanted.request;
        assert_eq!(
            payload,
            json!({"messages": [{"role": "user", "content": "hi"}], "client_tools": [tool],
                "model_options": {"max_tokens": 9, "response_schema": {"type": "object"}}})
        );
        assert_eq!(session.as_deref(), Some("s1"));
        assert_eq!(Value::Object(metadata), json!({"team": "x", "user": "ann"}));
        assert_eq!(
            read(json!({"user": "ann"})).unwrap().request.session.as_deref(),
            Some("ann")
        );
        let quiet = read(json!({"tools": [tool], "tool_choice": "none"})).unwrap();
        assert_eq!(quiet.request.payload.get("client_tools"), None);
    }

    #[test]
    fn a_turn_with_tools_comes_back_as_it_went() {
        let call = json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}});
        let messages = json!([{"role": "developer", "content": "be brief"},
            {"role": "assistant", "content": null, "tool_calls": [call], "refusal": null},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"}]);
        let payload = read(json!({"messages": messages})).unwrap().request.payload;
        assert_eq!(
            payload["messages"],
            json!([{"role": "system", "content": "be brief"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "rain", "tool_call_id": "c1"}])
        );
    }

    #[test]
    fn what_agents_do_not_do_is_refused_by_name() {
        for (more, field) in [
            (json!({"n": 2}), "n"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"top_p": 0.1}), "top_p"),
            (json!({"stop": ["x"]}), "stop"),
            (json!({"hologram": 1}), "hologram"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"messages": []}), "messages"),
            (
                json!({"messages": [{"role": "king", "content": "x"}]}),
                "messages[0].role",
            ),
            (
                json!({"messages": [{"role": "tool", "content": "x"}]}),
                "messages[0].tool_call_id",
            ),
            (json!({"metadata": {"session": 7}}), "metadata.session"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"model": "a b"}), "model"),
        ] {
            let failure = read(more.clone()).unwrap_err();
            assert_eq!(failure.0.field.as_deref(), Some(field), "{more}");
        }
        assert_eq!(read(json!({"model": "openai/gpt"})).unwrap_err().0.status, 404);
    }
}
