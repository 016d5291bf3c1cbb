//! An agent as people declare it (CONTRACT, "An agent, declared"): defaults, limits, and the flat form of the replaced API.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::name::{AgentName, Tenant, Token};
pub use crate::placement::{Autoscaling, Placement, Rollout, Spread};
use crate::problem::{Code, Problem};
pub use crate::runtimes::{CLI_DRIVERS, CliAgent, Container, HttpAgent, Noop, Script};
pub use crate::span::Span;
pub use crate::tool::{ApprovalRule, Effect, Mcp, Tool, ToolKind, ToolSpec};

/// The declared object. Unknown fields are refused by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    #[serde(rename = "apiVersion", default = "api_version")]
    #[schema(example = "mesh/v1")]
    pub api_version: String,
    #[serde(default = "kind")]
    #[schema(example = "Agent")]
    pub kind: String,
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: AgentSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    pub name: AgentName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What runs, with what, and within which limits. The bytes of its JSON are the artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSpec {
    pub runtime: Runtime,
    pub model: Model,
    /// What the model is told before everything else.
    pub instructions: String,
    pub capabilities: BTreeMap<String, bool>,
    pub context: ContextLimits,
    pub memory: MemoryUse,
    pub tools: Vec<Tool>,
    pub session: Session,
    pub limits: Limits,
    pub retry: Retry,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// `runtime: cli` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cli: Option<CliAgent>,
    /// `runtime: http` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpAgent>,
    /// `runtime: container` only; kept, not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// `runtime: noop` only: how many steps it records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noop: Option<Noop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    Llm,
    Script,
    Cli,
    Http,
    Noop,
    Container,
    Wasm,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: f64,
    /// Of one answer.
    #[schema(minimum = 1, maximum = 1000000)]
    pub max_tokens: u32,
    /// Models that are asked in turn where the one before cannot answer.
    #[schema(max_items = 8)]
    pub fallbacks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextLimits {
    /// Messages read from the channel.
    #[schema(maximum = 500)]
    pub history: u32,
    /// Newest messages of them that go into the prompt.
    pub recent: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryUse {
    /// Memories that stand in the prompt, and at most so many passages of documents beside them. 0: no memories.
    #[schema(maximum = 100)]
    pub query_top_k: u32,
    /// Whether each exchange is kept as an episodic memory of the agent.
    pub writeback: bool,
    /// Collections of documents that are searched with the memories, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub knowledge: Vec<Token>,
    /// Condenses episodic memories into semantic ones once so many have gathered, 2 to 1000; 0 never does.
    #[serde(skip_serializing_if = "is_zero")]
    pub consolidate_after: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    pub policy: SessionPolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionPolicy {
    Queue,
    Reject,
    Interrupt,
    Merge,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls of the model in one invocation.
    #[schema(minimum = 1, maximum = 1000)]
    pub iterations: u32,
    /// Longest run of one invocation.
    pub timeout: Span,
    /// Invocations that one replica runs at once.
    #[schema(minimum = 1, maximum = 10000)]
    pub concurrency: u32,
    /// Tool calls of one invocation, children included.
    #[schema(maximum = 100000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u32>,
    /// Tokens of one invocation, in and out.
    #[schema(minimum = 1, maximum = 1000000000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// US dollars of one invocation.
    #[schema(minimum = 0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Open child invocations at the same time. Absent: 16.
    #[schema(maximum = 1000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<u32>,
    /// Invocations above this one that called it, at most. Absent: 8.
    #[schema(maximum = 64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries of one step, the first included.
    #[schema(minimum = 1, maximum = 20)]
    pub attempts: u32,
    pub backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    None,
    Fixed,
    Exponential,
}

impl Default for AgentSpec {
    fn default() -> Self {
        Self {
            runtime: Runtime::Llm,
            model: Model::default(),
            instructions: String::new(),
            capabilities: BTreeMap::new(),
            context: ContextLimits::default(),
            memory: MemoryUse::default(),
            tools: Vec::new(),
            session: Session::default(),
            limits: Limits::default(),
            retry: Retry::default(),
            placement: None,
            script: None,
            cli: None,
            http: None,
            container: None,
            noop: None,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            name: "gpt-4".into(),
            temperature: 0.7,
            max_tokens: 1_000,
            fallbacks: Vec::new(),
        }
    }
}

impl Default for ContextLimits {
    fn default() -> Self {
        Self {
            history: 50,
            recent: 10,
        }
    }
}

impl Default for MemoryUse {
    fn default() -> Self {
        Self {
            query_top_k: 5,
            writeback: true,
            knowledge: Vec::new(),
            consolidate_after: 0,
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self {
            policy: SessionPolicy::Queue,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            iterations: 12,
            timeout: Span(Duration::from_secs(120)),
            concurrency: 16,
            tool_calls: None,
            tokens: None,
            cost_usd: None,
            children: None,
            depth: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::Exponential,
        }
    }
}

impl Agent {
    /// A declared object, or the flat form (`name, docker_image, …`), checked.
    pub fn from_json(value: Value) -> Result<Self, Problem> {
        let value = match value {
            Value::Object(object) if object.contains_key("docker_image") => Value::Object(from_flat(object)),
            other => other,
        };
        let agent: Self = crate::json::from_value(value)?;
        agent.validate()?;
        Ok(agent)
    }

    /// Whether an agent of this runtime can be published by this build.
    pub fn publishable(&self) -> Result<(), Problem> {
        match self.spec.runtime {
            Runtime::Llm | Runtime::Noop | Runtime::Script | Runtime::Cli | Runtime::Http => Ok(()),
            other => Err(Problem::new(
                Code::RuntimeNotAvailable,
                format!("runtime `{}` cannot be published yet", other.as_str()),
            )
            .field("spec.runtime")
            .next("use runtime llm, script, cli, http or noop; the declared object is kept as it is")),
        }
    }
}

impl Runtime {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Script => "script",
            Self::Cli => "cli",
            Self::Http => "http",
            Self::Noop => "noop",
            Self::Container => "container",
            Self::Wasm => "wasm",
        }
    }
}

fn api_version() -> String {
    "mesh/v1".into()
}

fn kind() -> String {
    "Agent".into()
}

/// The flat form of the replaced API becomes a declared object; what it does not know is left to be refused by name.
fn from_flat(mut flat: Map<String, Value>) -> Map<String, Value> {
    let mut container = Map::new();
    for (from, to) in [
        ("docker_image", "image"),
        ("cpu_limit", "cpu_limit"),
        ("memory_limit", "memory_limit"),
        ("env_vars", "env"),
    ] {
        if let Some(value) = flat.remove(from) {
            container.insert(to.into(), value);
        }
    }
    let mut metadata = Map::new();
    if let Some(name) = flat.remove("name") {
        metadata.insert("name".into(), name);
    }
    flat.insert("metadata".into(), Value::Object(metadata));
    flat.insert(
        "spec".into(),
        serde_json::json!({"runtime": "container", "container": container}),
    );
    flat
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
