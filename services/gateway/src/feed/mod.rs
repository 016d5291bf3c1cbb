//! Following one invocation, purely: records and token chunks in, events out, each once and in order (EXECUTION §9).
//!
//! Records come from the feed (complete) and from JOURNAL (quick, may lose or repeat); chunks of text come at most
//! once. Records at or below the mark are dropped, a hole asks for the feed. Text that was lost is read back while its
//! step runs, else told from the step's record, which also supersedes all of it.

mod cursor;
mod text;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_api::execution::{State, Step};
use mesh_api::journal::{Begun, Done, Ended, Fact, Record, TokenChunk};
use mesh_types::InvocationId;
use serde_json::{Value, json};

pub(crate) use cursor::{Cursor, Place};
use text::{Text, Told};

/// Steps whose text is kept in mind at once; a worker streams one or a few.
const STREAMING_STEPS_MAX: usize = 64;

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
    /// Highest record seen here, told or not; starts at 0, as inputs of open steps are read from `begun` records.
    read: u32,
    /// Highest record that the reader has.
    told: u32,
    begun: BTreeMap<u32, Begun>,
    /// Steps whose record was seen: later chunks of theirs are void.
    done: BTreeSet<u32>,
    texts: BTreeMap<u32, Text>,
    ended: bool,
    out: VecDeque<Event>,
}

impl Follower {
    pub(crate) fn new(invocation: InvocationId, cursor: Cursor) -> Self {
        let texts = cursor.inside.map(|place| {
            let before = (place.block == 0).then_some(0);
            let text = Text {
                place,
                before,
                shown: true,
            };
            (place.step, text)
        });
        Self {
            invocation,
            read: 0,
            told: cursor.seq,
            begun: BTreeMap::new(),
            done: BTreeSet::new(),
            texts: texts.into_iter().collect(),
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
            let is_new = record.seq > self.told;
            self.take_record(record, is_new);
        }
        Taken::All
    }

    fn take_record(&mut self, record: Record, is_new: bool) {
        let Record { seq, epoch, at, fact } = record;
        let mut event = match fact {
            Fact::Begun(begun) => {
                self.begun.insert(begun.step, begun);
                None
            }
            Fact::Done(done) => {
                let begun = self.begun.remove(&done.step);
                if is_new {
                    self.tell_rest(epoch, &done);
                }
                self.texts.remove(&done.step);
                self.done.insert(done.step);
                Some(("step.recorded", step_view(epoch, *done, begun)))
            }
            Fact::Accepted(accepted) => Some((
                "invocation.queued",
                json!({"state": State::Queued, "agent": accepted.agent, "version": accepted.version}),
            )),
            Fact::Claimed(claimed) => Some((
                "invocation.running",
                json!({"state": State::Running, "holder": claimed.holder}),
            )),
            Fact::Waiting(waiting) => Some((
                "invocation.waiting",
                json!({"state": State::Waiting, "waits_for": waiting.items}),
            )),
            Fact::Released(released) => Some((
                "invocation.queued",
                json!({"state": State::Queued, "reason": released.reason}),
            )),
            Fact::Signalled(_) | Fact::Paused(_) | Fact::Resumed(_) => None,
            // A wish, not a state: the end tells what became of it.
            Fact::CancelRequested(_) => None,
            Fact::Ended(ended) => {
                self.ended = true;
                Some((end_name(&ended), end_view(*ended)))
            }
        };
        self.told = self.told.max(seq);
        if let Some((name, data)) = event.take().filter(|_| is_new) {
            let data = with_where(data, self.invocation, seq, epoch, at);
            self.out.push_back(Event {
                cursor: Cursor { seq, inside: None },
                name,
                data,
            });
        }
    }

