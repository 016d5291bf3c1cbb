//! Versions and their history, memories that replace others, scopes, pages.

use mesh_api::memory::{
    ListMemories, Memory, MemoryChange, MemoryGet, MemoryHistory, MemoryList, MemoryRequest, MemoryStore, MemoryUpdate,
    UpdateRequest,
};
use mesh_types::{Code, Id, MemoryId, Problem};
use serde_json::{Value, json};

use crate::setup::{Mesh, store};

async fn change(mesh: &Mesh, id: MemoryId, change: Value) -> Result<Memory, Problem> {
    let change: MemoryChange = serde_json::from_value(change).unwrap();
    mesh.ask::<MemoryUpdate>(UpdateRequest { id, change }).await
}

async fn list(mesh: &Mesh, request: Value) -> (Vec<String>, Option<String>) {
    let request: ListMemories = serde_json::from_value(request).unwrap();
    let page = mesh.ask::<MemoryList>(request).await.unwrap();
    (page.items.into_iter().map(|memory| memory.content).collect(), page.next)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_a_version_and_its_history_is_kept() {
    let mesh = Mesh::start().await;
    let first = mesh.store("the meeting is on Monday").await;
    let second = change(
        &mesh,
        first.id,
        json!({"content": "the meeting is on Tuesday", "version": 1}),
    )
    .await
    .unwrap();
    assert_eq!((first.version, second.version), (1, 2));
    let stale = change(&mesh, first.id, json!({"importance": 1.0, "version": 1}))
        .await
        .unwrap_err();
    assert!(
        stale.is(Code::MemoryStale) && stale.status == 412 && stale.next.is_some(),
        "{stale:?}"
    );
    let third = change(&mesh, first.id, json!({"tags": ["work"], "importance": 0.75}))
        .await
        .unwrap();
    let again = change(&mesh, first.id, json!({"tags": ["work"], "importance": 0.75}))
        .await
        .unwrap();
    assert_eq!(again, third, "sent once more, a change leaves no second version");
    let history = mesh.ask::<MemoryHistory>(MemoryRequest { id: first.id }).await.unwrap();
    assert_eq!(history.memory, third);
    let told: Vec<(u32, &str, usize, f64)> = history
        .items
        .iter()
        .map(|item| (item.version, item.content.as_str(), item.tags.len(), item.importance))
        .collect();
    assert_eq!(
        told,
        [
            (2, "the meeting is on Tuesday", 0, 0.5),
            (1, "the meeting is on Monday", 0, 0.5)
        ]
    );
    assert!(history.items.iter().all(|item| item.changed_by == "user:ann"));
    assert_eq!(history.items[1].changed_at, second.updated_at);
    let unknown = MemoryRequest {
        id: MemoryId::from_u128(9),
    };
    assert!(
        mesh.ask::<MemoryHistory>(unknown)
            .await
            .unwrap_err()
            .is(Code::MemoryNotFound)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_of_one_version_at_once_are_one() {
    let mesh = Mesh::start().await;
    let memory = mesh.store("a draft").await;
    let changes = (0..8).map(|number| {
        change(
            &mesh,
            memory.id,
            json!({"content": format!("draft {number}"), "version": 1}),
        )
    });
    let results = futures::future::join_all(changes).await;
    let done: Vec<&Memory> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(done.len(), 1);
    assert!(
        results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .all(|problem| problem.is(Code::MemoryStale))
    );
    let history = mesh
        .ask::<MemoryHistory>(MemoryRequest { id: memory.id })
        .await
        .unwrap();
    assert_eq!((history.items.len(), &history.memory), (1, done[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_is_kept_and_found_no_more() {
    let mesh = Mesh::start().await;
    let old = mesh.store("Anna lives in Kyiv").await;
    let put = |value: Value| mesh.ask::<MemoryStore>(store(value));
    let request = json!({"id": MemoryId::from_u128(2), "agent": "sofia", "content": "Anna lives in Lviv now",
        "supersedes": [old.id]});
    let new = put(request.clone()).await.unwrap();
    assert_eq!(put(request).await.unwrap(), new, "the same request twice");
    let kept = mesh.ask::<MemoryGet>(MemoryRequest { id: old.id }).await.unwrap();
    assert_eq!((kept.superseded_by, kept.content), (Some(new.id), old.content));
    let pool = mesh.database.pool().await;
    let vectors: i64 = sqlx::query_scalar("SELECT count(*) FROM memory.memory_vector_384")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(vectors, 1, "only the new one is near to anything");
    assert_eq!(list(&mesh, json!({})).await.0, ["Anna lives in Lviv now"]);
    assert_eq!(list(&mesh, json!({"superseded": true})).await.0.len(), 2);
    let stale = change(&mesh, old.id, json!({"importance": 0.1})).await.unwrap_err();
    assert!(stale.is(Code::MemoryStale) && stale.next.unwrap().contains(&new.id.to_string()));
    // Said again, it is new: what was replaced is no longer known.
    let back = put(json!({"agent": "sofia", "content": "Anna lives in Kyiv"}))
        .await
        .unwrap();
    assert_ne!(back.id, old.id);
    let unknown = MemoryId::from_u128(99);
    for field in ["supersedes", "derived_from"] {
        let mut request = json!({"agent": "sofia", "content": "Anna moved again"});
        request[field] = json!([new.id, unknown]);
        let problem = put(request).await.unwrap_err();
        assert!(problem.is(Code::MemoryNotFound));
        assert_eq!(problem.field, Some(format!("{field}[1]")));
    }
    let other = put(json!({"agent": "boris", "content": "mine now", "supersedes": [new.id]})).await;
    assert!(
        other.unwrap_err().is(Code::MemoryNotFound),
        "another agent's memories are not to be replaced"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_name_whom_they_need() {
    let mesh = Mesh::start().await;
    let put = |value: Value| mesh.ask::<MemoryStore>(store(value));
    for (scope, field) in [("session", "session"), ("user", "user")] {
        let problem = put(json!({"agent": "sofia", "content": "x", "scope": scope}))
            .await
            .unwrap_err();
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)));
    }
    let stored = put(json!({"agent": "sofia", "content": "x", "scope": "user", "user": "ann", "session": "s-1"}))
        .await
        .unwrap();
    assert_eq!(
        (stored.user.as_deref(), stored.session.as_deref()),
        (Some("ann"), Some("s-1"))
    );
    put(json!({"agent": "sofia", "content": "y", "scope": "tenant"}))
        .await
        .unwrap();
    put(json!({"agent": "sofia", "content": "z", "scope": "session", "session": "s-2"}))
        .await
        .unwrap();
    for (filter, found) in [
        (json!({"scope": "user"}), vec!["x"]),
        (json!({"user": "ann"}), vec!["x"]),
        (json!({"session": "s-1"}), vec!["x"]),
        (json!({"scope": "tenant"}), vec!["y"]),
        (json!({"session": "s-2", "agent": "sofia"}), vec!["z"]),
        (json!({"session": "s-2", "agent": "boris"}), vec![]),
        (json!({"agent": "sofia"}), vec!["z", "y", "x"]),
    ] {
        assert_eq!(list(&mesh, filter.clone()).await.0, found, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_each_memory_once_newest_first() {
    let mesh = Mesh::start().await;
    for number in 0..7 {
        mesh.store(&format!("note {number}")).await;
    }
    // Too large for one page by bytes, whatever the limit.
    let big = "слово ".repeat(2_900);
    for number in 0..3 {
        let metadata = json!({"m": "x".repeat(120 * 1024)});
        let request = json!({"agent": "boris", "content": format!("{number} {big}"), "metadata": metadata});
        for again in 0..5 {
            let mut request = request.clone();
            request["metadata"]["n"] = json!(again);
            mesh.ask::<MemoryStore>(store(request)).await.unwrap();
        }
    }
    for (agent, limit, count) in [("sofia", 3, 7), ("boris", 500, 15)] {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let mut request = json!({"agent": agent, "limit": limit});
            if let Some(after) = after {
                request["after"] = json!(after);
            }
            let request: ListMemories = serde_json::from_value(request).unwrap();
            let page = mesh.ask::<MemoryList>(request).await.unwrap();
            seen.extend(page.items);
            pages += 1;
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), count, "{agent}");
        assert!(pages > 1, "{agent}: {pages} pages");
        assert!(
            seen.windows(2)
                .all(|pair| (pair[0].created_at, pair[0].id) > (pair[1].created_at, pair[1].id))
        );
    }
    let request = ListMemories {
        after: Some("nowhere".to_owned()),
        ..ListMemories::default()
    };
    let problem = mesh.ask::<MemoryList>(request).await.unwrap_err();
    assert_eq!((problem.status, problem.field.as_deref()), (400, Some("after")));
}
