//! Clients that lose their connection at random, again and again, while an invocation runs: each has seen, in the end,
//! every record once and every text whole, whatever the bus lost of both.

use std::collections::BTreeMap;
use std::time::Duration;

use eventsource_stream::Event;
use futures::StreamExt;
use mesh_api::journal::*;
use mesh_types::Timestamp;
use serde_json::{Value, json};

use crate::events::data;
use crate::facts::journal;
use crate::made::the_invocation;
use crate::support::Edge;

const CLIENTS: u64 = 4;
const RUNS: u64 = 6;

/// A small generator of numbers: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

enum Happens {
    Record(Record),
    Chunk(TokenChunk),
}

#[derive(Default)]
struct Script {
    happens: Vec<Happens>,
    seq: u32,
    epoch: u32,
}

impl Script {
    fn record(&mut self, fact: Fact) -> &mut Self {
        self.seq += 1;
        let (seq, epoch, at) = (self.seq, self.epoch, Timestamp::from_millis(i64::from(self.seq)));
        self.happens.push(Happens::Record(Record { seq, epoch, at, fact }));
        self
    }

    fn claim(&mut self) -> &mut Self {
        self.epoch += 1;
        let (holder, incarnation) = ("hosted".into(), 1);
        self.record(Fact::Claimed(Claimed { holder, incarnation }))
    }

    /// A text in pieces of two letters, from `offset` on.
    fn say(&mut self, step: u32, attempt: u32, offset: u64, text: &str) -> &mut Self {
        let letters: Vec<char> = text.chars().collect();
        let mut offset = offset;
        for piece in letters.chunks(2) {
            let text: String = piece.iter().collect();
            let (epoch, block, length) = (self.epoch, 0, text.len() as u64);
            self.happens.push(Happens::Chunk(TokenChunk {
                step,
                epoch,
                attempt,
                block,
                offset,
                text,
            }));
            offset += length;
        }
        self
    }

    fn begin(&mut self, step: u32) -> &mut Self {
        self.record(like(2, |begun| {
            if let Fact::Begun(begun) = begun {
                begun.step = step;
            }
        }))
    }

    fn finish(&mut self, step: u32, attempt: u32, text: &str) -> &mut Self {
        self.record(like(3, |done| {
            if let Fact::Done(done) = done {
                (done.step, done.attempt, done.output) = (step, attempt, Some(json!({"text": text})));
            }
        }))
    }

    /// A call that starts over, a worker that is lost in the middle, a pause, a second step, a person who is asked.
    fn new() -> Self {
        let mut script = Self::default();
        let person = Paused {
            actor: "ann".into(),
            reason: None,
        };
        let asked = [3, 4].map(|step| WaitItem {
            step,
            on: WaitOn::Approval { tool: "refund".into() },
        });
        let answered = |step| {
            let (key, actor) = (format!("k{step}"), "ann".into());
            let about = About::Approval { step, approved: true };
            let note = None;
            Fact::Signalled(Box::new(Signalled {
                key,
                about,
                actor,
                note,
            }))
        };
        script.record(like(0, |_| {})).claim().begin(1);
        script
            .say(1, 1, 0, "The answer is forty")
            .say(1, 2, 0, "")
            .say(1, 2, 0, "The äns");
        script
            .claim()
            .say(1, 1, 0, "Die Antwört")
            .record(Fact::Paused(person.clone()));
        script.say(1, 1, 12, " ist ☃ 42").record(Fact::Resumed(person));
        script
            .finish(1, 1, "Die Antwört ist ☃ 42")
            .begin(2)
            .say(2, 1, 0, "and more");
        script
            .finish(2, 1, "and more of it")
            .record(Fact::Waiting(Waiting { items: asked.to_vec() }));
        script.record(answered(3)).record(answered(4)).claim().begin(5);
        script
            .say(5, 1, 0, "wrong")
            .say(5, 2, 0, "right at last")
            .finish(5, 2, "right at last");
        script.record(like(6, |_| {}));
        script
    }
}

