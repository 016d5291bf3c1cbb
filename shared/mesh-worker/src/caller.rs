//! What a caller brings besides words: tools that he runs himself, and settings of the model for this invocation.
//!
//! A turn that calls nothing but the caller's tools ends the invocation: its output names the calls, and the caller
//! goes on with another invocation whose `messages` hold their results, as OpenAI's and AG-UI's clients do. In a turn
//! that mixes them with the agent's own tools the latter run, and the model is told to call the caller's alone.

use std::collections::BTreeSet;

use mesh_api::inference::FunctionCall;
use mesh_types::{Code, Problem};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Tools that one caller may bring.
const TOOLS_MAX: usize = 128;
/// Longest name of one, as OpenAI's API has it.
const NAME_BYTES_MAX: usize = 64;

/// `client_tools` and `model_options` of a payload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Brought {
    /// As a model is told of them: `{"type":"function","function":{"name","description","parameters"}}`.
    pub tools: Vec<Value>,
    names: BTreeSet<String>,
    settings: Settings,
}

/// What is left out is as the agent declares it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    temperature: Option<f64>,
    /// At most what the agent declares.
    max_tokens: Option<u32>,
    /// JSON Schema that the answer must follow.
    response_schema: Option<Value>,
}

impl Brought {
    /// # Errors
    /// Names the field that is wrong.
    pub fn parse(payload: &Value) -> Result<Self, Problem> {
        let settings = match payload.get("model_options").filter(|options| !options.is_null()) {
            Some(options) => Settings::deserialize(options)
                .map_err(|error| wrong("payload.model_options", format!("payload.model_options: {error}")))?,
            None => Settings::default(),
        };
        let tools = match payload.get("client_tools") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(tools)) if tools.len() <= TOOLS_MAX => tools.clone(),
            Some(_) => {
                let why = format!("payload.client_tools must be a list of at most {TOOLS_MAX} functions");
                return Err(wrong("payload.client_tools", why));
            }
        };
        let mut names = BTreeSet::new();
        for (at, tool) in tools.iter().enumerate() {
            let field = format!("payload.client_tools[{at}].function.name");
            let name = tool["function"]["name"].as_str().filter(|name| is_name(name));
            let Some(name) = name else {
                let why = format!("{field} must have 1 to {NAME_BYTES_MAX} letters, digits, `_` and `-`");
                return Err(wrong(&field, why));
            };
            if !names.insert(name.to_owned()) {
                return Err(wrong(&field, format!("{field}: `{name}` stands twice")));
            }
        }
        Ok(Self { tools, names, settings })
    }

    /// # Errors
    /// A tool has the name of one of the agent's own.
    pub(crate) fn check_against<'n>(&self, own: impl IntoIterator<Item = &'n str>) -> Result<(), Problem> {
        match own.into_iter().find(|name| self.has(name)) {
            Some(name) => {
                let why = format!("payload.client_tools: the agent has a tool `{name}` of its own");
                Err(wrong("payload.client_tools", why).next("give yours another name"))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether the model calls nothing but tools of the caller.
    pub(crate) fn answers_all(&self, calls: &[Value]) -> bool {
        let is_ours = |call| FunctionCall::parse(call).is_some_and(|call| self.has(&call.name));
        !calls.is_empty() && calls.iter().all(is_ours)
    }

    /// Puts the caller's settings over the agent's.
    pub(crate) fn apply(&self, options: &mut Map<String, Value>) {
        let Settings {
            temperature,
            max_tokens,
            response_schema,
        } = &self.settings;
        if let Some(temperature) = temperature {
            options.insert("temperature".to_owned(), Value::from(*temperature));
        }
        if let Some(asked) = max_tokens {
            let declared = options.get("max_tokens").and_then(Value::as_u64);
            let most = declared.map_or(u64::from(*asked), |declared| declared.min(u64::from(*asked)));
            options.insert("max_tokens".to_owned(), Value::from(most));
        }
        if let Some(schema) = response_schema {
            options.insert("response_schema".to_owned(), schema.clone());
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn wrong(field: &str, why: String) -> Problem {
    Problem::new(Code::InvalidRequest, why).field(field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools(names: &[&str]) -> Value {
        let tools = names
            .iter()
            .map(|name| json!({"type": "function", "function": {"name": name}}));
        json!({"client_tools": tools.collect::<Vec<_>>()})
    }

    #[test]
    fn tools_are_told_apart_by_their_names() {
        let brought = Brought::parse(&tools(&["weather", "clock"])).unwrap();
        let call = |name: &str| json!({"id": "c", "function": {"name": name, "arguments": "{}"}});
        assert!(brought.answers_all(&[call("weather"), call("clock")]));
        assert!(!brought.answers_all(&[call("weather"), call("own")]));
        assert!(!brought.answers_all(&[]));
        assert!(brought.check_against(["own"]).is_ok());
        let problem = brought.check_against(["own", "clock"]).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("payload.client_tools"));
    }

    #[test]
    fn what_is_no_tool_is_refused_by_its_place() {
        for (payload, field) in [
            (tools(&["a", "a"]), "payload.client_tools[1].function.name"),
            (tools(&["a b"]), "payload.client_tools[0].function.name"),
            (json!({"client_tools": {}}), "payload.client_tools"),
            (json!({"model_options": {"heat": 1}}), "payload.model_options"),
        ] {
            assert_eq!(Brought::parse(&payload).unwrap_err().field.as_deref(), Some(field));
        }
    }

    #[test]
    fn settings_stand_over_the_agents_but_within_its_limit() {
        let over = |asked: Value| {
            let mut options = Map::from_iter([("max_tokens".to_owned(), json!(100))]);
            Brought::parse(&json!({"model_options": asked}))
                .unwrap()
                .apply(&mut options);
            Value::Object(options)
        };
        assert_eq!(over(json!({"max_tokens": 7})), json!({"max_tokens": 7}));
        assert_eq!(over(json!({"max_tokens": 700})), json!({"max_tokens": 100}));
        assert_eq!(over(json!({"temperature": 0.5}))["temperature"], 0.5);
        assert_eq!(over(json!(null)), json!({"max_tokens": 100}));
    }
}
