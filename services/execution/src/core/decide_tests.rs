//! Property tests of the decisions: any sequence of commands leaves a gapless journal and at most one end.

use mesh_api::journal::{Done, Effect, StepKind, WaitItem, WaitOn};
use mesh_types::Id;
use proptest::prelude::*;

use super::*;
use crate::core::append::{AppendThen, Around, append};
use crate::core::open::StoredInput;
use crate::core::steer;

fn meta() -> Arc<Meta> {
    Arc::new(Meta {
        id: InvocationId::from_u128(1),
        tenant: Default::default(),
        shard: 0,
        agent: "a".parse().unwrap(),
        version: 1,
        artifact: "h".into(),
        concurrency: 1,
        entrypoint: "invoke".into(),
        session: None,
        key: None,
        priority: 5,
        created_at: Timestamp::EPOCH,
        deadline_at: None,
        wake_at: None,
        request_hash: [0; 32],
        reply_to: None,
        actor: "test".into(),
        input: StoredInput::default(),
        links: None,
    })
}

fn done(step: u32) -> Fact {
    Fact::Done(Box::new(Done {
        step,
        kind: StepKind::Noop,
        name: "noop".into(),
        effect: Effect::Pure,
        input: None,
        output: None,
        error: None,
        usage: Usage::default(),
        attempt: 1,
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
    }))
}

fn completed() -> AppendThen {
    AppendThen::End(Box::new(Ended {
        outcome: Outcome::Completed,
        reason: None,
        output: None,
        error: None,
        usage: Usage::default(),
        provider: None,
    }))
}

#[derive(Debug, Clone)]
enum Op {
    Claim,
    Append { epoch_off: u32, steps: u32, end: bool },
    Wait { has_news: bool },
    Stop,
    Signal,
    Pause,
    Resume,
    Release,
    Cancel,
    Expire,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => Just(Op::Claim),
        5 => (0..2_u32, 0..3_u32, any::<bool>())
            .prop_map(|(epoch_off, steps, end)| Op::Append { epoch_off, steps, end }),
        2 => any::<bool>().prop_map(|has_news| Op::Wait { has_news }),
        1 => Just(Op::Stop),
        2 => Just(Op::Signal),
        1 => Just(Op::Pause),
        1 => Just(Op::Resume),
        1 => Just(Op::Release),
        1 => Just(Op::Cancel),
        1 => Just(Op::Expire),
    ];
    proptest::collection::vec(op, 0..40)
}

proptest! {
    #[test]
    fn any_history_is_gapless_fenced_and_ends_once(ops in ops(), claimed in any::<bool>()) {
        let holder = Holder { node: "n".into(), incarnation: 1 };
        let now = Timestamp::from_millis(5);
        let first = accept(meta(), claimed.then_some(&holder), 0, now);
        let mut journal = first.records.clone();
        let After::Opened(mut row) = first.after else { panic!("accept opens") };
        let mut ended = false;
        for op in ops {
            if ended { break; }
            let decision = match op {
                Op::Claim => claim(&meta(), &row, &holder, now),
                Op::Cancel => cancel(&meta(), &row, "ann", "operator_canceled", now),
                Op::Expire => expire(&meta(), &row, now),
                Op::Signal => {
                    let about = About::Signal { name: "s".into(), value: json!(1) };
                    steer::signal(&meta(), &row, "k".into(), about, "ann", None, now)
                }
                Op::Pause => steer::pause(&meta(), &row, "ann", None, now),
                Op::Resume => steer::resume(&meta(), &row, "ann", None, now),
                Op::Release => steer::release(&meta(), &row, "draining", now),
                Op::Wait { has_news } => {
                    let item = WaitItem { step: 1, on: WaitOn::Signal { name: "s".into(), until: None } };
                    let around = Around { has_news, ..Around::default() };
                    match append(&meta(), &row, row.epoch, vec![], AppendThen::Wait(vec![item]), around, now) {
                        Ok(decision) => {
                            let waits = matches!(&decision.after, After::Changed { row, .. } if row.state.waits().is_some());
                            prop_assert_eq!(waits, !has_news);
                            decision
                        }
                        Err(_) => { prop_assert!(!matches!(row.state, RunState::Running(_))); continue; }
                    }
                }
                Op::Stop => {
                    let around = Around { stop: Some("paused"), ..Around::default() };
                    match append(&meta(), &row, row.epoch, vec![done(1)], AppendThen::GoOn, around, now) {
                        Ok(decision) => decision,
                        Err(_) => { prop_assert!(!matches!(row.state, RunState::Running(_))); continue; }
                    }
                }
                Op::Append { epoch_off, steps, end } => {
                    let facts: Vec<Fact> = (0..steps).map(done).collect();
                    let then = if end { completed() } else { AppendThen::GoOn };
                    let epoch = row.epoch.saturating_sub(epoch_off);
                    match append(&meta(), &row, epoch, facts, then, Around::default(), now) {
                        Ok(decision) => {
                            prop_assert_eq!(epoch, row.epoch);
                            decision
                        }
                        Err(_) => {
                            prop_assert!(epoch != row.epoch || !matches!(row.state, RunState::Running(_)));
                            continue;
                        }
                    }
                }
            };
            prop_assert_eq!(decision.seq(), row.seq + u32::try_from(decision.records.len()).unwrap());
            journal.extend(decision.records);
            match decision.after {
                After::Opened(_) => prop_assert!(false, "opened twice"),
                After::Grew { seq } => row.seq = seq,
                After::Changed { row: next } => {
                    prop_assert!(next.epoch >= row.epoch);
                    row = next;
                }
                After::Ended(_) | After::Merged(_) => ended = true,
            }
        }
        for (n, record) in journal.iter().enumerate() {
            prop_assert_eq!(record.seq as usize, n + 1);
        }
        prop_assert!(journal.windows(2).all(|pair| pair[0].epoch <= pair[1].epoch));
        let ends = journal.iter().filter(|record| matches!(record.fact, Fact::Ended(_))).count();
        prop_assert_eq!(ends, usize::from(ended));
    }
}

#[test]
fn a_worker_that_keeps_dying_ends_dead() {
    let holder = Holder {
        node: "n".into(),
        incarnation: 1,
    };
    let row = OpenRow {
        state: RunState::Running(holder.clone()),
        epoch: 30,
        seq: 60,
        losses: LOSSES_MAX - 1,
        ..OpenRow::queued()
    };
    let decision = claim(&meta(), &row, &holder, Timestamp::EPOCH);
    let After::Ended(end) = decision.after else {
        panic!("it ends")
    };
    assert_eq!(end.outcome, Outcome::Dead);
    assert_eq!(end.epoch, 31, "what the lost worker still sends is fenced out");
}

#[test]
fn hand_overs_are_no_losses() {
    let holder = Holder {
        node: "n".into(),
        incarnation: 1,
    };
    let now = Timestamp::EPOCH;
    let mut row = OpenRow::queued();
    for _ in 0..100 {
        let After::Changed { row: claimed, .. } = claim(&meta(), &row, &holder, now).after else {
            panic!("it ends after {} claims", row.epoch)
        };
        let After::Changed { row: released, .. } = steer::release(&meta(), &claimed, "draining", now).after else {
            panic!("a release changes the row")
        };
        row = released;
    }
    assert_eq!((row.losses, row.epoch), (0, 100));
}
