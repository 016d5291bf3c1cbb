//! The pure plan: what is next, from the journal alone. Done steps are read, never run; every step that the
//! journal names must be the one that the plan would take, or the run has diverged.

use mesh_api::journal::{About, Begun, Done, Effect, Ended, Fact, Outcome, Record, Resolution, StepKind, WaitOn};
use mesh_api::steering::Edit;
use mesh_types::{Code, Problem, Timestamp};
use serde_json::Value;

use crate::ends::failed;
use crate::flow::Flow;
use crate::forked::Forked;
use crate::grant::Task;
use crate::group::{Group, Open, Settled, StepPlan, Steps, Todo};
use crate::mailbox::Mailbox;

/// What a worker does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Those steps of the current group that are not done.
    Run(Steps),
    /// Nothing is left to do but to say so.
    End(Box<Ended>),
    /// The journal has its end already.
    Over(Outcome),
}

/// Folds the journal and says what is next. The same arguments give the same action, always.
pub fn next(journal: &[Record], task: Task<'_>, now: Timestamp) -> Action {
    let mut plan = Plan::new(task, None);
    match plan.replay(journal) {
        Ok(()) => plan.next(now),
        Err(action) => *action,
    }
}

/// The journal folded so far.
pub(crate) struct Plan<'a> {
    /// Number of the first step of the group.
    step: u32,
    flow: Flow<'a>,
    group: Group,
    mailbox: Mailbox,
    /// Of the newest claim: an at_most_once step that began under an older one may have happened.
    epoch: u32,
    /// Whether any step has begun.
    is_started: bool,
    edit: Option<(u32, &'a Edit)>,
}

/// How a record is held against the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Kind, number and input are the plan's.
    Strict,
    /// Kind and number are; the input is the source's, whose spec may have been another.
    Inherited,
    /// As inherited, and the plan goes on as if it had been its own.
    Adopted,
}

/// Why a record cannot be folded.
pub(crate) enum Surprise {
    Over(Box<Ended>),
    Mismatch(Mismatch),
}

