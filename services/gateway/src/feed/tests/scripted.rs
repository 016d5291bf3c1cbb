//! A scripted execution, cut off anywhere and any number of times: nothing lost, nothing twice, every text whole.

use proptest::prelude::*;

use super::*;

/// One thing that happens, in order.
#[derive(Debug, Clone)]
enum Happens {
    Record(Record),
    Chunk(TokenChunk),
}

/// Tries of one model step that come to nothing, each by what cuts it short; then the one that is recorded.
#[derive(Debug, Clone)]
struct Scripted {
    void: Vec<(Vec<String>, Cut)>,
    said: Vec<String>,
    /// A person pauses and resumes in the middle of it.
    paused: bool,
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The model call starts over.
    Attempt,
    /// The worker is lost, another one claims.
    Epoch,
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-zäß☃]{1,6}", 0..5)
}

fn scripted() -> impl Strategy<Value = Scripted> {
    let cut = prop_oneof![Just(Cut::Attempt), Just(Cut::Epoch)];
    let void = prop::collection::vec((words(), cut), 0..4);
    (void, words(), any::<bool>()).prop_map(|(void, said, paused)| Scripted { void, said, paused })
}

#[derive(Default)]
struct Script {
    happens: Vec<Happens>,
    seq: u32,
    epoch: u32,
}

impl Script {
    fn record(&mut self, fact: Fact) {
        self.seq += 1;
        self.happens.push(Happens::Record(record(self.seq, self.epoch, fact)));
    }

    fn claim(&mut self) {
        self.epoch += 1;
        self.record(Fact::Claimed(Claimed {
            holder: "hosted".into(),
            incarnation: 1,
        }));
    }

    fn say(&mut self, step: u32, attempt: u32, words: &[String]) {
        let mut offset = 0;
        for word in words {
            self.happens.push(Happens::Chunk(TokenChunk {
                step,
                epoch: self.epoch,
                attempt,
                block: 0,
                offset,
                text: word.clone(),
            }));
            offset += word.len() as u64;
        }
    }

    fn step(&mut self, step: u32, scripted: &Scripted) {
        self.record(begun(step));
        let mut attempt = 1;
        for (words, cut) in &scripted.void {
            self.say(step, attempt, words);
            match cut {
                Cut::Attempt => attempt += 1,
                Cut::Epoch => {
                    self.claim();
                    attempt = 1;
                }
            }
        }
        let (before, after) = scripted.said.split_at(scripted.said.len() / 2);
        self.say(step, attempt, before);
        if scripted.paused {
            let person = Paused {
                actor: "ann".into(),
                reason: None,
            };
            self.record(Fact::Paused(person.clone()));
            self.record(Fact::Resumed(person));
        }
        let mut offset = before.concat().len() as u64;
        for word in after {
            let mut piece = chunk(attempt, offset, word);
            (piece.step, piece.epoch) = (step, self.epoch);
            self.happens.push(Happens::Chunk(piece));
            offset += word.len() as u64;
        }
        self.record(done(step, &scripted.said.concat(), attempt));
    }

    fn of(steps: &[Scripted]) -> Self {
        let mut script = Self::default();
        script.record(journal("").swap_remove(0).fact);
        script.claim();
        for (step, scripted) in (1..).zip(steps) {
            script.step(step, scripted);
        }
        script.record(journal("").swap_remove(4).fact);
        script
    }

    fn records(&self, until: usize) -> Vec<Record> {
        let records = self.happens[..until].iter().filter_map(|happens| match happens {
            Happens::Record(record) => Some(record.clone()),
            Happens::Chunk(_) => None,
        });
        records.collect()
    }
}

/// One connection that begins when `from` things have happened: history first, then what comes, some of it lost, some
/// repeated. Ends after `events` events, or when all has happened.
fn connection(script: &Script, cursor: Cursor, from: usize, events: usize, fate: &[u8]) -> (Vec<Event>, usize) {
    let mut follower = Follower::new(invocation(), cursor);
    follower.take_records(script.records(from));
    let mut told = Vec::new();
    for (at, happens) in script.happens.iter().enumerate().skip(from) {
        told.extend(drain(&mut follower));
        if told.len() >= events {
            told.truncate(events);
            return (told, at);
        }
        let fate = fate[at % fate.len()];
        match happens {
            Happens::Chunk(_) if fate == 0 => {}
            Happens::Chunk(piece) => {
                for _ in 0..fate.min(2) {
                    follower.take_chunk(piece);
                }
            }
            // Lost: the feed has it at the next one.
            Happens::Record(_) if fate == 0 && at + 1 < script.happens.len() => {}
            Happens::Record(record) => {
                if follower.take_records(vec![record.clone()]) == Taken::Gap {
                    follower.take_records(script.records(at + 1));
                }
            }
        }
    }
    told.extend(drain(&mut follower));
    told.truncate(events);
    (told, script.happens.len())
}

fn texts(events: &[Event]) -> BTreeMap<u64, String> {
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    for event in events {
        let text = texts.entry(event.data["step"].as_u64().unwrap_or(0)).or_default();
        match event.name {
            "token" => text.push_str(event.data["text"].as_str().unwrap()),
            "reset" => text.clear(),
            _ => {}
        }
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_script_that_is_cut_off_anywhere_is_told_whole_and_once(
        steps in prop::collection::vec(scripted(), 1..4),
        cuts in prop::collection::vec(1_usize..12, 0..12),
        fate in prop::collection::vec(0_u8..4, 1..40),
    ) {
        let script = Script::of(&steps);
        let (mut told, mut cursor, mut from) = (Vec::new(), Cursor::default(), 0);
        for events in cuts.into_iter().chain([usize::MAX]) {
            let (some, until) = connection(&script, cursor.clone(), from, events, &fate);
            // What the client sends is what it was sent.
            if let Some(last) = some.last() {
                cursor = last.cursor.to_string().parse().unwrap();
            }
            told.extend(some);
            from = until;
        }
        // What happened is told once and in order, whatever the connections were.
        let mut whole = Follower::new(invocation(), Cursor::default());
        whole.take_records(script.records(script.happens.len()));
        let recorded = |events: &[Event]| -> Vec<(&'static str, Value)> {
            let records = events.iter().filter(|event| !matches!(event.name, "token" | "reset"));
            records.map(|event| (event.name, event.data.clone())).collect()
        };
        prop_assert_eq!(recorded(&told), recorded(&drain(&mut whole)));
        let shown = texts(&told);
        for (step, scripted) in (1_u64..).zip(&steps) {
            let is_shown = shown.get(&step).cloned().unwrap_or_default();
            prop_assert_eq!(is_shown, scripted.said.concat(), "step {}", step);
        }
        // No token stands after the record of its step.
        for (at, event) in told.iter().enumerate().filter(|(_, event)| event.name == "step.recorded") {
            let late = told[at..].iter().any(|later| later.name == "token" && later.data["step"] == event.data["number"]);
            prop_assert!(!late, "step {}", event.data["number"]);
        }
    }
}