    /// Takes a piece of streamed text. After a hole nothing of the attempt is told until what lies between comes.
    pub(crate) fn take_chunk(&mut self, chunk: &TokenChunk) -> Taken {
        // Until what the reader has is read here, too, nobody knows whether the step is done.
        if self.ended || self.read < self.told || self.done.contains(&chunk.step) {
            return Taken::All;
        }
        if !self.texts.contains_key(&chunk.step) && self.texts.len() >= STREAMING_STEPS_MAX {
            return Taken::All;
        }
        let text = self.texts.entry(chunk.step).or_insert_with(|| Text::new(chunk));
        let (ours, theirs) = ((text.place.epoch, text.place.attempt), (chunk.epoch, chunk.attempt));
        if theirs < ours {
            return Taken::All;
        }
        let is_void = theirs > ours && text.shown;
        if theirs > ours {
            *text = Text::new(chunk);
        }
        let start = text.place;
        let told = text.advance(chunk);
        let place = text.place;
        if is_void {
            self.push_reset(start);
        }
        match told {
            Told::Nothing => Taken::All,
            Told::Fresh(fresh) => {
                self.push_token(place, fresh);
                Taken::All
            }
            Told::Hole => Taken::Gap,
        }
    }

    /// Before a step's record is told: the text of it that the reader lacks.
    fn tell_rest(&mut self, epoch: u32, done: &Done) {
        let Some(text) = self.texts.get(&done.step) else {
            return;
        };
        let Some(whole) = done
            .output
            .as_ref()
            .and_then(|output| output.get("text"))
            .and_then(Value::as_str)
        else {
            return;
        };
        let attempt = done.attempt;
        let is_same = (text.place.epoch, text.place.attempt) == (epoch, attempt);
        let told = text
            .before
            .filter(|_| is_same)
            .and_then(|before| usize::try_from(before + text.place.offset).ok());
        let was_shown = text.shown;
        let end = Place {
            step: done.step,
            epoch,
            attempt,
            block: 0,
            offset: whole.len() as u64,
        };
        match told.and_then(|told| whole.get(told..)) {
            Some("") => {}
            Some(rest) => self.push_token(end, rest.to_owned()),
            None => {
                if was_shown {
                    self.push_reset(Place { offset: 0, ..end });
                }
                self.push_token(end, whole.to_owned());
            }
        }
    }

    fn push_token(&mut self, place: Place, text: String) {
        let data = json!({"text": text, "step": place.step, "attempt": place.attempt});
        self.out.push_back(Event {
            cursor: Cursor {
                seq: self.told,
                inside: Some(place),
            },
            name: "token",
            data,
        });
    }

    fn push_reset(&mut self, place: Place) {
        let data = json!({"step": place.step, "attempt": place.attempt});
        self.out.push_back(Event {
            cursor: Cursor {
                seq: self.told,
                inside: Some(place),
            },
            name: "reset",
            data,
        });
    }
}

fn step_view(epoch: u32, done: Done, begun: Option<Begun>) -> Value {
    let step = Step {
        number: done.step,
        kind: done.kind,
        name: done.name,
        effect: done.effect,
        input: done.input.or_else(|| begun.map(|begun| begun.input)),
        output: done.output,
        error: done.error,
        usage: done.usage,
        attempt: done.attempt,
        epoch,
        started_at: done.started_at,
        ended_at: Some(done.ended_at),
    };
    json!(step)
}

fn end_name(ended: &Ended) -> &'static str {
    match State::from(ended.outcome) {
        State::Completed => "invocation.completed",
        State::Failed => "invocation.failed",
        State::Cancelled => "invocation.cancelled",
        _ => "invocation.dead",
    }
}

fn end_view(ended: Ended) -> Value {
    json!({
        "state": State::from(ended.outcome), "reason": ended.reason, "output": ended.output, "error": ended.error,
        "usage": ended.usage, "provider": ended.provider,
    })
}

/// Every record's event says which invocation, which record, and when.
fn with_where(mut data: Value, id: InvocationId, seq: u32, epoch: u32, at: mesh_types::Timestamp) -> Value {
    if let Some(object) = data.as_object_mut() {
        let key = if object.contains_key("state") {
            "id"
        } else {
            "invocation"
        };
        object.insert(key.into(), json!(id));
        object.insert("seq".into(), json!(seq));
        object.insert("epoch".into(), json!(epoch));
        object.insert("at".into(), json!(at));
    }
    data
}

#[cfg(test)]
mod tests;
