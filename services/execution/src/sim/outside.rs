//! The world outside: a ledger of effects by key, and a model that does what its prompt's script says.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::inference::{CompleteRequest, Completion, FunctionCall, Role};
use mesh_api::journal::{Effect, Usage};
use mesh_types::InvocationId;
use serde_json::{Value, json};

use super::database::POISON;

/// Every effect that happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    effects: BTreeMap<String, Entry>,
    /// Keys under which the same call of the same invocation came.
    keys: BTreeMap<(InvocationId, String), BTreeSet<String>>,
    /// At-most-once effects that a person let run again.
    pub(super) allowed: BTreeMap<String, u32>,
    pub(super) performed: u64,
    /// Input of each model call by its key.
    prompts: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Entry {
    class: Effect,
    count: u32,
    output: Value,
}

impl Ledger {
    /// One request of a tool. A known key of an idempotent one is answered, not done again.
    pub(super) fn perform(&mut self, id: InvocationId, key: &str, class: Effect, arguments: &Value) -> Value {
        let operation = arguments["op"].as_str().unwrap_or_default().to_owned();
        self.keys
            .entry((id, operation.clone()))
            .or_default()
            .insert(key.to_owned());
        self.performed += 1;
        let output = if arguments["poison"] == true {
            json!({POISON: true})
        } else {
            json!({"did": operation})
        };
        let entry = self.effects.entry(key.to_owned()).or_insert(Entry {
            class,
            count: 0,
            output,
        });
        if class != Effect::Idempotent || entry.count == 0 {
            entry.count += 1;
        }
        entry.output.clone()
    }

    /// The same prompt under the same key, always.
    pub(super) fn prompt(&mut self, key: &str, hash: u64) -> bool {
        *self.prompts.entry(key.to_owned()).or_insert(hash) == hash
    }

    pub(super) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (key, entry) in &self.effects {
            let allowed = 1 + self.allowed.get(key).copied().unwrap_or(0);
            if entry.class == Effect::AtMostOnce && entry.count > allowed {
                broken.push(format!("{key}: an at_most_once effect happened {} times", entry.count));
            }
        }
        for ((id, operation), keys) in &self.keys {
            if keys.len() > 1 {
                broken.push(format!("{id}: the call {operation} came under {keys:?}"));
            }
        }
        broken
    }
}

/// `#label group group …`: the calls of one turn are joined by `+`.
pub(super) fn complete(request: &CompleteRequest) -> Completion {
    let said = request.messages.iter().filter(|message| message.role == Role::User);
    let script = said
        .map(|message| message.content.plain_text())
        .find(|text| text.starts_with('#'));
    let script = script.unwrap_or_default();
    let mut words = script.split_whitespace();
    let label = words.next().unwrap_or_default();
    let turns = request.messages.iter().filter(|message| !message.tool_calls.is_empty());
    let turn = turns.count();
    let group = words.nth(turn).unwrap_or_default();
    let calls: Vec<Value> = group
        .split('+')
        .filter(|word| !word.is_empty())
        .enumerate()
        .map(|(at, word)| call(&format!("{label}.{turn}.{at}"), word))
        .collect();
    Completion {
        text: if calls.is_empty() {
            format!("did {label}")
        } else {
            String::new()
        },
        model: "sim".into(),
        provider: "mock".into(),
        usage: Usage {
            input_tokens: 10 + turn as u64,
            output_tokens: 3,
            cost_usd: 0.000_25,
        },
        usage_estimated: false,
        failed: Vec::new(),
        finish_reason: if calls.is_empty() { "stop" } else { "tool_calls" }.into(),
        tool_calls: calls,
        attempt: 1,
        cached_tokens: 0,
        from_cache: false,
    }
}

fn call(operation: &str, word: &str) -> Value {
    let (name, arguments) = match word {
        "look" | "put" | "once" | "ask" => (word, json!({"op": operation})),
        "spoil" => ("put", json!({"op": operation, "poison": true})),
        "child" => ("child", json!({"text": format!("{operation} put+look once")})),
        "shared" => (
            "child",
            json!({"text": format!("{operation} put"), "session": "shared"}),
        ),
        "deep" => ("child", json!({"text": format!("{operation} child")})),
        "sleep" => ("sleep", json!({"seconds": 1.5})),
        "wait" => ("wait_signal", json!({"name": "go"})),
        "patience" => ("wait_signal", json!({"name": "never", "timeout_seconds": 3})),
        "task" => ("create_task", json!({"agent": "noop", "text": operation})),
        other => (other, json!({})),
    };
    let call = FunctionCall {
        id: format!("call_{operation}"),
        name: name.to_owned(),
        arguments: arguments.to_string(),
    };
    call.to_value()
}
