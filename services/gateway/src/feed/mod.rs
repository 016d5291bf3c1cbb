//! Following one invocation, purely: records and token chunks in, events out, each once and in order (EXECUTION §9).
//!
//! The rule, the same for whoever reads `mesh.journal.<tenant>.<invocation>` and `mesh.token.<tenant>.<invocation>`:
//! - Subscribe to both, then read `mesh.svc.execution.feed` from your mark. A record at or below the mark is a repeat:
//!   drop it. A record that does not follow the mark shows a hole: read the feed again. A lost connection is a hole.
//! - A chunk belongs to (step, epoch, attempt). One that is older than what you show of its step, or than the latest
//!   `claimed` record, is void: drop it. A newer one voids what you show (`reset`). Within the same, `offset` says how
//!   many bytes of its block stand before it: skip what you have; if something lies between, it was lost: read TOKENS
//!   back from its beginning, or wait for the step's record.
//! - The `done` record of a step supersedes its chunks. If epoch and attempt match, what you lack of `output.text` is
//!   the rest; else what you show is void and `output.text` is all of it. If it failed, what you show is void.
//!
//! So the joined tokens since the last `reset` of a recorded model step are its text, byte for byte, whatever was lost,
//! repeated or cut off; also for who came too late for any chunk.

mod cursor;
mod text;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_api::execution::State;
use mesh_api::journal::{Begun, Done, Fact, Record, StepKind, TokenChunk, Waiting};
use mesh_types::{AgentName, InvocationId};
use serde_json::{Value, json};

pub(crate) use cursor::{Cursor, Place};
use text::{Text, Told};
use view::{Said, Stamp};

/// One event to tell, with the cursor that continues after it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) cursor: Cursor,
    pub(crate) name: &'static str,
    pub(crate) data: Value,
}

/// Whether something is missing before what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    All,
    Gap,
}

#[derive(Debug)]
pub(crate) struct Follower {
    invocation: InvocationId,
    agent: Option<AgentName>,
    /// Highest record seen here, told or not; starts at 0, as inputs of open steps are read from `begun` records.
    read: u32,
    /// Highest record that the reader has all of, and how many events of the next one.
    told: u32,
    part: u32,
    /// Of the latest claim: chunks of older ones are void.
    epoch: u32,
    begun: BTreeMap<u32, Begun>,
    /// Steps whose record was seen: later chunks of theirs are void.
    done: BTreeSet<u32>,
    /// Steps that a person was asked about and has not answered: waiting for them again is no new request.
    asked: BTreeSet<u32>,
    texts: BTreeMap<u32, Text>,
    ended: bool,
    out: VecDeque<Event>,
}

impl Follower {
    pub(crate) fn new(invocation: InvocationId, cursor: Cursor) -> Self {
        let Cursor { mut seq, part, inside } = cursor;
        if mesh_runtime::planted::is_planted("repeats_after_reconnect") {
            seq = seq.saturating_sub(1);
        }
        Self {
            invocation,
            agent: None,
            read: 0,
            told: seq,
            part,
            epoch: 0,
            begun: BTreeMap::new(),
            done: BTreeSet::new(),
            asked: BTreeSet::new(),
            texts: inside
                .into_iter()
                .map(|place| (place.step, Text::resumed(place)))
                .collect(),
            ended: false,
            out: VecDeque::new(),
        }
    }

