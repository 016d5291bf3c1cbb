//! The checker: pure rules over the evidence of a run. Each rule is proved by a violation made by hand.

mod clients;
mod effects;
mod figures;
mod journal;
mod results;
mod sessions;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub(crate) use effects::LEDGER_TOOL;
pub use figures::{Figures, Resume, figures};
pub(crate) use results::TASK_TOOL;

use crate::evidence::Evidence;

/// One thing that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub rule: &'static str,
    /// Of what: an invocation, a key, a shard.
    pub of: String,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.rule, self.of, self.detail)
    }
}

pub(crate) type Rule = fn(&Evidence, &mut Vec<Violation>);

/// Every rule, with its name.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("ended_once", journal::ended_once),
    ("nothing_open", journal::nothing_open),
    ("journal_whole", journal::journal_whole),
    ("epochs_rise", journal::epochs_rise),
    ("takeover_raises_epoch", journal::takeover_raises_epoch),
    ("steps_done_once", journal::steps_done_once),
    ("delay_kept", journal::delay_kept),
    ("feed_whole", journal::feed_whole),
    ("summary_tells_the_end", journal::summary_tells_the_end),
    ("one_invocation_a_key", clients::one_invocation_a_key),
    ("nothing_refused", clients::nothing_refused),
    ("replied_once", clients::replied_once),
    ("result_sent", clients::result_sent),
    ("poison_buried", clients::poison_buried),
    ("saw_the_journal", clients::saw_the_journal),
    ("text_is_its_tokens", clients::text_is_its_tokens),
    ("at_most_once", effects::at_most_once),
    ("begun_before_effect", effects::begun_before_effect),
    ("one_key_an_effect", effects::one_key_an_effect),
    ("effect_happened", effects::effect_happened),
    ("recorded_not_repeated", effects::recorded_not_repeated),
    ("usage_as_answered", effects::usage_as_answered),
    ("task_created_once", results::task_created_once),
    ("remembered_once", results::remembered_once),
    ("session_in_order", sessions::in_order),
    ("session_one_at_a_time", sessions::one_at_a_time),
];

/// All that is wrong, by rule.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, rule) in RULES {
        let before = found.len();
        rule(evidence, &mut found);
        for violation in &mut found[before..] {
            violation.rule = name;
        }
    }
    found
}

/// The rule's name is filled in by [`check`].
fn violation(of: impl fmt::Display, detail: impl Into<String>) -> Violation {
    Violation {
        rule: "",
        of: of.to_string(),
        detail: detail.into(),
    }
}
