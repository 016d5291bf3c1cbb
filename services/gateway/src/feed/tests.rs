//! Tests of following an invocation: nothing lost, nothing twice, whatever is repeated, lost or cut off.

use mesh_api::journal::*;
use mesh_types::{Id, Problem, Timestamp};

use super::*;

mod scripted;

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
    for text in ["0", "17", "4.1.2.3.0.99", "4-2", "4-1.1.2.3.0.99.7.2.1.0.5"] {
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
        "4-0",
        "4-",
        "4-01",
        "4.1.2.3.0.99.1.2.1.0.5",
        "4.7.2.3.0.99.1.2.1.0.5",
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
            "token",
            "step.recorded",
            "invocation.completed"
        ]
    );
    assert_eq!(events[2].data, json!({"text": "hi", "step": 1, "attempt": 1}));
    assert_eq!(events[3].data["input"], json!({"asked": 1}));
    assert_eq!(events[3].data["kind"], "model");
    assert_eq!(events[4].data["output"], json!({"text": "hi"}));
    assert_eq!(events[4].data["id"], json!(invocation()));
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
    assert_eq!(names(&drain(&mut follower)).len(), 5);
}

#[test]
fn a_resume_tells_only_what_the_reader_lacks() {
    let mut follower = Follower::new(invocation(), "3.1.1.1.0.2".parse().unwrap());
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
        part: 0,
        inside: vec![Place {
            step: 1,
            epoch: 1,
            attempt,
            block: 0,
            offset,
        }],
    };
    let mut follower = Follower::new(invocation(), inside(1, 4));
    follower.take_records(journal("one two"));
    let events = drain(&mut follower);
    assert_eq!(names(&events), ["token", "step.recorded", "invocation.completed"]);
    assert_eq!(events[0].data["text"], "two");

    for stale in [inside(9, 4), inside(1, 400)] {
        let shown_cursor = stale.to_string();
        let mut follower = Follower::new(invocation(), stale);
        follower.take_records(journal("one two"));
        let events = drain(&mut follower);
        assert_eq!(
            names(&events)[..3],
            ["reset", "token", "step.recorded"],
            "{shown_cursor}"
        );
        assert_eq!(shown(&events), "one two");
    }
}

#[test]
fn a_record_in_the_middle_of_a_text_keeps_the_place_in_it() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    let all = journal("one two");
    follower.take_records(all[..3].to_vec());
    follower.take_chunk(&chunk(1, 0, "one "));
    let paused = Paused {
        actor: "ann".into(),
        reason: None,
    };
    follower.take_records(vec![record(4, 1, Fact::Paused(paused))]);
    let events = drain(&mut follower);
    let last = events.last().unwrap();
    assert_eq!(
        (last.name, last.cursor.to_string().as_str()),
        ("invocation.paused", "4.1.1.1.0.4")
    );
    assert_eq!((&last.data["paused"], &last.data["by"]), (&json!(true), &json!("ann")));
}

#[test]
fn two_texts_at_once_have_two_places() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    follower.take_chunk(&chunk(1, 0, "one"));
    let other = TokenChunk {
        step: 2,
        ..chunk(1, 0, "other")
    };
    follower.take_chunk(&other);
    let cursor = drain(&mut follower).last().unwrap().cursor.clone();
    assert_eq!(cursor.to_string(), "0.1.1.1.0.3.2.1.1.0.5");
    let mut resumed = Follower::new(invocation(), cursor);
    resumed.take_chunk(&chunk(1, 0, "one two"));
    resumed.take_chunk(&other);
    let events = drain(&mut resumed);
    assert_eq!((events.len(), &events[0].data["text"]), (1, &json!(" two")));
}

#[test]
fn a_step_that_failed_voids_its_text() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    follower.take_chunk(&chunk(1, 0, "half an ans"));
    let mut all = journal("");
    if let Fact::Done(done) = &mut all[3].fact {
        done.output = None;
        done.error = Some(Problem::new(mesh_types::Code::ModelFailed, "gone"));
    }
    follower.take_records(all);
    let events = drain(&mut follower);
    assert_eq!(names(&events)[3..], ["reset", "step.recorded", "invocation.completed"]);
}

#[test]
fn text_of_a_claim_that_was_lost_is_not_told() {
    let mut follower = Follower::new(invocation(), Cursor::default());
    let mut all = journal("hi");
    all[1].epoch = 2;
    follower.take_records(all[..3].to_vec());
    follower.take_chunk(&chunk(1, 0, "from a frozen worker"));
    assert_eq!(
        names(&drain(&mut follower)),
        ["invocation.queued", "invocation.running"]
    );
}

#[test]
fn a_person_is_asked_once_by_each_request_and_a_cut_between_its_events_loses_none() {
    let wait = |items: &[u32]| {
        let on = WaitOn::Approval { tool: "refund".into() };
        let items = items.iter().map(|step| WaitItem {
            step: *step,
            on: on.clone(),
        });
        Fact::Waiting(Waiting { items: items.collect() })
    };
    let approved = Signalled {
        key: "k".into(),
        about: About::Approval {
            step: 1,
            approved: true,
        },
        actor: "ann".into(),
        note: Some("fine".into()),
    };
    let mut all = journal("")[..3].to_vec();
    let facts = [wait(&[1, 2]), Fact::Signalled(Box::new(approved)), wait(&[2, 3])];
    all.extend((4..).zip(facts).map(|(seq, fact)| record(seq, 1, fact)));

    let mut follower = Follower::new(invocation(), Cursor::default());
    follower.take_records(all.clone());
    let events = drain(&mut follower);
    let asked = ["invocation.waiting", "approval.requested"];
    assert_eq!(names(&events)[2..5], [asked[0], asked[1], asked[1]]);
    assert_eq!(names(&events)[5..], ["approval.decided", asked[0], asked[1]]);
    let first = &events[3].data;
    assert_eq!(first["id"], json!(format!("{}-1", invocation())));
    assert_eq!(
        (&first["input"], &first["agent"]),
        (&json!({"asked": 1}), &json!("sofia"))
    );
    assert_eq!(events[5].data["decision"], "approve");
    assert_eq!(events[7].data["step"], 3, "2 was asked before");
    for cut in 1..events.len() {
        let text = events[cut - 1].cursor.to_string();
        let mut resumed = Follower::new(invocation(), text.parse().unwrap());
        resumed.take_records(all.clone());
        assert_eq!(drain(&mut resumed), events[cut..], "after {text}");
    }
}
