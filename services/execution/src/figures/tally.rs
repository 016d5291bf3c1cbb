//! What one committed group adds to the figures, gathered on the way and added once: hot roads touch few counters.

use std::sync::Arc;

use mesh_api::journal::{Done, Fact, StepKind};
use mesh_types::Timestamp;

use super::{By, Figures, KINDS, OUTCOMES, Replay, add};
use crate::core::{After, Decision, EndRow, Meta, RunState};
use crate::lane::memory::Open;
use crate::traced;

/// Agents that a tally keeps apart; past it what it has is added and it begins anew.
const AGENTS_MAX: usize = 16;

/// What model steps used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) calls: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// Billionths of a US dollar.
    pub(super) cost_nanos: u64,
}

pub(crate) struct Tally {
    figures: Arc<Figures>,
    /// When the commit is known.
    now: Timestamp,
    accepted: [u64; By::WORDS.len()],
    ended: [u64; OUTCOMES.len()],
    steps: [u64; KINDS.len()],
    replays: [u64; Replay::WORDS.len()],
    dead: u64,
    used: Vec<(Arc<Meta>, Used)>,
}

impl Tally {
    pub(crate) fn new(figures: &Arc<Figures>, now: Timestamp) -> Self {
        Self {
            figures: Arc::clone(figures),
            now,
            accepted: Default::default(),
            ended: Default::default(),
            steps: Default::default(),
            replays: Default::default(),
            dead: 0,
            used: Vec::new(),
        }
    }

    /// A committed decision, and what memory held before it.
    pub(crate) fn count(&mut self, decision: &Decision, before: Option<&Open>) {
        for record in &decision.records {
            if let Fact::Done(done) = &record.fact {
                self.step(&decision.meta, done);
            }
        }
        match &decision.after {
            After::Opened(row) => {
                self.accept(&decision.meta);
                if row.epoch > 0 {
                    self.dispatched(&decision.meta, decision.meta.created_at);
                }
            }
            After::Changed { row, .. } => {
                if let Some(before) = before.filter(|before| before.row.epoch < row.epoch) {
                    self.claim(before);
                }
            }
            After::Grew { .. } => {}
            After::Merged(end) => {
                self.accept(&decision.meta);
                self.end(&decision.meta, end);
            }
            After::Ended(end) => self.end(&decision.meta, end),
        }
    }

    fn accept(&mut self, meta: &Meta) {
        let by = match (meta.fork(), meta.parent()) {
            (Some(_), _) => By::Fork,
            (None, Some(_)) => By::Parent,
            (None, None) => By::Request,
        };
        self.accepted[by as usize] += 1;
    }

    fn claim(&mut self, before: &Open) {
        self.dispatched(&before.meta, before.ready_at.unwrap_or(self.now));
        let replay = match &before.row.state {
            RunState::Running(_) => Replay::Loss,
            RunState::Waiting(_) => Replay::Wait,
            RunState::Queued if before.row.epoch > 0 => Replay::HandOver,
            RunState::Queued => return,
        };
        self.replays[replay as usize] += 1;
    }

    fn dispatched(&self, meta: &Meta, ready_at: Timestamp) {
        let waited = self.now.since(ready_at).as_secs_f64();
        self.figures.dispatch.record_in(meta.input.trace(), waited);
    }

    fn end(&mut self, meta: &Meta, end: &EndRow) {
        let place = end.outcome as usize;
        self.ended[place] += 1;
        self.dead += u64::from(end.outcome == mesh_api::journal::Outcome::Dead);
        if let Some(durations) = self.figures.durations.get(place) {
            let took = end.ended_at.since(meta.created_at).as_secs_f64();
            durations.record_in(meta.input.trace(), took);
        }
    }

    fn step(&mut self, meta: &Arc<Meta>, done: &Done) {
        self.steps[done.kind as usize] += 1;
        traced::waited(meta, done);
        if done.kind != StepKind::Model {
            return;
        }
        let is_same = |of: &Meta| of.agent == meta.agent && of.tenant == meta.tenant;
        let place = self.used.iter().position(|(of, _)| is_same(of));
        let place = place.unwrap_or_else(|| {
            if self.used.len() == AGENTS_MAX {
                self.add_used();
            }
            self.used.push((Arc::clone(meta), Used::default()));
            self.used.len() - 1
        });
        let used = &mut self.used[place].1;
        used.calls += 1;
        used.input_tokens = used.input_tokens.saturating_add(done.usage.input_tokens);
        used.output_tokens = used.output_tokens.saturating_add(done.usage.output_tokens);
        // Not negative; what is no number counts as nothing.
        used.cost_nanos = used
            .cost_nanos
            .saturating_add((done.usage.cost_usd * 1e9).round() as u64);
    }

    fn add_used(&mut self) {
        for (of, used) in self.used.drain(..) {
            self.figures.agents.add(&of.tenant, &of.agent, &used);
        }
    }

    /// Adds what was gathered.
    pub(crate) fn finish(mut self) {
        self.add_used();
        let figures = &self.figures;
        let all = [
            (&figures.accepted, &self.accepted[..]),
            (&figures.ended, &self.ended[..]),
            (&figures.steps, &self.steps[..]),
            (&figures.replays, &self.replays[..]),
        ];
        for (counters, counts) in all {
            for (place, count) in counts.iter().enumerate() {
                add(counters, place, *count);
            }
        }
        add(std::slice::from_ref(&figures.dead), 0, self.dead);
    }
}
