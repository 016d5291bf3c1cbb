//! What the mock model plays in these tests, by the name of its script.

use serde_json::{Value, json};

/// `inference.mock_scripts`, beside the built-in ones: `tools` calls every offered tool with the part of the person's
/// JSON that carries its name, then says their results.
pub(super) fn scripts() -> Value {
    let calls = |name: &str, arguments: Value| json!({"tool_calls": [{"name": name, "arguments": arguments}]});
    let results = json!({"text": "{{tools}}"});
    json!({
        "memory": [calls("remember", json!({"content": "{{last}}"})), calls("recall", json!({"query": "{{last}}"})), results],
        "channel": [calls("post_message", json!({"text": "posted: {{last}}"})), calls("summarize_channel", json!({})), results],
        "no-json": [calls("lookup", json!("{\"city\": ")), results],
        "unknown-tool": [calls("rm", json!({})), results],
        "children": [{"tool_calls": [
            {"name": "helper", "arguments": {"text": "first of {{last}}"}},
            {"name": "helper", "arguments": {"text": "second of {{last}}"}},
            {"name": "helper", "arguments": {"text": "third of {{last}}"}},
        ]}, results],
        // Three seconds, in which a busy machine still sees it speak.
        "words": [{"tokens": (0..40).map(|n| format!("w{n} ")).collect::<Vec<_>>(), "per_token_ms": 75}],
        "ramble": [{"tokens": (0..600).map(|n| format!("w{n} ")).collect::<Vec<_>>(), "per_token_ms": 100}],
        "halfway": [{"tokens": (0..20).map(|n| format!("w{n} ")).collect::<Vec<_>>(), "per_token_ms": 10,
            "fail": {"status": 503, "after_tokens": 10, "times": 1}}],
        "counted": [
            {"tool_calls": [{"name": "now", "arguments": {}}], "usage": {"input_tokens": 60, "output_tokens": 50}},
            {"text": "done", "usage": {"input_tokens": 60, "output_tokens": 50}},
        ],
        "many": [{"tool_calls": (0..5).map(|_| json!({"name": "now", "arguments": {}})).collect::<Vec<_>>()}, results],
    })
}
