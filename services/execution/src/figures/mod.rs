//! Figures of execution for `/metrics`: what lanes commit, who waits, who owns what. Counted after a commit and never
//! before, so that nothing is counted twice; a process that dies between the two leaves its last batch uncounted.

mod agents;
mod tally;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_api::journal::{Effect, Fact, Outcome, Record, StepKind};
use mesh_runtime::metrics::{BoundCounter, BoundHistogram, Counter};
use mesh_runtime::{MetricName, Metrics};
use mesh_types::{Code, Problem};

pub(crate) use tally::Tally;
pub(crate) use watch::{observe, watch_queues};

use crate::lane::queues::Queue;
use agents::Agents;

/// Every kind of step; the place of a kind is its own number.
const KINDS: [StepKind; 11] = [
    StepKind::ContextMessages,
    StepKind::ContextMemories,
    StepKind::Model,
    StepKind::Tool,
    StepKind::MessagePost,
    StepKind::MemoryStore,
    StepKind::Timer,
    StepKind::Signal,
    StepKind::Approval,
    StepKind::Child,
    StepKind::Noop,
];
const OUTCOMES: [Outcome; 4] = [Outcome::Completed, Outcome::Failed, Outcome::Cancelled, Outcome::Dead];

/// A set of words that one label takes, in the order in which their counters lie.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$doc])* $word,)* }

        impl $name {
            const WORDS: &[&str] = &[$($text,)*];
        }
    };
}

words! {
    /// What asked for an invocation.
    By { Request = "request", Parent = "parent", Fork = "fork", }
}
words! {
    /// Why a journal is read again.
    Replay { Loss = "loss", Wait = "wait", HandOver = "hand_over", }
}
words! {
    /// How a claim ended without its worker's end.
    Loss {
        /// A hosted worker stopped.
        Worker = "worker",
        /// Its node is lost.
        Node = "node",
        /// A newer start of its node has come.
        Restart = "restart",
        /// Its node did not renew it.
        Lease = "lease",
        /// Its node never got it.
        Grant = "grant",
        /// It was hosted by a process that is gone.
        Owner = "owner",
    }
}
words! {
    /// Whose a shard was that is taken.
    Takeover {
        Free = "free",
        /// It was given to this process, or is its own of an earlier start.
        Own = "own",
        /// Its owner fell silent.
        Silent = "silent",
    }
}
words! {
    /// What became of a try to commit a batch.
    Commit { Ok = "ok", Lost = "lost", Refused = "refused", Aborted = "aborted", Unknown = "unknown", }
}

/// Instruments of one process, made once.
pub(crate) struct Figures {
    accepted: Vec<BoundCounter>,
    ended: Vec<BoundCounter>,
    durations: Vec<BoundHistogram>,
    refused: Counter,
    steps: Vec<BoundCounter>,
    repeated: Counter,
    commits: Vec<BoundCounter>,
    commit_duration: BoundHistogram,
    commit_rows: BoundHistogram,
    dispatch: BoundHistogram,
    takeovers: Vec<BoundCounter>,
    replays: Vec<BoundCounter>,
    losses: Vec<BoundCounter>,
    dead: BoundCounter,
    agents: Agents,
    /// What waited in each lane when it was asked last.
    queues: Mutex<Vec<Vec<Queue>>>,
}

