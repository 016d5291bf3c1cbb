//! Declared objects: created, read, changed under an etag, listed, deleted.

use mesh_api::registry::{
    AgentCreate, AgentDelete, AgentGet, AgentList, AgentRequest, AgentUpdate, AgentUpdateRequest, Missing,
};
use mesh_api::{Caller, PageQuery};
use mesh_types::{Code, Tenant};
use serde_json::json;

use crate::setup::{Mesh, SOON, agent, declared, guarded};

fn get(name: &str) -> AgentRequest {
    AgentRequest {
        agent: name.parse().unwrap(),
    }
}

#[tokio::test]
async fn an_agent_comes_back_as_it_was_declared() {
    let mesh = Mesh::start().await;
    let object = json!({
        "metadata": {"name": "sofia", "labels": {"team": "research", "odd": "\u{0}"}},
        "spec": {
            "instructions": "You are Sofia. Привіт 👋",
            "tools": ["summarize_channel", {
                "name": "x", "kind": "http", "url": "https://tools.example/x",
                "parameters": {"deep": [1, 2.5, null, {"nul": "\u{0}"}]},
            }],
            "placement": {"replicas": 2, "node_selector": {"region": "eu"}},
        },
    });
    let created = mesh.call::<AgentCreate>(declared(object.clone())).await.unwrap();
    let read = mesh.call::<AgentGet>(get("sofia")).await.unwrap();
    assert_eq!(read, created);
    assert_eq!(serde_json::to_value(&read.spec.tools).unwrap(), object["spec"]["tools"]);
    assert_eq!(read.metadata.labels["odd"], "\0");
    assert_eq!(read.metadata.tenant.unwrap().as_str(), "default");
    assert_eq!((read.status.generation, read.status.draft), (1, true));
    assert_eq!(read.status.published, None);
}

#[tokio::test]
async fn a_name_is_taken_once_also_by_sixteen_at_once() {
    let mesh = Mesh::start().await;
    let results = futures::future::join_all((0..16).map(|_| mesh.call::<AgentCreate>(agent("sofia", "x")))).await;
    let (created, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(created.len(), 1);
    for problem in refused {
        let problem = problem.unwrap_err();
        assert!(problem.is(Code::AgentAlreadyExists), "{problem:?}");
        assert!(problem.next.is_some());
    }
}

#[tokio::test]
async fn a_stale_etag_changes_nothing() {
    let mesh = Mesh::start().await;
    let first = mesh.create("sofia").await;
    let update = |instructions: &str, if_match: &str| {
        mesh.call::<AgentUpdate>(AgentUpdateRequest {
            agent: agent("sofia", instructions),
            if_match: Some(if_match.to_owned()),
            missing: Missing::Refuse,
        })
    };
    let second = update("two", &first.status.etag).await.unwrap();
    assert_eq!(second.status.generation, 2);
    let problem = update("three", &first.status.etag).await.unwrap_err();
    assert!(
        problem.is(Code::PreconditionFailed) && problem.status == 412,
        "{problem:?}"
    );
    let problem = mesh
        .call::<AgentDelete>(guarded("sofia", Some(&first.status.etag)))
        .await
        .unwrap_err();
    assert!(problem.is(Code::PreconditionFailed));
    assert_eq!(mesh.call::<AgentGet>(get("sofia")).await.unwrap(), second);
    // Of those who read the same object, one wins.
    let both = tokio::join!(
        update("left", &second.status.etag),
        update("right", &second.status.etag)
    );
    assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|ok| **ok).count(), 1);
}

#[tokio::test]
async fn applying_the_same_object_again_changes_nothing() {
    let mesh = Mesh::start().await;
    let first = mesh.apply("sofia", "one").await;
    assert_eq!(mesh.apply("sofia", "one").await, first);
    let second = mesh.apply("sofia", "two").await;
    assert_eq!(second.status.generation, 2);
    assert_ne!(second.status.etag, first.status.etag);
    assert_eq!(second.status.created_at, first.status.created_at);
}

