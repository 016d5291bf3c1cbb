//! The planted bugs by name, each with the rules that must catch it: another violation would be another bug.

/// Name, and rules of which at least one must be broken.
pub(crate) const PLANTED: &[(&str, &[&str])] = &[
    // Intake acks a message before what it asks for is committed.
    ("ack_before_commit", &["ended_once"]),
    // A batch is written whoever owns the shard.
    (
        "unlocked_fence",
        &[
            "epochs_rise",
            "steps_done_once",
            "feed_whole",
            "recorded_not_repeated",
            "ended_once",
        ],
    ),
    // The relay goes on after the highest time it saw, so that what commits late is never told.
    (
        "serial_id_relay",
        &["summary_tells_the_end", "result_sent", "feed_whole"],
    ),
    // No `begun` of an at-most-once step.
    (
        "begun_omitted",
        &["begun_before_effect", "at_most_once", "steps_done_once"],
    ),
    // A takeover keeps the shard's epoch.
    (
        "no_epoch_raise",
        &[
            "takeover_raises_epoch",
            "epochs_rise",
            "steps_done_once",
            "feed_whole",
            "recorded_not_repeated",
            "ended_once",
        ],
    ),
    // A second claim keeps the invocation's epoch.
    ("no_claim_epoch", &["epochs_rise"]),
    // An effect starts while the append before it is in flight.
    (
        "pipelined_effect",
        &["at_most_once", "begun_before_effect", "recorded_not_repeated"],
    ),
    // The next of a session becomes runnable before the end of the one before is committed.
    ("session_before_commit", &["session_one_at_a_time", "session_in_order"]),
    // The idempotency key of an effect changes with the epoch.
    ("new_key_on_retry", &["one_key_an_effect"]),
    // A repeated key is a new invocation.
    ("no_dedupe_by_key", &["one_invocation_a_key"]),
    // The end leaves the row of `open`.
    ("end_keeps_open", &["nothing_open"]),
    // Accepted is said before it is committed.
    ("answer_before_commit", &["ended_once", "one_invocation_a_key"]),
    // A batch of which nobody knows whether it was committed is taken as committed.
    (
        "unknown_is_done",
        &["ended_once", "nothing_open", "journal_whole", "feed_whole"],
    ),
    // A resume does not know the last result.
    ("forgets_done", &["recorded_not_repeated", "steps_done_once"]),
    // A reader who comes back is told the last record again.
    ("repeats_after_reconnect", &["saw_the_journal"]),
    // Tokens of repeats are counted into the usage.
    ("usage_counts_repeats", &["usage_as_answered"]),
];

pub(crate) fn is_caught_by(name: &str, rule: &str) -> bool {
    PLANTED
        .iter()
        .any(|(planted, rules)| *planted == name && rules.contains(&rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::RULES;

    #[test]
    fn a_bug_is_caught_by_rules_that_exist() {
        for (name, rules) in PLANTED {
            for rule in *rules {
                assert!(RULES.iter().any(|(known, _)| known == rule), "{name}: {rule}");
            }
        }
        assert!(is_caught_by("end_keeps_open", "nothing_open"));
        assert!(!is_caught_by("end_keeps_open", "ended_once"));
        assert!(!is_caught_by("unknown", "nothing_open"));
    }
}