impl Figures {
    pub(crate) fn new(metrics: &Metrics) -> Arc<Self> {
        let bound = |name: MetricName, label: &'static str, words: &[&str]| -> Vec<BoundCounter> {
            let counter = metrics.counter(name);
            words.iter().map(|word| counter.bound(&[(label, word)])).collect()
        };
        let outcomes = OUTCOMES.map(Outcome::as_str);
        let durations = metrics.histogram(MetricName::InvocationDuration);
        let histogram = |name: MetricName| metrics.histogram(name).bound(&[]);
        let kinds: Vec<_> = KINDS.iter().map(|kind| kind.as_str()).collect();
        Arc::new(Self {
            accepted: bound(MetricName::InvocationsAccepted, "by", By::WORDS),
            ended: bound(MetricName::InvocationsEnded, "outcome", &outcomes),
            durations: outcomes
                .iter()
                .map(|outcome| durations.bound(&[("outcome", outcome)]))
                .collect(),
            refused: metrics.counter(MetricName::InvocationsRefused),
            steps: bound(MetricName::StepsRecorded, "kind", &kinds),
            repeated: metrics.counter(MetricName::StepsRepeated),
            commits: bound(MetricName::Commits, "outcome", Commit::WORDS),
            commit_duration: histogram(MetricName::CommitDuration),
            commit_rows: histogram(MetricName::CommitRows),
            dispatch: histogram(MetricName::DispatchDuration),
            takeovers: bound(MetricName::ShardTakeovers, "reason", Takeover::WORDS),
            replays: bound(MetricName::Replays, "reason", Replay::WORDS),
            losses: bound(MetricName::LeasesLost, "reason", Loss::WORDS),
            dead: metrics
                .counter(MetricName::DeadLetters)
                .bound(&[("origin", "invocation")]),
            agents: Agents::new(metrics),
            queues: Mutex::default(),
        })
    }

    /// For lanes of tests: nobody looks at them.
    #[cfg(test)]
    pub(crate) fn unseen() -> Arc<Self> {
        static UNSEEN: std::sync::LazyLock<Arc<Figures>> =
            std::sync::LazyLock::new(|| Figures::new(&Metrics::default()));
        Arc::clone(&UNSEEN)
    }

    pub(crate) fn committed(&self, records: usize, took: Duration) {
        add(&self.commits, Commit::Ok as usize, 1);
        self.commit_duration.record_duration(took);
        self.commit_rows.record(records as f64);
    }

    /// A try that did not, or a batch of which no shard was ours any more.
    pub(crate) fn not_committed(&self, commit: Commit) {
        add(&self.commits, commit as usize, 1);
    }

    pub(crate) fn taken_over(&self, takeover: Takeover) {
        add(&self.takeovers, takeover as usize, 1);
    }

    pub(crate) fn lost(&self, loss: Loss, count: u64) {
        add(&self.losses, loss as usize, count);
    }

    /// A request that is told no. What only has to be sent elsewhere, and what may be accepted yet, is none.
    pub(crate) fn refused(&self, problem: &Problem) {
        if problem.is(Code::Moved) || problem.is(Code::Timeout) {
            return;
        }
        // A reason is a word of ours: a problem may come from elsewhere.
        let mut known = Code::ALL.iter().map(|code| code.row().0);
        let reason = known.find(|kind| *kind == problem.kind);
        self.refused.add(1, &[("reason", reason.unwrap_or("other"))]);
    }

    /// The journal of an invocation that is claimed again goes to its worker: what had begun and is not recorded runs
    /// again, unless it may happen at most once.
    pub(crate) fn resumed(&self, epoch: u32, journal: &[Record]) {
        if epoch < 2 {
            return;
        }
        for kind in unrecorded(journal) {
            self.repeated.add(1, &[("kind", kind.as_str())]);
        }
    }

    fn set_queues(&self, lane: usize, queues: Vec<Queue>) {
        let mut all = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= lane {
            all.resize_with(lane + 1, Vec::new);
        }
        all[lane] = queues;
    }
}

fn add(counters: &[BoundCounter], place: usize, count: u64) {
    if let Some(counter) = counters.get(place).filter(|_| count > 0) {
        counter.add(count);
    }
}

/// Kinds of the steps that have begun and are not done, of those that may happen twice.
fn unrecorded(journal: &[Record]) -> Vec<StepKind> {
    let mut begun: Vec<(u32, StepKind)> = Vec::new();
    for record in journal {
        match &record.fact {
            Fact::Begun(step)
                if step.effect != Effect::AtMostOnce && !begun.iter().any(|(number, _)| *number == step.step) =>
            {
                begun.push((step.step, step.kind));
            }
            Fact::Done(done) => begun.retain(|(number, _)| *number != done.step),
            _ => {}
        }
    }
    begun.into_iter().map(|(_, kind)| kind).collect()
}

#[cfg(test)]
mod tests {
    use mesh_api::journal::Begun;
    use mesh_types::Timestamp;
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_kind_and_outcome_has_its_place() {
        for (place, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, place, "{kind:?}");
        }
        for (place, outcome) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, place, "{outcome:?}");
        }
    }

    #[test]
    fn what_began_and_is_not_recorded_runs_again_unless_it_may_not() {
        let begun = |step: u32, kind: StepKind, effect: Effect| Record {
            seq: step,
            epoch: 1,
            at: Timestamp::EPOCH,
            fact: Fact::Begun(Begun {
                step,
                kind,
                name: "x".into(),
                effect,
                input: Value::Null,
            }),
        };
        let journal = [
            begun(1, StepKind::Tool, Effect::AtMostOnce),
            begun(2, StepKind::Tool, Effect::Idempotent),
            begun(2, StepKind::Tool, Effect::Idempotent),
            begun(3, StepKind::Child, Effect::Idempotent),
        ];
        assert_eq!(unrecorded(&journal), [StepKind::Tool, StepKind::Child]);
    }
}
