//! Lists, counts, steps and the feed.

use std::time::Duration;

use mesh_api::PageQuery;
use mesh_api::execution::{
    Bodies, FeedRequest, InvocationFeed, InvocationFilter, InvocationGet, InvocationList, InvocationRequest,
    InvocationSteps, ListRequest, State, StepsRequest,
};
use mesh_api::journal::Fact;
use mesh_bus::StreamName;
use mesh_testkit::wait_until;
use mesh_types::{Code, InvocationId, Subject};
use serde_json::json;

use crate::mesh::{Mesh, SOON, request};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of filters")]
async fn lists_are_filtered_and_read_page_by_page() {
    let (mesh, _process) = Mesh::start().await;
    for n in 0..7 {
        let agent = if n % 2 == 0 { "noop" } else { "talker" };
        let body = json!({"payload": {"text": format!("order {n}")}, "session": format!("s{}", n % 3)});
        mesh.accept(agent, request(body), SOON).await.unwrap();
    }
    mesh.check().await;
    let list = |filter: InvocationFilter, limit: u32, after: Option<String>| {
        let page = PageQuery {
            limit: Some(limit),
            after,
        };
        let request = ListRequest { filter, page };
        async { mesh.ask::<InvocationList>(request).await.unwrap() }
    };
    let first = list(InvocationFilter::default(), 4, None).await;
    let rest = list(InvocationFilter::default(), 4, first.next.clone()).await;
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (4, 3, None));
    let ids: Vec<_> = first
        .items
        .iter()
        .chain(&rest.items)
        .map(|invocation| invocation.id)
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] > pair[1]), "newest first, none twice");
    for row in &first.items {
        let whole = mesh
            .ask::<InvocationGet>(InvocationRequest { id: row.id })
            .await
            .unwrap();
        assert_eq!(row.cursor, whole.cursor, "a row says which record it shows");
    }
    for (filter, count) in [
        (
            InvocationFilter {
                agent: Some("talker".parse().unwrap()),
                ..Default::default()
            },
            3,
        ),
        (
            InvocationFilter {
                session: Some("s1".into()),
                ..Default::default()
            },
            2,
        ),
        (
            InvocationFilter {
                state: Some(State::Completed),
                ..Default::default()
            },
            7,
        ),
        (
            InvocationFilter {
                state: Some(State::Failed),
                ..Default::default()
            },
            0,
        ),
        (
            InvocationFilter {
                q: Some("Hello".into()),
                ..Default::default()
            },
            3,
        ),
        (
            InvocationFilter {
                q: Some("100%_\\".into()),
                ..Default::default()
            },
            0,
        ),
    ] {
        assert_eq!(list(filter.clone(), 50, None).await.items.len(), count, "{filter:?}");
    }
    let page = PageQuery {
        limit: None,
        after: Some("nonsense".into()),
    };
    let problem = mesh
        .ask::<InvocationList>(ListRequest {
            filter: InvocationFilter::default(),
            page,
        })
        .await
        .unwrap_err();
    assert_eq!(
        (problem.is(Code::InvalidRequest), problem.field.as_deref()),
        (true, Some("after"))
    );
}

#[tokio::test]
async fn steps_come_with_their_bodies_or_without_also_while_one_runs() {
    let (mesh, _process) = Mesh::start().await;
    let id = mesh
        .accept("slow", request(json!({"payload": {"text": "hi"}})), Duration::ZERO)
        .await
        .unwrap()
        .id;
    mesh.held_models(1).await;
    let steps = |bodies| {
        let request = StepsRequest {
            id,
            bodies,
            page: PageQuery::default(),
        };
        async { mesh.ask::<InvocationSteps>(request).await.unwrap().items }
    };
    let running = steps(Bodies::Full).await;
    assert_eq!(
        (running.len(), running[0].ended_at, running[0].output.is_none()),
        (1, None, true)
    );
    assert!(running[0].input.is_some());
    mesh.world.let_go(1);
    mesh.ended(id).await;
    let done = steps(Bodies::Full).await;
    assert_eq!(done[0].output.as_ref().unwrap()["text"], "Hello, world");
    assert_eq!(done[0].input, running[0].input, "what was begun is what was done");
    assert_eq!(done[0].usage.cost_usd, 0.5);
    let bare = steps(Bodies::None).await;
    assert!(bare[0].input.is_none() && bare[0].output.is_none() && bare[0].ended_at.is_some());
}

