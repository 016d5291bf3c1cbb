//! An agent as people declare it (CONTRACT, "An agent, declared"): defaults, limits, and the flat form of the replaced API.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::name::{AgentName, Tenant};
use crate::problem::{Code, Problem};

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
    pub instructions: String,
    pub capabilities: BTreeMap<String, bool>,
    pub context: ContextLimits,
    pub memory: MemoryUse,
    pub tools: Vec<Value>,
    pub session: Session,
    pub limits: Limits,
    pub retry: Retry,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
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
    pub name: String,
    pub temperature: f64,
    pub max_tokens: u32,
    pub fallbacks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextLimits {
    /// Messages read from the channel.
    pub history: u32,
    /// Newest messages of them that go into the prompt.
    pub recent: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryUse {
    pub query_top_k: u32,
    pub writeback: bool,
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
    pub iterations: u32,
    /// Longest run of one invocation.
    pub timeout: Span,
    /// Invocations that one replica runs at once.
    pub concurrency: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries of one step, the first included.
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    pub replicas: u32,
    pub node_selector: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Such as `256MB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// The flat form's fields, kept as they came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Noop {
    pub steps: u32,
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
            container: None,
            noop: None,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self { name: "gpt-4".into(), temperature: 0.7, max_tokens: 1_000, fallbacks: Vec::new() }
    }
}

impl Default for ContextLimits {
    fn default() -> Self {
        Self { history: 50, recent: 10 }
    }
}

impl Default for MemoryUse {
    fn default() -> Self {
        Self { query_top_k: 5, writeback: true }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self { policy: SessionPolicy::Queue }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { iterations: 12, timeout: Span(Duration::from_secs(120)), concurrency: 16 }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, backoff: Backoff::Exponential }
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self { replicas: 1, node_selector: BTreeMap::new() }
    }
}

/// A length of time as people write it: `250ms`, `10s`, `5m`, `2h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, utoipa::ToSchema)]
#[schema(value_type = String, example = "120s")]
pub struct Span(pub Duration);

const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let millis = SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, factor)| number.parse::<u64>().ok()?.checked_mul(*factor));
        millis
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| format!("`{text}` is no length of time: write a number and ms, s, m, h or d, such as 120s"))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, factor) = SPAN_UNITS
            .iter()
            .rev()
            .take(4)
            .find(|(unit, factor)| *unit != "d" && millis > 0 && millis % factor == 0 && (*factor <= 1_000 || millis >= 5 * factor))
            .unwrap_or(&SPAN_UNITS[0]);
        write!(f, "{}{unit}", millis / factor)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
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

    /// Limits that types cannot say. The problem names the field.
    pub fn validate(&self) -> Result<(), Problem> {
        let spec = &self.spec;
        let checks: [(bool, &str, &str); 14] = [
            (self.api_version == "mesh/v1", "apiVersion", "must be `mesh/v1`"),
            (self.kind == "Agent", "kind", "must be `Agent`"),
            ((0.0..=2.0).contains(&spec.model.temperature), "spec.model.temperature", "must lie between 0 and 2"),
            ((1..=1_000_000).contains(&spec.model.max_tokens), "spec.model.max_tokens", "must lie between 1 and 1000000"),
            (!spec.model.name.is_empty() && spec.model.name.len() <= 128, "spec.model.name", "must have 1 to 128 characters"),
            (spec.model.fallbacks.len() <= 8, "spec.model.fallbacks", "at most 8"),
            (spec.context.history <= 500, "spec.context.history", "at most 500"),
            (spec.context.recent <= spec.context.history, "spec.context.recent", "must not exceed spec.context.history"),
            (spec.memory.query_top_k <= 100, "spec.memory.query_top_k", "at most 100"),
            ((1..=1_000).contains(&spec.limits.iterations), "spec.limits.iterations", "must lie between 1 and 1000"),
            ((1..=10_000).contains(&spec.limits.concurrency), "spec.limits.concurrency", "must lie between 1 and 10000"),
            (spec.limits.timeout.0 >= Duration::from_millis(1), "spec.limits.timeout", "must be at least 1ms"),
            ((1..=20).contains(&spec.retry.attempts), "spec.retry.attempts", "must lie between 1 and 20"),
            (spec.noop.as_ref().is_none_or(|noop| noop.steps <= 1_000), "spec.noop.steps", "at most 1000"),
        ];
        let labels_are_short = self.metadata.labels.iter().all(|(k, v)| !k.is_empty() && k.len() <= 64 && v.len() <= 256);
        let text_is_storable = !spec.instructions.contains('\0') && spec.instructions.len() <= 256 * 1024;
        for (ok, field, rule) in checks.into_iter().chain([
            (labels_are_short, "metadata.labels", "keys have 1 to 64 bytes, values at most 256"),
            (text_is_storable, "spec.instructions", "at most 256 KiB and without U+0000"),
        ]) {
            if !ok {
                return Err(Problem::new(Code::AgentInvalid, format!("{field} {rule}")).field(field));
            }
        }
        Ok(())
    }

    /// Whether an agent of this runtime can be published by this build.
    pub fn publishable(&self) -> Result<(), Problem> {
        match self.spec.runtime {
            Runtime::Llm | Runtime::Noop => Ok(()),
            other => Err(Problem::new(
                Code::RuntimeNotAvailable,
                format!("runtime `{}` cannot be published yet", other.as_str()),
            )
            .field("spec.runtime")
            .next("use runtime llm or noop; the declared object is kept as it is")),
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
    for (from, to) in
        [("docker_image", "image"), ("cpu_limit", "cpu_limit"), ("memory_limit", "memory_limit"), ("env_vars", "env")]
    {
        if let Some(value) = flat.remove(from) {
            container.insert(to.into(), value);
        }
    }
    let mut metadata = Map::new();
    if let Some(name) = flat.remove("name") {
        metadata.insert("name".into(), name);
    }
    flat.insert("metadata".into(), Value::Object(metadata));
    flat.insert("spec".into(), serde_json::json!({"runtime": "container", "container": container}));
    flat
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
