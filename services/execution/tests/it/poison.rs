//! Messages that can never be run: each becomes a dead letter with its reason, and the next good one runs.

use mesh_api::PageQuery;
use mesh_api::execution::{
    DeadLetter, DeadLetterDiscard, DeadLetterGet, DeadLetterList, DeadLetterListRequest, DeadLetterRequest,
};
use mesh_bus::Headers;
use mesh_testkit::wait_until;
use mesh_types::Code;
use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;
use serde_json::json;

use crate::mesh::{Mesh, SOON};

const INVOKE: &str = "mesh.invoke.default.noop";
const ROUTER: &str = "router.invoke.agent";

/// Subject, body, type of the reason, a word of its text.
fn poison() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let (malformed, invalid, name) = ("mesh/malformed-json", "mesh/invalid-request", "mesh/invalid-name");
    let text = |text: &str| text.as_bytes().to_vec();
    let mut large = text(r#"{"payload":""#);
    large.resize(1024 * 1024 + 1 - 2, b'x');
    large.extend(b"\"}");
    vec![
        (INVOKE, text("{"), malformed, "EOF"),
        (INVOKE, text("hello"), malformed, "expected"),
        (INVOKE, text(r#"{"payload":{"a":1,"a":2}}"#), malformed, "stands twice"),
        (INVOKE, text(r#"{"payload":"\ud800"}"#), malformed, "hex escape"),
        (INVOKE, b"{\"payload\":\"\xff\"}".to_vec(), malformed, "UTF-8"),
        (INVOKE, large, "mesh/body-too-large", "1048577 bytes"),
        (
            INVOKE,
            format!(r#"{{"payload":{}{}}}"#, "[".repeat(80), "]".repeat(80)).into_bytes(),
            malformed,
            "nested deeper",
        ),
        (
            INVOKE,
            text(r#"{"payload":123456789012345678901234567890}"#),
            malformed,
            "64 bits",
        ),
        (INVOKE, text(r#"{"payload":1e999}"#), malformed, "range"),
        (INVOKE, text(r#"{"priority":-1}"#), invalid, "-1"),
        (INVOKE, text(r#"{"priority":10}"#), invalid, "0 and 9"),
        (INVOKE, text(r#"{"delay_ms":18446744073709551615}"#), invalid, "a year"),
        (INVOKE, text(r#"{"deadline_ms":"soon"}"#), invalid, "u64"),
        (INVOKE, text(r#"{"colour":"red"}"#), invalid, "unknown field `colour`"),
        (INVOKE, text(r#"{"idempotency_key":"a\u0000b"}"#), invalid, "U+0000"),
        (
            INVOKE,
            text(r#"{"invocation_id":"inv_nonsense"}"#),
            invalid,
            "inv_nonsense",
        ),
        (
            INVOKE,
            text(r#"{"reply_to":"$JS.API.STREAM.DELETE.INVOCATIONS"}"#),
            invalid,
            "reply_to",
        ),
        (INVOKE, text("[]"), invalid, "JSON object"),
        (
            "mesh.invoke.default.stranger",
            text("{}"),
            "registry/agent-not-found",
            "stranger",
        ),
        ("mesh.invoke.default.agent:noop", text("{}"), name, "no subject"),
        ("mesh.invoke.def!ault.noop", text("{}"), name, "def!ault"),
        ("mesh.invoke.default.*", text("{}"), name, "*"),
        ("mesh.invoke.>.noop", text("{}"), name, ">"),
        (ROUTER, text("{}"), invalid, "agent_id"),
        (ROUTER, text(r#"{"agent_id":"a b"}"#), name, "a b"),
        (
            ROUTER,
            text(r#"{"agent_id":"noop","payload":{"microdao_id":7}}"#),
            invalid,
            "microdao_id",
        ),
    ]
}

async fn dead_letters(mesh: &Mesh, all: bool) -> Vec<DeadLetter> {
    let request = DeadLetterListRequest {
        page: PageQuery {
            limit: Some(100),
            after: None,
        },
        all,
    };
    mesh.ask::<DeadLetterList>(request).await.unwrap().items
}

#[tokio::test]
async fn each_poison_message_is_a_dead_letter_with_its_reason_and_the_next_good_one_runs() {
    let (mesh, _process) = Mesh::start().await;
    let mut buried = mesh.bus.subscribe(&Filter::Dead).await.unwrap();
    let events = Filter::EventsAbout("dead-letter".parse().unwrap());
    let mut told = mesh.bus.subscribe(&events).await.unwrap();
    mesh.bus.flush().await.unwrap();
    for (n, (subject, body, kind, word)) in poison().into_iter().enumerate() {
        mesh.publish_raw(subject, body.clone()).await;
        mesh.publish_raw(INVOKE, "{}").await;
        mesh.all_ended(i64::try_from(n).unwrap() + 1).await;
        wait_until(SOON, || async { dead_letters(&mesh, false).await.len() == n + 1 }).await;
        let newest = dead_letters(&mesh, false)
            .await
            .into_iter()
            .max_by_key(|dead| dead.id)
            .unwrap();
        assert!(
            newest.message.is_none_or(|message| message.len() <= 4_096),
            "lists stay short"
        );
        let dead = mesh
            .ask::<DeadLetterGet>(DeadLetterRequest { id: newest.id })
            .await
            .unwrap();
        assert_eq!(dead.reason.kind, kind, "{subject} {word}: {dead:?}");
        assert!(dead.reason.detail.contains(word), "{word}: {}", dead.reason.detail);
        assert_eq!(
            (dead.origin.as_str(), dead.subject.as_deref()),
            ("intake", Some(subject))
        );
        match std::str::from_utf8(&body) {
            Ok(text) => assert_eq!(dead.message.as_deref(), Some(text)),
            Err(_) => assert!(dead.message.unwrap().starts_with("hex:")),
        }
        let message = tokio::time::timeout(SOON, buried.next()).await.unwrap().unwrap();
        assert_eq!(message.headers.get(Headers::MESH_DEAD_SUBJECT), Some(subject));
        assert!(message.headers.get(Headers::MESH_DEAD_REASON).unwrap().contains(kind));
        let event = tokio::time::timeout(SOON, told.next()).await.unwrap().unwrap();
        let event: Event = serde_json::from_slice(&event.payload).unwrap();
        let (dead_letter, reason) = (newest.id, kind.to_owned());
        assert_eq!(event.fact, Fact::DeadLetterAdded { dead_letter, reason });
    }
    mesh.check().await;
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken_and_all_that_json_can_say_comes_back() {
    let (mesh, _process) = Mesh::start().await;
    let mut body = br#"{"payload":""#.to_vec();
    body.resize(1024 * 1024 - 2, b'x');
    body.extend(b"\"}");
    assert_eq!(body.len(), 1024 * 1024);
    mesh.publish_raw(INVOKE, body).await;
    mesh.all_ended(1).await;
    let odd = json!({"nul": "a\u{0}b", "big": u64::MAX, "least": i64::MIN, "small": 1e-300, "text": "ї🦀"});
    let answer = mesh.call("noop", &json!({"payload": odd}).to_string()).await;
    assert_eq!(
        (answer["state"].as_str(), &answer["payload"]),
        (Some("completed"), &odd),
        "{answer}"
    );
    mesh.check().await;
}

#[tokio::test]
async fn a_dead_letter_is_settled_once_and_only_in_its_tenant() {
    let (mesh, _process) = Mesh::start().await;
    mesh.publish_raw(INVOKE, "{").await;
    wait_until(SOON, || async { dead_letters(&mesh, false).await.len() == 1 }).await;
    let id = dead_letters(&mesh, false).await[0].id;
    let request = || DeadLetterRequest { id };
    let foreign = mesh.ask_as::<DeadLetterDiscard>("other", request()).await.unwrap_err();
    assert!(foreign.is(Code::DeadLetterNotFound));
    let settled = mesh.ask::<DeadLetterDiscard>(request()).await.unwrap();
    assert_eq!(settled.settled.as_deref(), Some("discarded"));
    let again = mesh.ask::<DeadLetterDiscard>(request()).await.unwrap_err();
    assert!(again.is(Code::DeadLetterSettled));
    assert_eq!(
        (
            dead_letters(&mesh, false).await.len(),
            dead_letters(&mesh, true).await.len()
        ),
        (0, 1)
    );
}
