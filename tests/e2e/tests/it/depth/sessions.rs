//! Sessions: one at a time, in order of acceptance, over all workers; and what becomes of a message that comes while
//! another is worked on.

use std::process::Child;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::outside::by_number;
use super::{Entry, Field, llm, text, with};
use crate::harness::{Http, items, unique, until};

const MESSAGES: u64 = 1_000;
const SENDERS: u64 = 10;
const OWNERS: &str = "SELECT count(DISTINCT owner) FROM execution.shard WHERE owner <> ''";

/// More execution processes beside that of `mesh up`; killed when dropped.
struct Processes {
    children: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Processes {
    async fn start(field: &Field, count: usize) -> Self {
        let state = field.mesh.state();
        let folder = tempfile::tempdir().expect("a folder");
        let children = (0..count).map(|number| {
            let instance = format!("execution-{number}");
            let environment = [
                ("MESH_NATS_URL", state.nats.as_str()),
                (
                    "MESH_NATS_MONITOR_URL",
                    state.monitor.as_deref().expect("it started NATS itself"),
                ),
                ("MESH_DATABASE_URL", &state.database),
                ("MESH_EXECUTION__INSTANCE", &instance),
                ("MESH_EXECUTION__TOOLS__PRIVATE_NETWORKS", r#"["loopback"]"#),
            ];
            let log = folder.path().join(&instance);
            field.mesh.launch.spawn(&["serve", "execution"], &environment, &log)
        });
        let processes = Self {
            children: children.collect(),
            folder,
        };
        let pool = field.mesh.database().await;
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let owners: i64 = sqlx::query_scalar(OWNERS).fetch_one(&pool).await.unwrap();
            if owners > count as i64 {
                return processes;
            }
            assert!(
                Instant::now() < end,
                "they take no share of the shards:\n{}",
                processes.last_words()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Why one of them ended, or what all of them log.
    fn last_words(&self) -> String {
        let mut words = String::new();
        for entry in std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            words.push_str(&format!("{:?}:\n{text}\n", entry.file_name()));
        }
        words
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// When a message was sent, and when its acceptance was known.
#[derive(Debug, Clone, Copy)]
struct Sent {
    number: u64,
    from: Instant,
    to: Instant,
}

async fn send(http: &Http, agent: &str, session: &str, sender: u64, sent: &Mutex<Vec<Sent>>) {
    for number in (0..MESSAGES).filter(|number| number % SENDERS == sender) {
        let body = json!({"session": session, "idempotency_key": format!("{session}-{number}"),
            "payload": {"number": number, "delay_ms": number % 3}});
        let from = Instant::now();
        until(60, "the message is accepted", || async {
            let answer = http.invoke(agent, "", &body).await;
            // While its owner is dead nobody can say; the key makes it one.
            assert!([202, 503, 504].contains(&answer.status), "{}", answer.text);
            (answer.status == 202).then_some(())
        })
        .await;
        let to = Instant::now();
        sent.lock().unwrap().push(Sent { number, from, to });
    }
}

/// A session whose shard belongs to that process; one message of it has been worked on.
async fn session_of(field: &Field, agent: &str, owner: &str) -> String {
    let pool = field.mesh.database().await;
    let owned =
        "SELECT s.owner FROM execution.invocation i JOIN execution.shard s ON s.id = i.shard WHERE i.session = $1";
    until(30, &format!("a session is of {owner}"), || async {
        let session = unique("session");
        let body = json!({"session": session, "payload": {"number": MESSAGES}});
        field.http().invoke(agent, "?wait=20", &body).await.expect(200);
        let of: String = sqlx::query_scalar(owned).bind(&session).fetch_one(&pool).await.unwrap();
        (of == owner).then_some(session)
    })
    .await
}

#[tokio::test]
async fn a_session_of_1000_messages_from_10_senders_over_3_processes_runs_in_order_though_its_owner_is_killed() {
    let field = Field::up().await;
    let mut processes = Processes::start(&field, 2).await;
    let place = unique("ledger");
    let spec = json!({"runtime": "http",
        "http": {"url": field.outside.url(&format!("tool/{place}")), "effect": "idempotent"}});
    let agent = field.agent("ledger", spec).await;
    let session = session_of(&field, &agent, "execution-0").await;
    let (http, sent) = (field.http(), Mutex::new(Vec::new()));
    let senders = (0..SENDERS).map(|sender| send(&http, &agent, &session, sender, &sent));
    let of_session = || {
        let mut entries = field.outside.entries(&place);
        // Without the message that found the session; a hand-over of shards at the start may repeat its call.
        entries.retain(|entry| entry.body["session"] == json!(session));
        entries.retain(|entry| entry.body["payload"]["number"] != json!(MESSAGES));
        entries
    };
    let killed = async {
        until(180, "a third of it is done", || async {
            (of_session().len() as u64 > MESSAGES / 3).then_some(())
        })
        .await;
        processes.children[0].kill().expect("it lives");
    };
    tokio::join!(futures::future::join_all(senders), killed);
    let path = format!("/api/v1/invocations/counts?agent={agent}&session={session}");
    until(240, "all have ended", || async {
        (http.get(&path).await["completed"] == MESSAGES + 1).then_some(())
    })
    .await;
    check_order(&of_session(), &sent.into_inner().unwrap());
}

fn check_order(entries: &[Entry], sent: &[Sent]) {
    let numbers = by_number(entries);
    assert_eq!(numbers.len() as u64, MESSAGES);
    let again: Vec<_> = numbers.values().filter(|entries| entries.len() > 1).collect();
    // What was in flight at the kill runs again, and once more where its shard is handed on to a neighbour meanwhile: an
    // effect without a record is repeated, always under its key.
    let is_one_key = |entries: &[&Entry]| entries.iter().all(|entry| entry.key == entries[0].key);
    assert!(
        again.len() <= 1 && again.iter().all(|entries| entries.len() <= 3 && is_one_key(entries)),
        "one was in flight at the kill: {again:?}"
    );
    assert!(
        again.iter().all(|entries| entries[0].key == entries[1].key),
        "{again:?}"
    );
    for pair in entries.windows(2) {
        let over = pair[0].ended.or(pair[0].dropped);
        assert!(
            over.is_some_and(|over| over <= pair[1].started),
            "two at a time: {pair:?}"
        );
    }
    let of = |number: u64| sent.iter().find(|sent| sent.number == number).expect("it was sent");
    let order = entries
        .iter()
        .map(|entry| of(entry.body["payload"]["number"].as_u64().unwrap()));
    let order: Vec<&Sent> = order.collect();
    // Whoever was accepted before another was even sent goes first.
    let mut earliest_after: Option<Instant> = None;
    for one in order.iter().rev() {
        assert!(earliest_after.is_none_or(|to| one.from <= to), "out of order: {one:?}");
        earliest_after = Some(earliest_after.map_or(one.to, |to| to.min(one.to)));
    }
}

/// An agent of that policy whose first message hangs about for a while.
async fn busy(field: &Field, policy: &str) -> (String, String) {
    let place = unique(policy);
    let tool = field.http_tool("work", &place, json!({"effect": "idempotent"}));
    let spec = with(
        llm("mock:script:tools", json!([tool])),
        json!({"session": {"policy": policy}}),
    );
    (field.agent(policy, spec).await, place)
}

fn message(delay_ms: u64) -> Value {
    json!({"session": "s", "payload": {"text": json!({"delay_ms": delay_ms}).to_string()}})
}

#[tokio::test]
async fn a_message_for_a_busy_session_is_rejected_where_the_agent_says_so() {
    let field = Field::shared().await;
    let (agent, place) = busy(field, "reject").await;
    let first = field.start(&agent, &message(5_000)).await;
    let refused = field.http().invoke(&agent, "", &message(0)).await;
    assert_eq!(
        (refused.status, &refused.body["type"]),
        (409, &json!("execution/session-busy")),
        "{}",
        refused.text
    );
    let other = with(message(0), json!({"session": "another"}));
    field.http().invoke(&agent, "?wait=20", &other).await.expect(200);
    text(&field.http().until_ended(&first).await);
    field.http().invoke(&agent, "?wait=20", &message(0)).await.expect(200);
    assert_eq!(field.outside.entries(&place).len(), 3);
}

#[tokio::test]
async fn a_message_interrupts_its_session_where_the_agent_says_so() {
    let field = Field::shared().await;
    let (agent, place) = busy(field, "interrupt").await;
    let first = field.start(&agent, &message(300_000)).await;
    until(30, "the first runs", || async { field.outside.entries(&place).pop() }).await;
    // It does not wait for the first.
    let second = field.http().invoke(&agent, "?wait=25", &message(0)).await.expect(200);
    text(&second);
    let interrupted = field.http().until_ended(&first).await;
    assert_eq!(interrupted["state"], "cancelled", "{interrupted}");
    assert!(
        interrupted["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("interrupt")),
        "{interrupted}"
    );
    assert!(field.outside.entries(&place)[0].dropped.is_some(), "its call was cut");
}

#[tokio::test]
async fn messages_merge_into_one_that_has_not_begun_where_the_agent_says_so() {
    let field = Field::shared().await;
    let spec = with(
        llm("mock:script:words", json!([])),
        json!({"session": {"policy": "merge"}}),
    );
    let agent = field.agent("merging", spec).await;
    let message = |text: &str| json!({"session": "s", "payload": {"text": text}});
    let first = field.start(&agent, &message("first")).await;
    let second = field.start(&agent, &message("second")).await;
    let third = field
        .http()
        .invoke(&agent, "?wait=20", &message("third"))
        .await
        .expect(200);
    assert_eq!(
        (&third["state"], &third["reason"]),
        (&json!("completed"), &json!("merged")),
        "{third}"
    );
    assert_eq!(third["output"]["merged_into"], json!(second), "{third}");
    for id in [&first, &second] {
        text(&field.http().until_ended(id).await);
    }
    let steps = field.http().steps(&second).await;
    let asked = steps[0]["input"].to_string();
    assert!(
        asked.contains("second") && asked.contains("third") && !asked.contains("first"),
        "{asked}"
    );
    let of_session = field
        .http()
        .get(&format!("/api/v1/invocations?agent={agent}&session=s"))
        .await;
    assert_eq!(items(&of_session).len(), 3);
}
