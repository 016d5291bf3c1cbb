//! The tools that the mesh brings along: what the model is told of them. Their effects are in `tools`.

use std::time::Duration;

use mesh_api::memory::MemoryType;
use mesh_types::tool::{ToolKind, ToolSpec, any_object};
use serde_json::{Value, json};

/// Longest sleep and longest wait for a signal, in seconds: 30 days.
pub(crate) const WAIT_SECONDS_MAX: u64 = 30 * 24 * 3_600;
/// Messages that `summarize_channel` reads where it is not told how many, and at most.
pub(crate) const SUMMARY_MESSAGES: u64 = 50;
const SUMMARY_MESSAGES_MAX: u64 = 200;
/// Memories that `recall` finds where it is not told how many.
pub(crate) const RECALLED: u32 = 5;
const RECALLED_MAX: u32 = 50;
/// Longest time that a memory is told to last, in seconds: ten years.
const TTL_SECONDS_MAX: u64 = 10 * 365 * 24 * 3_600;

const TYPES: [MemoryType; 4] = MemoryType::ALL;

/// Of a memory.
fn tag() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 64})
}

/// What the model is told of the tool, as (description, parameters).
pub(crate) fn told(tool: &ToolSpec) -> (String, Value) {
    let (about, own) = match (tool.kind, tool.name.as_str()) {
        (ToolKind::Builtin, name) => builtin(name).unwrap_or(("", any_object())),
        (ToolKind::Agent, _) => ("Asks another agent and waits for its answer.", call_schema()),
        _ => ("", any_object()),
    };
    let parameters = match (&tool.parameters, tool.kind) {
        (Some(declared), kind) if kind != ToolKind::Builtin => declared.clone(),
        _ => own,
    };
    let description = match tool.description.trim() {
        "" => about.to_owned(),
        declared => declared.to_owned(),
    };
    (description, parameters)
}

/// Of an agent that is called and declares no parameters.
pub(crate) fn call_schema() -> Value {
    object(
        json!({
            "text": {"type": "string", "description": "What to ask it, with all that it needs to know."},
            "session": {"type": "string", "minLength": 1, "maxLength": 256,
                "description": "Calls of one session share a conversation and run one at a time."},
        }),
        &["text"],
    )
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Of a builtin of that name: (description, parameters).
#[expect(clippy::too_many_lines, reason = "a table")]
fn builtin(name: &str) -> Option<(&'static str, Value)> {
    let channel = json!({"type": "string", "description": "Absent: the channel of this conversation."});
    Some(match name {
        "create_task" => (
            "Hands a task to an agent, which works on it by itself. Its result is not waited for.",
            object(
                json!({
                    "agent": {"type": "string", "description": "Name of the agent."},
                    "text": {"type": "string", "minLength": 1, "description": "What to do."},
                    "priority": {"type": "integer", "minimum": 0, "maximum": 9},
                    "delay_seconds": {"type": "number", "minimum": 0, "maximum": WAIT_SECONDS_MAX},
                }),
                &["agent", "text"],
            ),
        ),
        "summarize_channel" => (
            "Reads the newest messages of a channel, for you to summarise.",
            object(
                json!({
                    "channel_id": channel,
                    "messages": {"type": "integer", "minimum": 1, "maximum": SUMMARY_MESSAGES_MAX},
                }),
                &[],
            ),
        ),
        "post_message" => (
            "Posts a message in a channel.",
            object(
                json!({"channel_id": channel, "text": {"type": "string", "minLength": 1}}),
                &["text"],
            ),
        ),
        "remember" => (
            "Keeps something in your long-term memory.",
            object(
                json!({
                    "content": {"type": "string", "minLength": 1, "maxLength": 8_000},
                    "tags": {"type": "array", "items": tag(), "maxItems": 16},
                    "importance": {"type": "number", "minimum": 0, "maximum": 1},
                    "type": {"enum": TYPES, "description": "Absent: semantic, a fact. episodic: something that \
                        happened. procedural: how something is done. working: for the next hours only."},
                    "scope": {"enum": ["agent", "session", "user", "tenant"], "description": "Who is to find it. \
                        Absent: you, always. session: you, in this conversation only. user: every agent that speaks \
                        with this user. tenant: every agent, if you may share memories."},
                    "ttl_seconds": {"type": "integer", "minimum": 1, "maximum": TTL_SECONDS_MAX,
                        "description": "When it is forgotten. Absent: never; working ones after a day."},
                }),
                &["content"],
            ),
        ),
        "recall" => (
            "Looks for something in your long-term memory, and in the documents that you were given. Passages of \
             documents come with the name to cite them by.",
            object(
                json!({
                    "query": {"type": "string", "minLength": 1},
                    "k": {"type": "integer", "minimum": 1, "maximum": RECALLED_MAX},
                    "type": {"enum": TYPES},
                    "tags": {"type": "array", "items": tag(), "maxItems": 16, "description": "All of them."},
                }),
                &["query"],
            ),
        ),
        "now" => ("Tells the current date and time in UTC.", object(json!({}), &[])),
        "http_get" => (
            "Reads a web page by its address.",
            object(json!({"url": {"type": "string", "minLength": 1}}), &["url"]),
        ),
        "sleep" => (
            "Waits so many seconds before you go on.",
            object(
                json!({"seconds": {"type": "number", "minimum": 0, "maximum": WAIT_SECONDS_MAX}}),
                &["seconds"],
            ),
        ),
        "wait_signal" => (
            "Waits until somebody sends this conversation a signal of that name.",
            object(
                json!({
                    "name": {"type": "string", "minLength": 1, "maxLength": 256},
                    "timeout_seconds": {"type": "number", "minimum": 0, "maximum": WAIT_SECONDS_MAX},
                }),
                &["name"],
            ),
        ),
        _ => return None,
    })
}

/// A number of seconds that the schema has let pass.
pub(crate) fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use mesh_types::tool::BUILTINS;

    #[test]
    fn each_builtin_has_words_and_a_schema_that_works() {
        for name in BUILTINS {
            let (description, parameters) = builtin(name).expect(name);
            assert!(description.ends_with('.'), "{name}");
            let mistakes = Schema::new(&parameters).check(&json!({"nonsense": 1})).unwrap_err();
            assert!(mistakes.contains("nonsense"), "{name}: {mistakes}");
        }
        assert!(builtin("rm").is_none());
    }
}