/// Where record and plan differ.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mismatch {
    pub(crate) step: u32,
    pub(crate) recorded: String,
    pub(crate) planned: String,
    pub(crate) because: String,
    /// Only the input differs: the rest can still be compared.
    pub(crate) is_input: bool,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(task: Task<'a>, forked: Option<Forked<'a>>) -> Self {
        Self {
            step: 1,
            edit: forked.as_ref().map(|forked| (forked.from_step, forked.edit)),
            flow: Flow::new(task, forked),
            group: Group::None,
            mailbox: Mailbox::default(),
            epoch: 0,
            is_started: false,
        }
    }

    /// Reads the source's records before the fork.
    pub(crate) fn inherit(&mut self, records: &[Record], from_step: u32) -> Result<(), Box<Action>> {
        for record in records {
            let is_before = match &record.fact {
                Fact::Begun(begun) => begun.step < from_step,
                Fact::Done(done) => done.step < from_step,
                // What the source was told is used up by its steps; its beginning is the fork's too.
                Fact::Signalled(signalled) => matches!(signalled.about, About::Merged { .. }),
                _ => false,
            };
            if is_before {
                self.fold(record, Compare::Inherited).map_err(surprised)?;
            }
        }
        Ok(())
    }

    /// Reads records in their order. `Err` is what to do instead of going on.
    pub(crate) fn replay(&mut self, journal: &[Record]) -> Result<(), Box<Action>> {
        journal
            .iter()
            .try_for_each(|record| self.fold(record, Compare::Strict).map_err(surprised))
    }

    pub(crate) fn fold(&mut self, record: &Record, compare: Compare) -> Result<(), Surprise> {
        match &record.fact {
            Fact::Accepted(_)
            | Fact::Waiting(_)
            | Fact::Released(_)
            | Fact::Paused(_)
            | Fact::Resumed(_)
            | Fact::CancelRequested(_) => {}
            Fact::Claimed(_) => self.epoch = record.epoch,
            Fact::Signalled(signalled) => match &signalled.about {
                // Once a step has begun its owner merges nothing any more.
                About::Merged { payload, .. } if !self.is_started => {
                    self.flow.merge(payload);
                    self.group = Group::None;
                }
                _ => self.mailbox.take(signalled),
            },
            Fact::Begun(begun) => {
                self.expect(begun.step, begun.kind, &begun.name, Some(&begun.input), compare)?;
                self.begin(begun, record.epoch, record.at);
            }
            Fact::Done(done) => {
                self.expect(done.step, done.kind, &done.name, done.input.as_ref(), compare)?;
                self.apply(done);
            }
            Fact::Ended(ended) => return Err(Surprise::Over(ended.clone())),
        }
        Ok(())
    }

    fn begin(&mut self, begun: &Begun, epoch: u32, at: Timestamp) {
        self.mailbox.forget_resolution(begun.step);
        self.mark_begun(begun.step, epoch);
        if let Some(open) = self.group.find(begun.step) {
            open.began_at.get_or_insert(at);
        }
    }

    /// A `begun` of it is committed. Epoch 0: its worker lost it, whatever the journal says.
    pub(crate) fn mark_begun(&mut self, step: u32, epoch: u32) {
        self.is_started = true;
        if let Some(open) = self.group.find(step) {
            open.begun = Some(epoch);
        }
    }

    /// Who asks holds it under that epoch, whether or not its claim is among the records.
    pub(crate) fn claimed(&mut self, epoch: u32) {
        self.epoch = self.epoch.max(epoch);
    }

    /// When the step began, as far as the records tell.
    pub(crate) fn began_at(&mut self, step: u32) -> Option<Timestamp> {
        self.group.find(step)?.began_at
    }

    /// Number of the first step that is not done, or of the first one of its group.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// Whether the step is of this group, and not done.
    pub(crate) fn is_open(&mut self, step: u32) -> bool {
        self.open().is_ok() && self.group.find(step).is_some_and(|open| !open.is_done)
    }

    /// A step of the group is done; with the last one the plan goes on to the next group.
    pub(crate) fn apply(&mut self, done: &Done) {
        self.is_started = true;
        self.mailbox.consume(done);
        let is_over = match &mut self.group {
            Group::None => return,
            Group::One(_) => true,
            Group::Many(all) => {
                let Some(open) = all.iter_mut().find(|open| open.plan.step == done.step && !open.is_done) else {
                    return;
                };
                open.is_done = true;
                all.iter().all(|open| open.is_done)
            }
        };
        self.flow.apply(done);
        if is_over {
            self.step += u32::try_from(self.group.all().len()).unwrap_or(u32::MAX);
            self.group = Group::None;
        }
    }

    pub(crate) fn next(&mut self, now: Timestamp) -> Action {
        if let Err(ended) = self.open() {
            return Action::End(ended);
        }
        let mut given = Vec::new();
        Action::Run(match &self.group {
            Group::Many(all) => {
                let open = all.iter().filter(|open| !open.is_done);
                Steps::Many(open.map(|open| self.todo(open, now, &mut given)).collect())
            }
            Group::One(open) => Steps::One(self.todo(open, now, &mut given)),
            Group::None => Steps::Many(Vec::new()),
        })
    }

    /// Messages and tools of the model step that the plan stands at.
    pub(crate) fn asked(&self) -> crate::thread::Asked {
        self.flow.asked()
    }

    fn open(&mut self) -> Result<(), Box<Ended>> {
        if matches!(self.group, Group::None) {
            self.group = Group::of(self.flow.group(self.step)?);
        }
        Ok(())
    }

    fn todo(&self, open: &Open, now: Timestamp, given: &mut Vec<usize>) -> StepPlan {
        let mut plan = open.plan.clone();
        plan.begun = open.begun.is_some();
        if let Some(output) = self.edited_output(open) {
            plan.todo = settle(Settled::output(self.flow.edited(plan.kind, output)));
            return plan;
        }
        match (&plan.todo, open.begun) {
            (Todo::Wait(on), _) => {
                if let Some(settled) = self.mailbox.settle(plan.step, on, now, given) {
                    plan.todo = settle(settled);
                }
            }
            (Todo::Effect, Some(epoch)) if plan.effect == Effect::AtMostOnce && epoch < self.epoch => {
                self.ambiguous(&mut plan);
            }
            _ => {}
        }
        plan
    }

    fn edited_output(&self, open: &Open) -> Option<&'a Value> {
        let (from_step, edit) = self.edit?;
        edit.output
            .as_ref()
            .filter(|_| from_step == open.plan.step && open.begun.is_none())
    }

    fn ambiguous(&self, plan: &mut StepPlan) {
        plan.todo = match self.mailbox.resolution(plan.step) {
            None => Todo::Wait(Box::new(WaitOn::Ambiguous {
                name: plan.name.clone().into_owned(),
            })),
            Some(Resolution::RunAgain) => {
                // Under this worker's own epoch: its `begun` is committed before it runs.
                plan.begun = false;
                Todo::Effect
            }
            Some(Resolution::Done { output, usage }) => settle(Settled {
                output: Some(output.clone()),
                error: None,
                usage: *usage,
            }),
            Some(Resolution::Failed { error }) => settle(Settled::error(error.clone())),
        };
    }

    /// Whether the plan, from what came before, is what the record says.
    fn expect(
        &mut self,
        step: u32,
        kind: StepKind,
        name: &str,
        input: Option<&Value>,
        compare: Compare,
    ) -> Result<(), Surprise> {
        let recorded = || format!("{} {name}", kind.as_str());
        let structural = |planned: String, because: String| Mismatch {
            step,
            recorded: recorded(),
            planned,
            because,
            is_input: false,
        };
        if let Err(ended) = self.open() {
            let because = format!("nothing would follow, the record says step {step} {}", kind.as_str());
            let planned = format!("ended {}", ended.outcome.as_str());
            return Err(Surprise::Mismatch(structural(planned, because)));
        }
        if compare != Compare::Strict && kind == StepKind::Approval {
            self.ask(step);
        }
        let first = self.step;
        let Some(open) = self.group.find(step) else {
            let because = format!("step {first} would be next, the record says {step}");
            let planned = self.group.all().first().map(|open| described(&open.plan));
            return Err(Surprise::Mismatch(structural(planned.unwrap_or_default(), because)));
        };
        if open.plan.kind != kind {
            let planned = open.plan.kind.as_str();
            let because = format!("step {step} would be {planned}, the record says {}", kind.as_str());
            return Err(Surprise::Mismatch(structural(described(&open.plan), because)));
        }
        let Some(input) = input else {
            return Ok(());
        };
        match compare {
            Compare::Strict if open.plan.input == *input => Ok(()),
            Compare::Strict if self.flow.is_same_in_old_form(&open.plan, input) => {
                // What was recorded is what runs again.
                self.flow.goes_on_as(kind, input);
                open.plan.input = input.clone();
                Ok(())
            }
            Compare::Strict => {
                let because = format!(
                    "step {step} {} would have another input than its record: {}",
                    kind.as_str(),
                    crate::differ::fields(&open.plan.input, input)
                );
                Err(Surprise::Mismatch(Mismatch {
                    is_input: true,
                    ..structural(described(&open.plan), because)
                }))
            }
            Compare::Inherited | Compare::Adopted => {
                self.flow.adopt(step, kind, input, compare == Compare::Adopted);
                Ok(())
            }
        }
    }

    /// A recording asked a person where this plan would not, since it was a fork itself.
    fn ask(&mut self, step: u32) {
        let Some(open) = self.group.find(step) else { return };
        if open.plan.kind == StepKind::Tool
            && let Some(approval) = self.flow.ask(step)
        {
            open.plan = approval;
        }
    }
}

fn settle(settled: Settled) -> Todo {
    Todo::Settle(Box::new(settled))
}

pub(crate) fn described(plan: &StepPlan) -> String {
    format!("{} {}", plan.kind.as_str(), plan.name)
}

pub(crate) fn surprised(surprise: Surprise) -> Box<Action> {
    Box::new(match surprise {
        Surprise::Over(ended) => Action::Over(ended.outcome),
        Surprise::Mismatch(Mismatch { because, .. }) => {
            let mut ended = failed(Problem::new(Code::Diverged, because));
            ended.reason = Some("diverged".to_owned());
            Action::End(Box::new(ended))
        }
    })
}
