//! Agents as these tests declare them.

use serde_json::{Value, json};

/// An `llm` agent of that model and those tools that reads and writes no memories: only what a test is about.
pub(super) fn llm(model: &str, tools: Value) -> Value {
    json!({
        "model": {"name": model}, "tools": tools, "memory": {"query_top_k": 0, "writeback": false},
    })
}

/// The same with more fields of its spec.
pub(super) fn with(mut spec: Value, more: Value) -> Value {
    let (Some(fields), Value::Object(more)) = (spec.as_object_mut(), more) else {
        panic!("a spec is an object");
    };
    fields.extend(more);
    spec
}