#[tokio::test]
async fn a_missing_agent_is_created_by_apply_and_refused_by_put() {
    let mesh = Mesh::start().await;
    let put = |if_match: Option<&str>, missing| {
        let if_match = if_match.map(str::to_owned);
        mesh.call::<AgentUpdate>(AgentUpdateRequest {
            agent: agent("sofia", "x"),
            if_match,
            missing,
        })
    };
    assert!(put(None, Missing::Refuse).await.unwrap_err().is(Code::AgentNotFound));
    // An etag names something that was read: it cannot be there.
    assert!(
        put(Some("1-x"), Missing::Create)
            .await
            .unwrap_err()
            .is(Code::AgentNotFound)
    );
    assert_eq!(put(None, Missing::Create).await.unwrap().status.generation, 1);
}

#[tokio::test]
async fn what_is_declared_wrongly_is_refused_by_field() {
    let mesh = Mesh::start().await;
    let cases = [
        (
            json!({"metadata": {"name": "a"}, "spec": {"model": {"temperature": 9}}}),
            "spec.model.temperature",
        ),
        (
            json!({"metadata": {"name": "a"}, "spec": {"instructions": "\u{0}"}}),
            "spec.instructions",
        ),
        (
            json!({"metadata": {"name": "a", "tenant": "daarion"}}),
            "metadata.tenant",
        ),
        (
            json!({"apiVersion": "mesh/v2", "metadata": {"name": "a"}}),
            "apiVersion",
        ),
    ];
    for (object, field) in cases {
        let problem = mesh.call::<AgentCreate>(declared(object)).await.unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field));
        assert!((400..500).contains(&problem.status), "{problem:?}");
    }
    mesh.create("a").await;
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let mesh = Mesh::start().await;
    for number in 0..40 {
        mesh.create(&format!("agent-{number:02}")).await;
    }
    let (mut names, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = mesh
            .call::<AgentList>(PageQuery { limit: Some(15), after })
            .await
            .unwrap();
        names.extend(page.items.into_iter().map(|view| view.metadata.name.to_string()));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(
        names,
        (0..40).map(|number| format!("agent-{number:02}")).collect::<Vec<_>>()
    );
    let all = mesh
        .call::<AgentList>(PageQuery {
            limit: Some(40),
            after: None,
        })
        .await
        .unwrap();
    assert_eq!((all.items.len(), all.next), (40, None));
    let problem = mesh
        .call::<AgentList>(PageQuery {
            limit: None,
            after: Some("no cursor".into()),
        })
        .await
        .unwrap_err();
    assert_eq!((problem.status, problem.field.as_deref()), (400, Some("after")));
}

/// 40 agents of 250 KiB do not fit into one message of the server.
#[tokio::test]
async fn a_list_of_large_agents_is_cut_to_what_a_reply_carries() {
    let mesh = Mesh::start().await;
    for number in 0..40 {
        mesh.apply(&format!("agent-{number:02}"), &"x".repeat(250 * 1024)).await;
    }
    let (mut count, mut after, mut pages) = (0, None, 0);
    let caller = Caller::service("test", Tenant::default());
    loop {
        let query = PageQuery {
            limit: Some(500),
            after,
        };
        // Megabytes a page, on a machine that may be busy.
        let page = mesh.bus.call_within::<AgentList>(&caller, &query, 2 * SOON).await;
        let page = page.unwrap();
        count += page.items.len();
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(count, 40);
    assert!(pages >= 3, "{pages}");
}

#[tokio::test]
async fn a_deleted_agent_is_gone_and_its_name_free() {
    let mesh = Mesh::start().await;
    let first = mesh.create("sofia").await;
    assert!(
        mesh.call::<AgentDelete>(guarded("sofia", Some(&first.status.etag)))
            .await
            .unwrap()
            .deleted
    );
    assert!(
        mesh.call::<AgentDelete>(guarded("sofia", None))
            .await
            .unwrap_err()
            .is(Code::AgentNotFound)
    );
    assert!(
        mesh.call::<AgentGet>(get("sofia"))
            .await
            .unwrap_err()
            .is(Code::AgentNotFound)
    );
    assert_eq!(mesh.apply("sofia", "another").await.status.generation, 1);
    let problem = mesh
        .call::<AgentDelete>(guarded("sofia", Some(&first.status.etag)))
        .await
        .unwrap_err();
    assert!(
        problem.is(Code::PreconditionFailed),
        "the old etag must not pass for the new agent's"
    );
}
