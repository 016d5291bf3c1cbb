//! One violation by hand for each thing that a rule must catch.

use mesh_api::journal::{Effect, StepKind};
use serde_json::json;

use super::good::{at, begun, claimed, done, first, id, invocation, record};
use crate::evidence::{Evidence, ModelCall, Takeover};

pub(super) type Harm = fn(&mut Evidence);

/// Every rule, and what it must catch.
pub(super) const HARMS: &[(&str, &str, Harm)] = &[
    ("ended_once", "is lost", |e| {
        e.journal.keys.remove("k1");
    }),
    ("ended_once", "has not ended", |e| first(e).ended = None),
    ("ended_once", "ended failed", |e| {
        first(e).ended.as_mut().unwrap().outcome = "failed".into()
    }),
    ("ended_once", "has 2 ends", |e| {
        let end = first(e).records[5].clone();
        first(e).records.push(end);
    }),
    ("ended_once", "not its last record", |e| first(e).records.swap(4, 5)),
    ("nothing_open", "still open", |e| {
        e.journal.open.push((id(1), "running".into()))
    }),
    ("nothing_open", "nobody took", |e| e.journal.mail = 1),
    ("journal_whole", "stands at place", |e| drop(first(e).records.remove(2))),
    ("journal_whole", "times accepted", |e| {
        record(e, 2).kind = "accepted".into()
    }),
    ("journal_whole", "cannot be read", |e| record(e, 3).fact = None),
    ("epochs_rise", "has epoch 1 after 4", |e| record(e, 3).epoch = 4),
    ("epochs_rise", "did not raise", |e| {
        let entry = record(e, 3);
        (entry.kind, entry.fact) = ("claimed".into(), Some(claimed()));
    }),
    ("takeover_raises_epoch", "with epoch 1 after 1", |e| {
        let again = e.journal.takeovers[0].clone();
        e.journal.takeovers.push(Takeover {
            epoch_before: 1,
            ..again
        });
    }),
    ("takeover_raises_epoch", "noted 0", |e| e.journal.takeovers.clear()),
    ("steps_done_once", "done twice", |e| {
        record(e, 5).fact = Some(done(1, StepKind::Model, "gpt-4", Effect::Idempotent, json!(1)));
    }),
    ("steps_done_once", "never settled", |e| {
        record(e, 5).fact = Some(begun(3))
    }),
    ("steps_done_once", "no input anywhere", |e| {
        record(e, 4).fact = Some(claimed())
    }),
    ("steps_done_once", "is nowhere", |e| {
        record(e, 3).fact = Some(done(9, StepKind::Noop, "noop", Effect::Pure, json!(1)));
    }),
    ("delay_kept", "50 ms before", |e| e.asked[0].delay_ms = 200),
    ("feed_whole", "stands where", |e| {
        e.journal.shards[0].fed.remove(3);
    }),
    ("feed_whole", "the shard counts", |e| e.journal.shards[0].batch = 13),
    ("feed_whole", "relayed up to", |e| {
        e.journal.shards[0].relayed_batch = 11
    }),
    ("feed_whole", "0 times in the feed", |e| record(e, 3).places.clear()),
    ("feed_whole", "before its predecessor", |e| {
        record(e, 3).places = vec![(1, 0)]
    }),
    ("summary_tells_the_end", "its list entry", |e| {
        first(e).summary = Some("running".into())
    }),
    ("one_invocation_a_key", "is 2 invocations", |e| {
        let copy = invocation("k1", None, 20);
        e.journal.invocations.insert(id(9), copy);
    }),
    ("one_invocation_a_key", "nobody asked", |e| {
        first(e).key = Some("another".into())
    }),
    ("one_invocation_a_key", "2 ids", |e| e.asked[0].ids[1] = id(2)),
    ("one_invocation_a_key", "and is", |e| e.asked[0].ids = vec![id(7)]),
    ("nothing_refused", "422", |e| e.asked[0].refused = Some("422".into())),
    ("replied_once", "2 replies", |e| {
        e.journal.replies_by_channel.insert("channel-k1".into(), 2);
    }),
    ("result_sent", "never sent", |e| drop(e.replies.remove("k1"))),
    ("result_sent", "the result says", |e| {
        drop(e.replies.insert("k1".into(), vec![json!({"state": "failed"})]))
    }),
    ("poison_buried", "0 dead letters", |e| e.journal.dead_messages.clear()),
    ("poison_buried", "2 dead letters", |e| {
        e.journal.dead_messages.push("poison-1".into())
    }),
    ("saw_the_journal", "twice", |e| {
        let again = e.followed[0].events[6].clone();
        e.followed[0].events.push(again);
    }),
    ("saw_the_journal", "never told", |e| {
        drop(e.followed[0].events.remove(7))
    }),
    ("saw_the_journal", "after 6", |e| e.followed[0].events.swap(7, 8)),
    ("saw_the_journal", "output", |e| {
        let told = &mut e.followed[0].events[7];
        told.data["output"] = json!({"result": 2});
        told.raw = told.data.to_string()
    }),
    ("text_is_its_tokens", "tokens say", |e| {
        drop(e.followed[0].events.remove(4))
    }),
    ("text_is_its_tokens", "tokens say", |e| {
        drop(e.followed[0].events.remove(3))
    }),
    ("at_most_once", "2 effects of one key", |e| {
        let again = e.ledger[0].clone();
        e.ledger.push(again);
    }),
    ("at_most_once", "2 effects of one operation", |e| {
        e.ledger[1].op = e.ledger[0].op.clone()
    }),
    ("begun_before_effect", "no record says", |e| {
        record(e, 4).fact = Some(claimed())
    }),
    ("begun_before_effect", "never begun", |e| {
        record(e, 4).fact = Some(claimed())
    }),
    ("begun_before_effect", "came before", |e| e.ledger[0].at = at(390)),
    ("begun_before_effect", "in the batch of its result", |e| {
        record(e, 5).places = vec![(4, 1)];
    }),
    ("one_key_an_effect", "under 2 keys", |e| {
        e.ledger[1].op = e.ledger[0].op.clone()
    }),
    ("one_key_an_effect", "no key of a step", |e| {
        e.model[0].key = "k1/1".into()
    }),
    ("effect_happened", "knows nothing", |e| drop(e.ledger.remove(0))),
    ("recorded_not_repeated", "ran again", |e| {
        let late = ModelCall {
            at: at(700),
            ..e.model[0].clone()
        };
        e.model.push(late);
    }),
    ("usage_as_answered", "the model answered", |e| {
        e.model[0].answered = Some((10, 6))
    }),
    ("usage_as_answered", "its end says", |e| {
        first(e).ended.as_mut().unwrap().usage.input_tokens = 20;
    }),
    ("task_created_once", "there is none", |e| {
        record(e, 3).fact = Some(done(1, StepKind::Tool, "create_task", Effect::Idempotent, json!(1)));
    }),
    ("remembered_once", "2 memories", |e| {
        e.journal.memories.insert(id(1), 2);
    }),
    ("remembered_once", "no memory is of it", |e| {
        record(e, 3).fact = Some(done(1, StepKind::MemoryStore, "", Effect::Idempotent, json!(1)));
    }),
    ("session_in_order", "ran before it", |e| {
        record(e, 2).places = vec![(30, 0)]
    }),
    ("session_one_at_a_time", "had ended", |e| {
        record(e, 6).places = vec![(9, 0)]
    }),
];