    /// The next event to tell.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.out.pop_front()
    }

    /// Whether the end was seen: nothing follows what [`Self::pop`] still holds.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Highest record seen: where the feed is to be read on from.
    pub(crate) fn read(&self) -> u32 {
        self.read
    }

    /// Takes records in order of `seq`. What was seen is dropped; at a hole nothing more is taken.
    pub(crate) fn take_records(&mut self, records: Vec<Record>) -> Taken {
        for record in records {
            if record.seq <= self.read {
                continue;
            }
            if record.seq != self.read + 1 {
                return Taken::Gap;
            }
            self.read = record.seq;
            self.take_record(record);
        }
        Taken::All
    }

    fn take_record(&mut self, record: Record) {
        let Record { seq, epoch, at, fact } = record;
        let stamp = Stamp {
            invocation: self.invocation,
            seq,
            epoch,
            at,
        };
        let is_new = seq > self.told;
        let said = self.said(stamp, fact, is_new);
        if !is_new {
            return;
        }
        let count = u32::try_from(said.len()).unwrap_or(u32::MAX);
        for (number, said) in (1..).zip(said).skip(self.part as usize) {
            let (name, data) = stamp.on(said);
            (self.told, self.part) = if number == count { (seq, 0) } else { (seq - 1, number) };
            self.push(name, data);
        }
        (self.told, self.part) = (seq, 0);
    }

    /// The events of a record, most often one.
    fn said(&mut self, stamp: Stamp, fact: Fact, is_new: bool) -> Vec<Said> {
        let said = match fact {
            Fact::Begun(begun) => {
                self.begun.insert(begun.step, begun);
                None
            }
            Fact::Done(done) => {
                let begun = self.begun.remove(&done.step);
                if is_new {
                    self.tell_rest(stamp.epoch, &done);
                }
                self.texts.remove(&done.step);
                self.done.insert(done.step);
                self.asked.remove(&done.step);
                Some(view::step(stamp.epoch, *done, begun))
            }
            Fact::Accepted(accepted) => {
                let data = json!({"agent": accepted.agent, "version": accepted.version});
                self.agent = Some(accepted.agent);
                Some(("invocation.queued", view::state(State::Queued, data)))
            }
            Fact::Claimed(claimed) => {
                self.epoch = self.epoch.max(stamp.epoch);
                let data = json!({"holder": claimed.holder});
                Some(("invocation.running", view::state(State::Running, data)))
            }
            Fact::Waiting(waiting) => return self.waits(stamp, &waiting),
            Fact::Signalled(signalled) => {
                let decision = stamp.decision(&signalled);
                if let (Some(_), Some(step)) = (&decision, signalled.about.step()) {
                    self.asked.remove(&step);
                }
                decision
            }
            Fact::Released(released) => {
                let data = json!({"reason": released.reason});
                Some(("invocation.queued", view::state(State::Queued, data)))
            }
            Fact::Paused(paused) => Some(view::pause(true, &paused)),
            Fact::Resumed(resumed) => Some(view::pause(false, &resumed)),
            // A wish, not a state: the end tells what became of it.
            Fact::CancelRequested(_) => None,
            Fact::Ended(ended) => {
                self.ended = true;
                // Nothing follows, so no place is to be kept.
                self.texts.clear();
                Some(view::end(*ended))
            }
        };
        said.into_iter().collect()
    }

    /// The wait, then what a person is asked for the first time.
    fn waits(&mut self, stamp: Stamp, waiting: &Waiting) -> Vec<Said> {
        let data = view::state(State::Waiting, json!({"waits_for": waiting.items}));
        let mut said = vec![("invocation.waiting", data)];
        for item in &waiting.items {
            let request = stamp.request(item, self.agent.as_ref(), self.begun.get(&item.step));
            said.extend(request.filter(|_| self.asked.insert(item.step)));
        }
        said
    }

    /// Takes a piece of streamed text. After a hole nothing of the attempt is told until what lies between comes.
    pub(crate) fn take_chunk(&mut self, chunk: &TokenChunk) -> Taken {
        let TokenChunk {
            step, epoch, attempt, ..
        } = *chunk;
        // Until what the reader has is read here, too, nobody knows whether the step is done.
        if self.ended || self.read < self.told || epoch < self.epoch || self.done.contains(&step) {
            return Taken::All;
        }
        if !self.texts.contains_key(&step) && self.texts.len() >= cursor::PLACES_MAX {
            return Taken::All;
        }
        let text = self
            .texts
            .entry(step)
            .or_insert_with(|| Text::new(step, epoch, attempt));
        let (ours, theirs) = ((text.place.epoch, text.place.attempt), (epoch, attempt));
        if theirs < ours {
            return Taken::All;
        }
        if theirs > ours {
            self.start_over(step, epoch, attempt);
        }
        match self.texts.get_mut(&step).map(|text| text.advance(chunk)) {
            Some(Told::Fresh(fresh)) => {
                self.push_token(step, attempt, fresh);
                Taken::All
            }
            Some(Told::Hole) => Taken::Gap,
            Some(Told::Nothing) | None => Taken::All,
        }
    }

    /// Before a step's record is told: the text of it that the reader lacks.
    fn tell_rest(&mut self, epoch: u32, done: &Done) {
        let (step, attempt) = (done.step, done.attempt);
        let output = done.output.as_ref().and_then(|output| output.get("text"));
        let whole = match output.and_then(Value::as_str) {
            Some(whole) => whole,
            None if done.error.is_some() => "",
            None => return,
        };
        if !self.texts.contains_key(&step) && (done.kind != StepKind::Model || whole.is_empty()) {
            return;
        }
        let text = self
            .texts
            .entry(step)
            .or_insert_with(|| Text::new(step, epoch, attempt));
        let is_same = (text.place.epoch, text.place.attempt) == (epoch, attempt);
        let rest = text.told().filter(|_| is_same).and_then(|told| whole.get(told..));
        let rest = match rest {
            Some(rest) => rest,
            None => {
                self.start_over(step, epoch, attempt);
                whole
            }
        };
        if rest.is_empty() {
            return;
        }
        let mut text = Text::new(step, epoch, attempt);
        (text.place.offset, text.announced) = (whole.len() as u64, true);
        self.texts.insert(step, text);
        self.push_token(step, attempt, rest.to_owned());
    }

    /// What the reader shows of a step is void, if it shows anything.
    fn start_over(&mut self, step: u32, epoch: u32, attempt: u32) {
        let mut text = Text::new(step, epoch, attempt);
        let before = self.texts.get(&step);
        let was_shown = before.is_some_and(Text::is_shown);
        text.announced = before.is_some_and(|before| before.announced);
        self.texts.insert(step, text);
        if was_shown {
            self.push("reset", json!({"step": step, "attempt": attempt}));
        }
    }

    fn push_token(&mut self, step: u32, attempt: u32, text: String) {
        self.push("token", json!({"text": text, "step": step, "attempt": attempt}));
    }

    fn push(&mut self, name: &'static str, data: Value) {
        let announced = self.texts.values().filter(|text| text.announced);
        let cursor = Cursor {
            seq: self.told,
            part: self.part,
            inside: announced.map(|text| text.place).collect(),
        };
        self.out.push_back(Event { cursor, name, data });
    }
}

#[cfg(test)]
mod tests;
