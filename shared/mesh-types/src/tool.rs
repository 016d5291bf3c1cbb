//! Tools of a declared agent (CONTRACT, "An agent, declared"), and what is asked of the world when one is called.

use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::agent::{CliAgent, HttpAgent, Script};
use crate::name::AgentName;
use crate::span::Span;

/// What may happen to an effect whose result was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Runs again freely.
    Pure,
    /// Runs again with the same key `<invocation>/<step>` and input.
    Idempotent,
    /// Never runs again by itself.
    AtMostOnce,
}

impl Effect {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Idempotent => "idempotent",
            Self::AtMostOnce => "at_most_once",
        }
    }
}

/// One tool. A bare string declares a builtin by its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool(pub Box<ToolSpec>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolSpec {
    /// What the model calls it: `[A-Za-z0-9_-]{1,64}`, unique within the agent.
    pub name: String,
    #[serde(default)]
    pub kind: ToolKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema of the arguments, an object. Builtins bring their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// JSON Schema of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<Value>,
    /// Absent: `at_most_once`, and for builtins what each is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    #[serde(default, skip_serializing_if = "ApprovalRule::is_never")]
    pub approval: ApprovalRule,
    /// Absent: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// `http`: where the arguments are posted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `agent`: who is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// `mcp`: the server, and the tool's name there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Mcp>,
    /// `script`: the command; it reads the arguments as JSON from its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// `http_get`: hosts that may be asked, exact or `*.example.org`; empty allows none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    #[default]
    Builtin,
    Http,
    Mcp,
    Agent,
    Script,
}

/// Whether a person is asked before each call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalRule {
    #[default]
    Never,
    Always,
}

impl ApprovalRule {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

/// A Model Context Protocol server: a command (stdio) or a URL (streamable HTTP), exactly one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of the tool on the server; absent: the declared name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

/// Builtins by name, each with its effect class and the JSON Schema of its arguments.
pub const BUILTINS: [&str; 9] = [
    "create_task",
    "summarize_channel",
    "post_message",
    "remember",
    "recall",
    "now",
    "http_get",
    "sleep",
    "wait_signal",
];

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

impl ToolSpec {
    pub fn builtin(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: ToolKind::Builtin,
            description: String::new(),
            parameters: None,
            returns: None,
            effect: None,
            approval: ApprovalRule::Never,
            timeout: None,
            url: None,
            agent: None,
            mcp: None,
            script: None,
            allow: Vec::new(),
        }
    }

    /// As declared; builtins know theirs, a child invocation is found again by its id, all else is at most once.
    pub fn effect(&self) -> Effect {
        match (self.effect, self.kind) {
            (Some(effect), _) => effect,
            (None, ToolKind::Builtin) => match self.name.as_str() {
                "summarize_channel" | "recall" | "now" | "http_get" => Effect::Pure,
                _ => Effect::Idempotent,
            },
            (None, ToolKind::Agent) => Effect::Idempotent,
            (None, _) => Effect::AtMostOnce,
        }
    }

    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT_DEFAULT, |span| span.0)
    }
}

impl std::ops::Deref for Tool {
    type Target = ToolSpec;
    fn deref(&self) -> &ToolSpec {
        &self.0
    }
}

impl Serialize for Tool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self.0 == ToolSpec::builtin(self.0.name.as_str()) {
            return serializer.serialize_str(&self.0.name);
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrObject;
        impl<'de> Visitor<'de> for NameOrObject {
            type Value = Tool;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a builtin tool, or an object that declares one")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Tool, E> {
                Ok(Tool(Box::new(ToolSpec::builtin(name))))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tool, A::Error> {
                let spec = ToolSpec::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Tool(Box::new(spec)))
            }
        }
        deserializer.deserialize_any(NameOrObject)
    }
}

impl utoipa::PartialSchema for Tool {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let name = ObjectBuilder::new().schema_type(Type::String);
        OneOfBuilder::new().item(name).item(ToolSpec::schema()).into()
    }
}

impl utoipa::ToSchema for Tool {
    fn name() -> std::borrow::Cow<'static, str> {
        "Tool".into()
    }

    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>) {
        ToolSpec::schemas(schemas);
    }
}

/// What is reached outside of the mesh, by one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "target", content = "spec", rename_all = "snake_case")]
pub enum Target {
    /// A tool of kind `http`, `mcp` or `script`, or the builtin `http_get`.
    Tool(Tool),
    /// `runtime: script`: the payload as JSON on its standard input.
    Script(Script),
    /// `runtime: cli`.
    Cli(CliAgent),
    /// `runtime: http`.
    Http(HttpAgent),
}

/// One call of something outside.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub target: Target,
    /// Arguments, checked against `parameters` by the caller.
    pub arguments: Value,
    /// `<invocation>/<step>`: the same in every attempt.
    pub idempotency_key: String,
    /// Longest time that it may take.
    pub timeout: Duration,
    /// Session of the invocation, for those that keep a conversation.
    pub session: Option<String>,
}

/// What it answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolReply {
    pub output: Value,
    /// Tokens and money where the other side says them: (input, output, US dollars).
    pub usage: (u64, u64, f64),
    /// Who answered, such as `codex`; for runtimes.
    pub provider: Option<String>,
}

impl ToolReply {
    pub fn of(output: Value) -> Self {
        Self {
            output,
            usage: (0, 0, 0.0),
            provider: None,
        }
    }
}

/// The function as a model is told of it (the shape of OpenAI's chat API).
pub fn function(name: &str, description: &str, parameters: &Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
}

/// A schema that takes any object.
pub fn any_object() -> Value {
    Value::Object(Map::from_iter([("type".to_owned(), json!("object"))]))
}
