//! Endpoints of `inference`: the way to models.

use mesh_types::AgentName;
use mesh_types::content::Content;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::endpoint::StreamEndpoint;
use crate::execution::Empty;
use crate::journal::Usage;

endpoints! { "inference";
    /// One model call with its fallbacks. Text arrives as chunks, the reply holds all of it.
    Complete = "complete", CompleteRequest => Completion, Program, 120 s;
    /// Vectors of texts, in order. Which provider: as for chat, by the model's name.
    Embed = "embed", EmbedRequest => Embedded, Program, 60 s;
    Models = "models", Empty => ModelList, Viewer, 5 s;
    /// A model call of a node itself, of no invocation, at `mesh.node.<node>.inference.chat`: its owner pays.
    Chat = "chat", CompleteRequest => Completion, Service, 120 s;
}

impl StreamEndpoint for Complete {
    type Chunk = Chunk;
}

impl StreamEndpoint for Chat {
    type Chunk = Chunk;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompleteRequest {
    /// Tried first; then the fallbacks in order.
    pub model: String,
    #[serde(default)]
    pub fallbacks: Vec<String>,
    pub messages: Vec<PromptMessage>,
    #[serde(default)]
    pub temperature: Option<f64>,
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// `<invocation>/<step>`, passed on where the provider takes one.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    #[serde(default)]
    pub tools: Vec<Value>,
    /// JSON Schema that the answer's text must follow; the provider is told where it can be, and the answer is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
    /// Answers from what the same question (model, messages, tools, settings) was answered before, if the
    /// configuration keeps answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cache: bool,
    /// Which agent asks, for usage events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// How `mock` answers, and other things of the call.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PromptMessage {
    pub role: Role,
    pub content: Content,
    /// Of an assistant's turn: the calls it asked for, as the provider gave them (the shape of OpenAI's chat API).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// Of a tool's turn: which call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl PromptMessage {
    pub fn new(role: Role, content: impl Into<Content>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// A tool call of a model, parsed from [`Completion::tool_calls`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    pub id: String,
    pub name: String,
    /// As text, since models write JSON that is none.
    pub arguments: String,
}

impl FunctionCall {
    /// `None`: not a call of a function.
    pub fn parse(call: &Value) -> Option<Self> {
        let function = call.get("function")?;
        Some(Self {
            id: call.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            name: function.get("name")?.as_str()?.to_owned(),
            arguments: match function.get("arguments") {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => "{}".to_owned(),
            },
        })
    }

    pub fn to_value(&self) -> Value {
        serde_json::json!({"id": self.id, "type": "function",
            "function": {"name": self.name, "arguments": self.arguments}})
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PromptRole)]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chunk {
    /// Another model or another try starts: what came before is void. Counted from 1.
    Attempt(u32),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Completion {
    pub text: String,
    /// The model that answered.
    pub model: String,
    /// Its provider: `openai`, `anthropic`, `ollama`, `mock`.
    pub provider: String,
    pub usage: Usage,
    /// The provider said no token counts: `usage` is counted from the length of the texts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub usage_estimated: bool,
    /// Models tried before, each with why it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedModel>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    pub finish_reason: String,
    /// Which attempt the text belongs to, as announced by [`Chunk::Attempt`].
    pub attempt: u32,
    /// Of the input tokens, those that the provider took from its cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// The response cache answered: no provider was asked, nothing was paid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_cache: bool,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Texts to embed, at most 256 of at most 32 KiB each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedRequest {
    pub model: String,
    pub texts: Vec<String>,
    /// Asked of providers that can shorten their vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Embedded {
    pub model: String,
    pub provider: String,
    /// One per text, in order; all of one length.
    pub vectors: Vec<Vec<f32>>,
    pub usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailedModel {
    pub model: String,
    pub provider: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelList {
    pub items: Vec<ModelView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelView {
    pub name: String,
    pub provider: String,
    /// Whether its provider is configured.
    pub available: bool,
}