/// A fact as the journal of the other tests has it, with a change.
fn like(at: usize, change: impl FnOnce(&mut Fact)) -> Fact {
    let mut fact = journal().swap_remove(at).fact;
    change(&mut fact);
    fact
}

/// What the bus loses stays lost; the end arrives, as without it the feed is read only after a while.
async fn perform(edge: &Edge, script: &Script, dice: &mut Dice) {
    for happens in &script.happens {
        match happens {
            Happens::Chunk(chunk) => {
                if dice.roll(8) > 0 {
                    edge.chunk(chunk).await;
                }
            }
            Happens::Record(record) => {
                edge.commit(std::slice::from_ref(record));
                if dice.roll(4) > 0 || matches!(record.fact, Fact::Ended(_)) {
                    edge.relay(std::slice::from_ref(record)).await;
                }
            }
        }
    }
}

/// Reads a few events, goes away, comes back, until the end.
async fn read(edge: &Edge, mut dice: Dice) -> Vec<Event> {
    let mut told: Vec<Event> = Vec::new();
    while told.last().is_none_or(|event| event.event != "invocation.completed") {
        let last = told.last().map(|event| event.id.clone());
        let stream = edge.follow(last.as_deref()).await;
        let some = usize::try_from(1 + dice.roll(6)).unwrap();
        told.extend(stream.take(some).collect::<Vec<_>>().await);
    }
    told
}

fn texts(events: &[Event]) -> BTreeMap<u64, String> {
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    for event in events {
        let step = || data(event)["step"].as_u64().unwrap();
        match event.event.as_str() {
            "token" => texts
                .entry(step())
                .or_default()
                .push_str(data(event)["text"].as_str().unwrap()),
            "reset" => texts.entry(step()).or_default().clear(),
            _ => {}
        }
    }
    texts
}

fn recorded(events: &[Event]) -> Vec<(String, Value)> {
    let records = events
        .iter()
        .filter(|event| !matches!(event.event.as_str(), "token" | "reset"));
    records.map(|event| (event.event.clone(), data(event))).collect()
}

#[tokio::test]
async fn clients_that_are_cut_off_at_random_see_everything_once() {
    for run in 0..RUNS {
        let edge = Edge::start().await;
        edge.bus.apply_topology(&mesh_bus::topology::standard()).await.unwrap();
        let script = Script::new();
        let first = [&script.happens[0]].map(|happens| match happens {
            Happens::Record(record) => record.clone(),
            Happens::Chunk(_) => unreachable!("it begins with a record"),
        });
        edge.commit(&first);
        let rest = Script {
            happens: script.happens.into_iter().skip(1).collect(),
            ..Script::default()
        };
        let clients = (0..CLIENTS).map(|client| read(&edge, Dice(run * 100 + client)));
        let all = futures::future::join_all(clients);
        let mut dice = Dice(run + 7);
        let both = futures::future::join(perform(&edge, &rest, &mut dice), all);
        let ((), told) = tokio::time::timeout(Duration::from_secs(30), both)
            .await
            .expect("all end");
        // Who reads it at once, after the end, is the measure.
        let whole: Vec<Event> = edge.follow(None).await.collect().await;
        let asked = recorded(&whole)
            .iter()
            .filter(|(name, _)| name == "approval.requested")
            .count();
        assert_eq!(asked, 2, "{whole:?}");
        for (client, told) in told.into_iter().enumerate() {
            assert_eq!(recorded(&told), recorded(&whole), "run {run}, client {client}");
            assert_eq!(texts(&told), texts(&whole), "run {run}, client {client}: {told:?}");
        }
        let expected = [(1, "Die Antwört ist ☃ 42"), (2, "and more of it"), (5, "right at last")];
        assert_eq!(
            texts(&whole),
            expected.map(|(step, text)| (step, text.to_owned())).into()
        );
        assert_eq!(data(&whole[0])["id"], json!(the_invocation().to_string()));
    }
}
