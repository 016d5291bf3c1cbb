//! Property tests of the decisions: any sequence of commands leaves a gapless journal and at most one end.

use mesh_api::journal::{Done, Effect, StepKind};
use mesh_types::Id;
use proptest::prelude::*;

use super::*;
use crate::core::open::StoredInput;

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

fn completed() -> Fact {
    Fact::Ended(Box::new(Ended {
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
    Append {
        epoch_off: u32,
        seq_off: u32,
        steps: u32,
        end: bool,
    },
    Cancel,
    Expire,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => Just(Op::Claim),
        5 => (0..2_u32, 0..2_u32, 0..3_u32, any::<bool>())
            .prop_map(|(epoch_off, seq_off, steps, end)| Op::Append { epoch_off, seq_off, steps, end }),
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
        let first = accept(meta(), claimed.then_some(&holder), now);
        let mut journal = first.records.clone();
        let After::Opened(mut row) = first.after else { panic!("accept opens") };
        let mut ended = false;
        for op in ops {
            if ended { break; }
            let decision = match op {
                Op::Claim => claim(&meta(), &row, &holder, now),
                Op::Cancel => cancel(&meta(), &row, "ann", "operator_canceled", now),
                Op::Expire => expire(&meta(), &row, now),
                Op::Append { epoch_off, seq_off, steps, end } => {
                    let mut facts: Vec<Fact> = (0..steps).map(done).collect();
                    if end { facts.push(completed()); }
                    let epoch = row.epoch.saturating_sub(epoch_off);
                    let after_seq = row.seq.saturating_sub(seq_off);
                    match append(&meta(), &row, epoch, after_seq, facts, now) {
                        Ok(decision) => {
                            prop_assert_eq!((epoch, after_seq), (row.epoch, row.seq));
                            decision
                        }
                        Err(_) => {
                            prop_assert!(epoch != row.epoch || after_seq != row.seq || row.state == RunState::Queued);
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
                After::Changed(next) => { prop_assert!(next.epoch > row.epoch); row = next; }
                After::Ended(_) => ended = true,
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
        epoch: CLAIMS_MAX,
        seq: 20,
        started_at: None,
    };
    let decision = claim(&meta(), &row, &holder, Timestamp::EPOCH);
    let After::Ended(end) = decision.after else {
        panic!("it ends")
    };
    assert_eq!(end.outcome, Outcome::Dead);
    assert_eq!(
        end.epoch,
        CLAIMS_MAX + 1,
        "what the lost worker still sends is fenced out"
    );
}
