//! The row of the read model, folded from what a commit left behind. Pure.

use mesh_api::execution::State;
use mesh_api::journal::Usage;
use mesh_types::Timestamp;
use serde_json::Value;

use super::open::{After, EndRow, Meta, OpenRow};

/// Longest short text in characters.
const SHORT_TEXT_MAX: usize = 160;

/// What changes in a summary; the rest stands in [`Meta`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) state: State,
    pub(crate) attempt: u32,
    /// The last record that it shows.
    pub(crate) seq: u32,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) usage: Usage,
    pub(crate) provider: Option<String>,
    /// `None`: of the payload. Most summaries of open invocations are never written.
    pub(crate) short_text: Option<String>,
    pub(crate) error: Option<String>,
    /// What it waits for, as JSON.
    pub(crate) waits_for: Option<String>,
    pub(crate) paused: bool,
}

/// `None`: nothing that a list shows has changed.
pub(crate) fn of(after: &After) -> Option<Summary> {
    match after {
        After::Opened(row) | After::Changed { row, .. } => Some(of_open(row)),
        After::Grew { .. } => None,
        After::Ended(row) | After::Merged(row) => Some(of_ended(row)),
    }
}

pub(crate) fn of_open(row: &OpenRow) -> Summary {
    Summary {
        state: row.state.state(),
        attempt: row.epoch,
        seq: row.seq,
        started_at: row.started_at,
        ended_at: None,
        usage: Usage::default(),
        provider: None,
        short_text: None,
        error: None,
        waits_for: row
            .state
            .waits()
            .and_then(|waits| serde_json::to_string(&waits.items).ok()),
        paused: row.paused,
    }
}

pub(crate) fn of_ended(row: &EndRow) -> Summary {
    let output = row.output.as_ref().map(short_text).filter(|text| !text.is_empty());
    Summary {
        state: row.outcome.into(),
        attempt: row.epoch,
        seq: row.seq,
        started_at: row.started_at,
        ended_at: Some(row.ended_at),
        usage: row.usage,
        provider: row.provider.clone(),
        short_text: output,
        error: row
            .error
            .as_ref()
            .map(|problem| shorten(&format!("{}: {}", problem.kind, problem.detail))),
        waits_for: None,
        paused: false,
    }
}

impl Summary {
    pub(crate) fn shown_text(&self, meta: &Meta) -> String {
        let of_payload = || short_text(&meta.input.payload.value());
        self.short_text.clone().unwrap_or_else(of_payload)
    }
}

/// The text of a body, or its JSON, cut to what a list can show. Postgres text takes no U+0000.
fn short_text(body: &Value) -> String {
    match body {
        Value::Null => String::new(),
        Value::String(text) => shorten(text),
        other => match other.get("text").and_then(Value::as_str) {
            Some(text) => shorten(text),
            None => shorten(&other.to_string()),
        },
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(SHORT_TEXT_MAX)
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(SHORT_TEXT_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_text_that_postgres_takes() {
        assert_eq!(short_text(&serde_json::json!({"text": "a\0b"})), "a\u{fffd}b");
        assert_eq!(short_text(&serde_json::json!({"x": 1})), r#"{"x":1}"#);
        assert_eq!(
            short_text(&Value::String("ї".repeat(500))).chars().count(),
            SHORT_TEXT_MAX + 1
        );
    }
}
