//! Tests of following an invocation: nothing lost, nothing twice, whatever is repeated, lost or cut off.

use mesh_api::journal::{Accepted, Claimed, Effect, Outcome, StepKind, Usage};
use mesh_types::{Id, Timestamp};
use proptest::prelude::*;

use super::*;

fn invocation() -> InvocationId {
    InvocationId::from_u128(7)
}

fn record(seq: u32, epoch: u32, fact: Fact) -> Record {
    Record {
        seq,
        epoch,
        at: Timestamp::from_millis(i64::from(seq)),
        fact,
    }
}

fn done(step: u32, text: &str, attempt: u32) -> Fact {
    Fact::Done(Box::new(Done {
        step,
        kind: StepKind::Model,
        name: "mock".into(),
        effect: Effect::Idempotent,
        input: None,
        output: Some(json!({"text": text})),
        error: None,
        usage: Usage::default(),
        attempt,
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
    }))
}

fn begun(step: u32) -> Fact {
    let (kind, effect) = (StepKind::Model, Effect::Idempotent);
    Fact::Begun(Begun {
        step,
        kind,
        name: "mock".into(),
        effect,
        input: json!({"asked": step}),
    })
}

/// One model call between start and end.
fn journal(text: &str) -> Vec<Record> {
    let accepted = Accepted {
        agent: "sofia".parse().unwrap(),
        version: 1,
        actor: "dev".into(),
    };
    let ended = Ended {
        outcome: Outcome::Completed,
        reason: None,
        output: Some(json!({"text": text})),
        error: None,
        usage: Usage::default(),
        provider: Some("mock".into()),
    };
    vec![
        record(1, 0, Fact::Accepted(accepted)),
        record(
            2,
            1,
            Fact::Claimed(Claimed {
                holder: "hosted".into(),
                incarnation: 1,
            }),
        ),
        record(3, 1, begun(1)),
        record(4, 1, done(1, text, 1)),
        record(5, 1, Fact::Ended(Box::new(ended))),
    ]
}

fn chunk(attempt: u32, offset: u64, text: &str) -> TokenChunk {
    TokenChunk {
        step: 1,
        epoch: 1,
        attempt,
        block: 0,
        offset,
        text: text.into(),
    }
}

fn drain(follower: &mut Follower) -> Vec<Event> {
    std::iter::from_fn(|| follower.pop()).collect()
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name).collect()
}

/// The text as a client shows it: tokens appended, thrown away at a reset.
fn shown<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let mut text = String::new();
    for event in events {
        match event.name {
            "token" => text.push_str(event.data["text"].as_str().unwrap()),
            "reset" => text.clear(),
            _ => {}
        }
    }
    text
}

#[test]
fn a_cursor_survives_its_text_and_strangers_are_refused() {
    for text in ["0", "17", "4.1.2.3.0.99"] {
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "-1",
        "x",
        "4.1",
        "4.1.2.3.0.99.1",
        "007",
        "4294967296",
        "4.1.2.3.0.",
        "+4",
        "1e3",
        " 1",
    ] {
        assert!(text.parse::<Cursor>().is_err(), "{text:?}");
    }
}

#[test]
fn a_journal_is_told_with_the_input_of_the_begun_record() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    assert_eq!(follower.take_records(journal("hi")), Taken::All);
    let events = drain(&mut follower);
    assert_eq!(
        names(&events),
        [
            "invocation.queued",
            "invocation.running",
            "step.recorded",
            "invocation.completed"
        ]
    );
    assert_eq!(events[2].data["input"], json!({"asked": 1}));
    assert_eq!(events[2].data["kind"], "model");
    assert_eq!(events[3].data["output"], json!({"text": "hi"}));
    assert_eq!(events[3].data["id"], json!(invocation()));
    assert!(follower.has_ended());
}

#[test]
fn a_hole_asks_for_the_feed_and_repeats_are_dropped() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    let all = journal("hi");
    follower.take_records(all[..1].to_vec());
    assert_eq!(follower.take_records(all[3..].to_vec()), Taken::Gap);
    assert_eq!(follower.read(), 1);
    follower.take_records(all.clone());
    follower.take_records(all);
    assert_eq!(names(&drain(&mut follower)).len(), 4);
}

#[test]
fn a_resume_tells_only_what_the_reader_lacks() {
    let mut follower = Follower::new(invocation(), Cursor { seq: 3, inside: None });
    follower.take_records(journal("hi"));
    let events = drain(&mut follower);
    assert_eq!(names(&events), ["step.recorded", "invocation.completed"]);
    assert_eq!(
        events[0].data["input"],
        json!({"asked": 1}),
        "read from a record that was told before"
    );
}

