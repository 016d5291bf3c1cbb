//! Scripts of the mock: what it does turn by turn, from the configuration, from a request, or built in. Data only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the mock plays. Turn 0 follows a message of a person, turn 1 the model's own first answer to it (with the
/// results of its tool calls), …; the last turn plays again for later ones. In JSON a list of turns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Script {
    pub turns: Vec<Turn>,
}

/// One answer: a pause, pieces of text, tool calls. Texts may hold `{{last}}` (the last message of a person),
/// `{{tool:N}}` (result N of a tool since then, from 0), `{{tools}}` (all of them, a line each) and `{{reply}}` (the
/// keyword answer).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// Streamed word by word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Streamed piece by piece, after `text`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<String>,
    /// Before the first piece.
    pub delay_ms: u64,
    /// After each piece.
    pub per_token_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Calls tools that the request offers, after `tool_calls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<Offered>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail: Option<Fail>,
    /// Falls silent after the pieces, until the configured patience with a provider is over.
    pub stall: bool,
    /// Absent: estimated from the texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Counted>,
    /// Absent: `tool_calls` or `stop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
}

/// Which of the offered tools are called, with the person's text as arguments where it is a JSON object (one that
/// names the tool holds its arguments there), else with what their schemas require.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offered {
    All,
    First,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    pub name: String,
    /// Sent as JSON; a text is sent as it is, so that a model can be played that writes no JSON.
    #[serde(default)]
    pub arguments: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// A failure in place of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fail {
    /// HTTP status; absent: the stream is cut without a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Pieces that are streamed before.
    pub after_tokens: usize,
    /// Only the first so many tries fail, counted per idempotency key (in one call where there is none); absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl Script {
    pub(super) fn of(turn: Turn) -> Self {
        Self { turns: vec![turn] }
    }

    /// The turn, and its number within the script.
    pub(super) fn turn(&self, number: usize) -> Option<(usize, &Turn)> {
        let number = number.min(self.turns.len().checked_sub(1)?);
        Some((number, &self.turns[number]))
    }
}

/// The keyword answer, word by word.
pub(super) fn keywords(word_delay_ms: u64) -> Script {
    Script::of(Turn {
        per_token_ms: word_delay_ms,
        ..text("{{reply}}")
    })
}

fn text(text: &str) -> Turn {
    Turn {
        text: Some(text.to_owned()),
        ..Turn::default()
    }
}

fn fail(after_tokens: usize, times: Option<u32>) -> Option<Fail> {
    Some(Fail {
        status: Some(503),
        message: "the script says so".to_owned(),
        after_tokens,
        times,
    })
}

/// Scripts that are always there.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn built_in() -> BTreeMap<String, Script> {
    let offered = |offered| Turn {
        offered: Some(offered),
        ..Turn::default()
    };
    let summarize = ToolCall {
        name: "summarize_channel".to_owned(),
        arguments: Value::Null,
    };
    let numbered = |count: usize| (1..=count).map(|number| format!("token-{number} ")).collect();
    [
        ("echo", Script::of(text("{{last}}"))),
        (
            "tools",
            Script {
                turns: vec![offered(Offered::All), text("{{tools}}")],
            },
        ),
        ("loop", Script::of(offered(Offered::First))),
        (
            "tool",
            Script {
                turns: vec![
                    Turn {
                        tool_calls: vec![summarize],
                        ..Turn::default()
                    },
                    text("{{reply}}"),
                ],
            },
        ),
        (
            "stream",
            Script::of(Turn {
                per_token_ms: 20,
                ..text("One word after the other, as a slow reader likes it.")
            }),
        ),
        (
            "slow",
            Script::of(Turn {
                tokens: numbered(50),
                per_token_ms: 100,
                ..Turn::default()
            }),
        ),
        (
            "long",
            Script::of(Turn {
                tokens: numbered(2_000),
                ..Turn::default()
            }),
        ),
        (
            "stall",
            Script::of(Turn {
                stall: true,
                ..text("Wait for")
            }),
        ),
        (
            "fail",
            Script::of(Turn {
                fail: fail(0, None),
                ..Turn::default()
            }),
        ),
        (
            "fail-then-answer",
            Script::of(Turn {
                fail: fail(0, Some(1)),
                ..text("{{reply}}")
            }),
        ),
        (
            "flaky",
            Script::of(Turn {
                fail: fail(2, Some(1)),
                ..text("{{reply}}")
            }),
        ),
        (
            "cut",
            Script::of(Turn {
                fail: Some(Fail {
                    after_tokens: 3,
                    ..Fail::default()
                }),
                ..text("This sentence never")
            }),
        ),
    ]
    .into_iter()
    .map(|(name, script)| (name.to_owned(), script))
    .collect()
}
