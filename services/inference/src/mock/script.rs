//! Scripts of the mock: turns of actions, from the configuration or built in. Data only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the mock plays. Turn 0 follows a user message, turn 1 the model's own first answer (a tool's result), …;
/// the last turn plays again for later ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub turns: Vec<Vec<Action>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The keyword answer, word by word.
    Reply {},
    /// One chunk of text.
    Text(String),
    /// Text word by word, so many milliseconds apart.
    Words {
        text: String,
        #[serde(default)]
        delay_ms: u64,
    },
    WaitMs(u64),
    ToolCall(ToolCall),
    Usage {
        input_tokens: u64,
        output_tokens: u64,
    },
    Fail(Fail),
    /// The stream ends without an end.
    Cut {},
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    pub name: String,
    #[serde(default)]
    pub arguments: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    pub status: u16,
    #[serde(default)]
    pub message: String,
    /// The half of an answer that it streams before it fails.
    #[serde(default)]
    pub after: String,
    /// Fails only the first so many tries of a call; always when left out.
    #[serde(default)]
    pub attempts: Option<u32>,
}

impl Script {
    pub(super) fn turn(&self, number: usize) -> &[Action] {
        let last = self.turns.len().saturating_sub(1);
        self.turns.get(number.min(last)).map_or(&[], Vec::as_slice)
    }
}

impl Fail {
    pub(super) fn applies(&self, attempt: u32) -> bool {
        self.attempts.is_none_or(|attempts| attempt <= attempts)
    }
}

impl ToolCall {
    /// As OpenAI's wire says it; the id is the place in the answer, so it is the same at every replay.
    pub(super) fn wire(&self, index: usize) -> Value {
        let arguments = if self.arguments.is_null() {
            json!({})
        } else {
            self.arguments.clone()
        };
        json!({
            "id": format!("call_{index}"),
            "type": "function",
            "function": {"name": self.name, "arguments": arguments.to_string()},
        })
    }
}

/// Scripts that are always there.
pub(super) fn built_in() -> BTreeMap<String, Script> {
    let one = |actions: Vec<Action>| Script { turns: vec![actions] };
    let fail = |after: &str, attempts| {
        let (message, after) = ("the script says so".to_owned(), after.to_owned());
        Action::Fail(Fail {
            status: 503,
            message,
            after,
            attempts,
        })
    };
    let words = |text: &str, delay_ms| Action::Words {
        text: text.to_owned(),
        delay_ms,
    };
    [
        (
            "stream",
            one(vec![words("One word after the other, as a slow reader likes it.", 20)]),
        ),
        ("slow", one(vec![Action::WaitMs(2_000), Action::Reply {}])),
        ("fail", one(vec![fail("", None)])),
        ("flaky", one(vec![fail("This half is ", Some(1)), Action::Reply {}])),
        ("cut", one(vec![words("This sentence never", 0), Action::Cut {}])),
        (
            "tool",
            Script {
                turns: vec![
                    vec![Action::ToolCall(ToolCall {
                        name: "summarize_channel".to_owned(),
                        arguments: json!({}),
                    })],
                    vec![Action::Reply {}],
                ],
            },
        ),
    ]
    .into_iter()
    .map(|(name, script)| (name.to_owned(), script))
    .collect()
}