#[tokio::test]
async fn the_feed_goes_on_from_any_mark_and_journal_tells_the_same() {
    let (mesh, _process) = Mesh::start().await;
    let id = mesh.accept("noop", request(json!({})), SOON).await.unwrap().id;
    let invocation = mesh.get(id).await;
    let all = mesh.journal(&invocation).await;
    assert_eq!(all.len(), 6, "accepted, claimed, three steps, ended: {all:#?}");
    assert!(matches!(all[5].fact, Fact::Ended(_)));
    for after in 0..=6_u32 {
        let page = mesh
            .ask::<InvocationFeed>(FeedRequest {
                invocation: id,
                after_seq: after,
            })
            .await;
        let wanted = &all[after as usize..];
        assert_eq!(
            (page.as_ref().unwrap().records.as_slice(), page.as_ref().unwrap().more),
            (wanted, false)
        );
    }
    mesh.check().await;
    // JOURNAL has the last of it, with the batch that a reader orders by.
    let subject = Subject::Journal {
        tenant: "default".parse().unwrap(),
        invocation: id,
    };
    let last = mesh
        .bus
        .last_message(StreamName::Journal, &subject)
        .await
        .unwrap()
        .unwrap();
    let page: mesh_api::journal::JournalPage = serde_json::from_slice(&last.payload).unwrap();
    assert_eq!(page.records.last(), all.last());
    assert!(last.headers.get("Mesh-To-Batch").unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn steps_are_read_page_by_page_and_no_page_is_too_large_for_a_message() {
    let (mesh, _process) = Mesh::start().await;
    mesh.world
        .publish("default", "long", &json!({"runtime": "noop", "noop": {"steps": 25}}));
    let id = mesh.accept("long", request(json!({})), SOON).await.unwrap().id;
    let mut numbers = Vec::new();
    let mut after = None;
    loop {
        let page = PageQuery { limit: Some(10), after };
        let page = mesh
            .ask::<InvocationSteps>(StepsRequest {
                id,
                bodies: Bodies::Full,
                page,
            })
            .await
            .unwrap();
        assert!(page.items.len() <= 10);
        numbers.extend(page.items.iter().map(|step| step.number));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
    // One that has no step yet is found, and has none.
    let delayed = mesh
        .accept("noop", request(json!({"delay_ms": 3_600_000})), Duration::ZERO)
        .await
        .unwrap();
    let request = StepsRequest {
        id: delayed.id,
        bodies: Bodies::None,
        page: PageQuery::default(),
    };
    assert!(mesh.ask::<InvocationSteps>(request).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let (mesh, _process) = Mesh::start().await;
    let id: InvocationId = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let problem = mesh.ask::<InvocationGet>(InvocationRequest { id }).await.unwrap_err();
    assert!(problem.is(Code::InvocationNotFound));
    let problem = mesh
        .ask::<InvocationFeed>(FeedRequest {
            invocation: id,
            after_seq: 0,
        })
        .await
        .unwrap_err();
    assert!(problem.is(Code::InvocationNotFound));
}

#[tokio::test]
async fn a_long_record_lies_beside_the_journal_and_reads_back_whole() {
    let (mesh, _process) = Mesh::start().await;
    let text = "ї".repeat(40_000);
    let body = request(json!({"payload": {"text": text}}));
    let ended = mesh.accept("talker", body, SOON).await.unwrap();
    assert_eq!(ended.payload["text"], json!(text));
    wait_until(SOON, || async {
        mesh.count("SELECT count(*) FROM execution.body").await > 0
    })
    .await;
    let page = PageQuery::default();
    let steps = mesh
        .ask::<InvocationSteps>(StepsRequest {
            id: ended.id,
            bodies: Bodies::Full,
            page,
        })
        .await
        .unwrap();
    assert!(steps.items[0].input.as_ref().unwrap().to_string().contains(&text));
    mesh.check().await;
}