#[test]
fn a_new_attempt_voids_the_text() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    follower.take_chunk(&chunk(1, 0, "wrong"));
    follower.take_chunk(&chunk(2, 0, ""));
    follower.take_chunk(&chunk(1, 5, " still"));
    follower.take_chunk(&chunk(2, 0, "right"));
    let events = drain(&mut follower);
    assert_eq!(names(&events), ["token", "reset", "token"]);
    assert_eq!(events[1].data, json!({"step": 1, "attempt": 2}));
    assert_eq!(shown(&events), "right");
}

#[test]
fn lost_text_is_told_from_the_record() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    follower.take_chunk(&chunk(1, 0, "one "));
    follower.take_chunk(&chunk(1, 8, "three"));
    follower.take_records(journal("one two three"));
    follower.take_chunk(&chunk(1, 13, " late"));
    let events = drain(&mut follower);
    assert_eq!(shown(&events), "one two three");
    let step = events.iter().position(|event| event.name == "step.recorded").unwrap();
    let last_token = events.iter().rposition(|event| event.name == "token").unwrap();
    assert!(last_token < step, "the text is complete before its record is told");
}

#[test]
fn a_hole_in_the_text_is_said_and_filled_by_what_is_read_back() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    assert_eq!(follower.take_chunk(&chunk(1, 8, "three")), Taken::Gap);
    for piece in [chunk(1, 0, "one "), chunk(1, 4, "two "), chunk(1, 8, "three")] {
        assert_eq!(follower.take_chunk(&piece), Taken::All);
    }
    follower.take_chunk(&chunk(1, 8, "three"));
    assert_eq!(shown(&drain(&mut follower)), "one two three");
}

#[test]
fn a_resume_inside_a_finished_step_gets_the_rest_or_starts_over() {
    let inside = |attempt, offset| Cursor {
        seq: 3,
        inside: Some(Place {
            step: 1,
            epoch: 1,
            attempt,
            block: 0,
            offset,
        }),
    };
    let mut follower = Follower::new(invocation(), inside(1, 4));
    follower.take_records(journal("one two"));
    let events = drain(&mut follower);
    assert_eq!(names(&events), ["token", "step.recorded", "invocation.completed"]);
    assert_eq!(events[0].data["text"], "two");

    for stale in [inside(9, 4), inside(1, 400)] {
        let mut follower = Follower::new(invocation(), stale);
        follower.take_records(journal("one two"));
        let events = drain(&mut follower);
        assert_eq!(names(&events)[..3], ["reset", "token", "step.recorded"], "{stale}");
        assert_eq!(shown(&events), "one two");
    }
}

proptest! {
    /// Chunks of any sizes, some lost, some repeated, cut off anywhere and resumed with the last event's id:
    /// the reader ends with the whole text and every record once.
    #[test]
    fn a_cut_anywhere_loses_nothing_and_repeats_nothing(
        pieces in prop::collection::vec("[a-zäß☃]{1,6}", 1..12),
        lost in prop::collection::vec(prop::bool::weighted(0.2), 12),
        cut in 0_usize..24,
    ) {
        let whole: String = pieces.concat();
        let all = journal(&whole);
        let mut offset = 0;
        let chunks: Vec<TokenChunk> = pieces.iter().map(|piece| {
            let made = chunk(1, offset, piece);
            offset += piece.len() as u64;
            made
        }).collect();
        let run = |cursor: Cursor, keep: &dyn Fn(usize) -> bool| {
            let mut follower = Follower::new(invocation(), cursor);
            follower.take_records(all[..3].to_vec());
            for (at, chunk) in chunks.iter().enumerate().filter(|(at, _)| keep(*at)) {
                follower.take_chunk(chunk);
                if at % 3 == 0 { follower.take_chunk(chunk); }
            }
            follower.take_records(all.clone());
            drain(&mut follower)
        };
        let mut told = run(Cursor::default(), &|at| !lost[at]);
        told.truncate(cut.max(1));
        let cursor = told.last().unwrap().cursor;
        told.extend(run(cursor, &|at| !lost[11 - at]));
        // A reader that saw no text at all has it in the record.
        if told.iter().any(|event| event.name == "token") {
            prop_assert_eq!(shown(&told), whole);
        }
        let recorded: Vec<&str> = names(&told).into_iter().filter(|name| !matches!(*name, "token" | "reset")).collect();
        prop_assert_eq!(recorded, ["invocation.queued", "invocation.running", "step.recorded", "invocation.completed"]);
    }
}
