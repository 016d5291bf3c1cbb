//! Posting: once per id, nothing lost, nothing changed.

use mesh_testkit::deliver_twice;
use mesh_types::Code;
use serde_json::json;

use crate::setup::Mesh;

#[tokio::test]
async fn a_message_comes_back_as_it_was_posted() {
    let mesh = Mesh::start().await;
    let with = json!({
        "author": {"kind": "agent", "id": "sofia"},
        "content": [{"type": "text", "text": "nul \u{0}"}, {"type": "hologram", "x": [1, 2.5, null]}],
        "metadata": {"matrix_event_id": "$e:s", "nul": "\u{0}", "pi": std::f64::consts::PI},
    });
    let posted = mesh.post("Привіт 👋 \u{1} \\u0000", with.clone()).await.unwrap();
    assert!(
        posted.id.as_str().starts_with("msg_") && posted.id.as_str().len() == 30,
        "{}",
        posted.id
    );
    let history = mesh.history("general", 50, None).await.unwrap();
    assert_eq!(history.items, std::slice::from_ref(&posted));
    assert_eq!(serde_json::to_value(&posted.content).unwrap(), with["content"]);
    assert_eq!(serde_json::to_value(&posted.metadata).unwrap(), with["metadata"]);
}

#[tokio::test]
async fn a_repeated_post_is_answered_as_the_first_time() {
    let mesh = Mesh::start().await;
    let with = json!({"id": "7c72d497-27aa-4e75-bb2f-4a4a21d4f91f", "metadata": {"a": [0.1, {"b": 1}]}});
    let (first, second) = deliver_twice("hello", |text| mesh.post(text, with.clone())).await;
    assert_eq!(first.unwrap(), second.unwrap());
    let at_once = futures::future::join_all((0..16).map(|_| mesh.post("once", json!({"id": "m-1"})))).await;
    let first = at_once[0].clone().unwrap();
    assert!(at_once.iter().all(|one| one.as_ref() == Ok(&first)), "{at_once:?}");
    assert_eq!(mesh.texts().await, ["hello", "once"]);
}

#[tokio::test]
async fn another_body_under_the_same_id_is_a_conflict() {
    let mesh = Mesh::start().await;
    mesh.post("hello", json!({"id": "m"})).await.unwrap();
    let others = [
        ("other", json!({"id": "m"})),
        ("hello", json!({"id": "m", "author": {"kind": "agent", "id": "ann"}})),
        ("hello", json!({"id": "m", "metadata": {"a": 1}})),
        ("hello", json!({"id": "m", "content": "hello"})),
    ];
    for (text, with) in others {
        let problem = mesh.post(text, with).await.unwrap_err();
        assert!(
            problem.is(Code::MessageConflict) && problem.status == 409,
            "{problem:?}"
        );
    }
    assert_eq!(mesh.texts().await, ["hello"]);
    // Another channel, another message.
    mesh.post("other", json!({"id": "m", "channel": "second"}))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_text_that_postgres_cannot_hold_is_refused_and_the_next_is_taken() {
    let mesh = Mesh::start().await;
    for (text, with, field) in [
        ("a\0b", json!({}), "text"),
        ("\0", json!({}), "text"),
        ("x", json!({"author": {"kind": "user", "id": "\0"}}), "author.id"),
        ("x", json!({"author": {"kind": "user", "id": ""}}), "author.id"),
    ] {
        let problem = mesh.post(text, with).await.unwrap_err();
        assert_eq!(
            (problem.status, problem.field.as_deref()),
            (400, Some(field)),
            "{problem:?}"
        );
    }
    mesh.post("good", json!({})).await.unwrap();
    assert_eq!(mesh.texts().await, ["good"]);
}

#[tokio::test]
async fn a_message_has_a_largest_size() {
    let mesh = Mesh::start().await;
    let mebibyte = 1024 * 1024;
    mesh.post(&"x".repeat(mebibyte), json!({})).await.unwrap();
    let problem = mesh
        .post(&"x".repeat(mebibyte + mebibyte / 8), json!({}))
        .await
        .unwrap_err();
    assert_eq!(problem.status, 413, "{problem:?}");
}
