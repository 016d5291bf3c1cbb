//! A good run has no violations; each rule catches a violation made by hand.

mod good;
mod harms;

use self::good::{at, first, good, id};
use self::harms::HARMS;
use super::{RULES, check, figures};
use crate::evidence::{Evidence, ModelCall};

#[test]
fn a_good_run_has_no_violation() {
    assert_eq!(check(&good()), []);
}

#[test]
fn each_rule_catches_what_it_is_for() {
    for (rule, text, harm) in HARMS {
        let mut evidence = good();
        harm(&mut evidence);
        let found = check(&evidence);
        assert!(
            found.iter().any(|one| one.rule == *rule && one.detail.contains(text)),
            "{rule} ({text}): {found:?}"
        );
    }
}

#[test]
fn no_rule_is_without_a_proof() {
    for (name, _) in RULES {
        assert!(HARMS.iter().any(|(rule, _, _)| rule == name), "{name}");
    }
}

/// A call after its result was recorded, and the result recorded at 300 ms.
fn late(call_ms: i64) -> Evidence {
    let mut evidence = good();
    let again = ModelCall {
        at: at(call_ms),
        ..evidence.model[0].clone()
    };
    evidence.model.push(again);
    evidence
}

#[test]
fn what_was_on_its_way_at_a_fault_is_excused_and_what_was_recorded_before_it_is_not() {
    let mut spanned = late(900);
    spanned.faults.freezes.push((at(200), at(850)));
    assert_eq!(check(&spanned), []);
    let mut orphan = late(900);
    orphan.faults.kills.push(("execution-a".into(), at(260)));
    assert_eq!(check(&orphan), []);
    let mut recorded_before = late(900);
    recorded_before.faults.freezes.push((at(310), at(850)));
    recorded_before.faults.kills.push(("execution-a".into(), at(320)));
    assert_eq!(check(&recorded_before).len(), 1);
    let mut long_after = late(9_000);
    long_after.faults.freezes.push((at(200), at(850)));
    assert_eq!(check(&long_after).len(), 1);
}

#[test]
fn the_late_result_of_an_at_most_once_step_may_have_the_epoch_of_its_begin() {
    let mut evidence = good();
    let mut records = first(&mut evidence).records.clone();
    let mut takeover = records[1].clone();
    takeover.epoch = 2;
    records.insert(4, takeover);
    for (nth, entry) in (1_i64..).zip(&mut records) {
        entry.seq = u32::try_from(nth).unwrap();
        entry.places = vec![(nth, 0)];
    }
    first(&mut evidence).records = records;
    first(&mut evidence).ended.as_mut().unwrap().seq = 7;
    evidence.journal.invocations.remove(&id(2));
    evidence.followed.clear();
    let epochs: Vec<_> = check(&evidence)
        .into_iter()
        .filter(|one| one.rule == "epochs_rise")
        .collect();
    // The end itself is not late.
    assert_eq!(epochs.len(), 1, "{epochs:?}");
    assert!(epochs[0].detail.contains("record 7"), "{epochs:?}");
}

#[test]
fn the_time_to_resume_is_from_the_death_of_the_holder_to_the_next_record() {
    let mut evidence = good();
    // Both were claimed by it and had not ended.
    evidence.faults.kills.push(("execution-a".into(), at(320)));
    evidence.faults.kills.push(("execution-b".into(), at(320)));
    evidence.faults.kills.push(("execution-a".into(), at(700)));
    let figures = figures(&evidence);
    assert_eq!(
        (figures.resume.count, figures.resume.p50_ms, figures.resume.max_ms),
        (2, Some(80), Some(80))
    );
    // The other process died in the same moment.
    assert_eq!(figures.resume_undisturbed.count, 0);
    evidence.faults.kills.remove(1);
    assert_eq!(super::figures(&evidence).resume_undisturbed.count, 2);
    evidence.faults.postgres_away.push((at(390), at(5_000)));
    assert_eq!(super::figures(&evidence).resume_undisturbed.count, 0);
    let again = evidence.model[0].clone();
    evidence.model.push(again);
    let figures = super::figures(&evidence);
    assert_eq!((figures.model_repeats, figures.repeated_tokens), (1, 15));
}
