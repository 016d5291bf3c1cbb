//! Documents by upload: versions, pieces, what is embedded, what is found, for whom.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use memory::embed::{EmbedError, Embedder, Embedding, HashEmbedder, Model};
use mesh_api::knowledge::{
    AddDocument, Document, DocumentRequest, DocumentState, DocumentText, KnowledgeAdd, KnowledgeDelete, KnowledgeGet,
    KnowledgeHit, KnowledgeList, KnowledgeReply, KnowledgeSearch, KnowledgeText, ListDocuments, SearchKnowledge,
};
use mesh_api::memory::{MemoryQuery, QueryRequest};
use mesh_runtime::Blocking;
use mesh_testkit::wait_until;
use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;
use mesh_types::{Code, DocumentId, Problem};
use serde_json::{Value, json};

use crate::embedders::Switched;
use crate::setup::Mesh;

const SOON: Duration = Duration::from_secs(20);

/// The real one, and what it was asked.
struct Counted {
    inner: HashEmbedder,
    texts: Arc<Mutex<Vec<String>>>,
}

impl Embedder for Counted {
    fn model(&self) -> &Model {
        self.inner.model()
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        self.texts.lock().unwrap().extend(texts.iter().cloned());
        self.inner.embed(texts)
    }
}

pub(crate) async fn add(mesh: &Mesh, request: Value) -> Result<Document, Problem> {
    let request: AddDocument = serde_json::from_value(request).unwrap();
    mesh.ask::<KnowledgeAdd>(request).await
}

pub(crate) async fn ready(mesh: &Mesh, id: DocumentId) -> Document {
    let get = || mesh.ask::<KnowledgeGet>(DocumentRequest { id });
    wait_until(SOON, || async { get().await.unwrap().state == DocumentState::Ready }).await;
    get().await.unwrap()
}

pub(crate) async fn text_of(mesh: &Mesh, id: DocumentId) -> DocumentText {
    mesh.ask::<KnowledgeText>(DocumentRequest { id }).await.unwrap()
}

pub(crate) async fn search(mesh: &Mesh, tenant: &str, request: Value) -> KnowledgeReply {
    let request: SearchKnowledge = serde_json::from_value(request).unwrap();
    let caller = mesh.caller(tenant);
    mesh.context
        .bus
        .call::<KnowledgeSearch>(&caller, &request)
        .await
        .unwrap()
}

/// The citation leads to exactly the hit's text.
pub(crate) fn check_citation(hit: &KnowledgeHit, text: &DocumentText) {
    let (start, end) = (hit.citation.start as usize, hit.citation.end as usize);
    let cut: String = text.text.chars().skip(start).take(end - start).collect();
    assert_eq!(cut, hit.text);
    assert_eq!(hit.citation.document, text.document.id);
}

fn handbook(brewing: &str) -> String {
    format!(
        "# Посібник\n\nУсе про чай і каву.\n\n## Чай\n\nЗелений чай заварюють водою 75 °C дві хвилини.\n\n\
         ## Coffee\n\n{brewing}\n\n## Storage\n\nKeep both dry, dark and away from spices. 🫖\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_embedded_and_found_with_its_citation() {
    let mesh = Mesh::start().await;
    let filter = Filter::EventsOf("default".parse().unwrap());
    let mut events = mesh.context.bus.subscribe(&filter).await.unwrap();
    let source = handbook("Espresso takes nine bars and thirty seconds.");
    let added = add(&mesh, json!({"base": "house", "name": "guide.md", "text": source}))
        .await
        .unwrap();
    // The introduction, and a piece for each section.
    assert_eq!((added.version, added.chunks, added.kept), (1, 4, 0));
    assert_eq!(
        (added.media_type.as_str(), added.bytes, added.sha256.len()),
        ("text/markdown", source.len() as u64, 64)
    );
    let done = ready(&mesh, added.id).await;
    assert_eq!((done.embedded, done.error), (4, None));
    let text = text_of(&mesh, added.id).await;
    assert_eq!((text.text.as_str(), text.chunks.len()), (source.as_str(), 4));
    assert!(text.chunks.iter().all(|chunk| chunk.embedded));
    for (query, heading) in [
        ("how many bars does espresso take", "Coffee"),
        ("скільки хвилин заварюють зелений чай", "Чай"),
        ("keep away from spices", "Storage"),
    ] {
        let found = search(&mesh, "default", json!({"bases": ["house"], "query": query, "k": 3})).await;
        assert_eq!(found.degraded, None);
        let best = &found.items[0];
        assert_eq!(best.citation.headings, ["Посібник", heading], "{query}");
        assert_eq!((best.citation.name.as_str(), best.citation.version), ("guide.md", 1));
        assert!(best.score <= 1.0 && best.scores.vector.is_some(), "{best:?}");
        found.items.iter().for_each(|hit| check_citation(hit, &text));
    }
    let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
    let event: Event = serde_json::from_slice(&event.payload).unwrap();
    let fact = Fact::KnowledgeAdded {
        document: added.id,
        base: "house".parse().unwrap(),
        version: 1,
    };
    assert_eq!((event.fact, event.actor.as_str()), (fact, "user:ann"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_embeds_only_what_changed() {
    let texts = Arc::new(Mutex::new(Vec::new()));
    let embedder = Arc::new(Counted {
        inner: HashEmbedder::new(Blocking::default()),
        texts: Arc::clone(&texts),
    });
    let mesh = Mesh::start_with(embedder, |_| ()).await;
    let put = |text: String| add(&mesh, json!({"base": "house", "name": "guide.md", "text": text}));
    let first = put(handbook("Espresso takes nine bars.")).await.unwrap();
    ready(&mesh, first.id).await;
    assert_eq!(texts.lock().unwrap().len(), 4);
    let again = put(handbook("Espresso takes nine bars.")).await.unwrap();
    assert_eq!(
        (again.version, again.updated_at),
        (1, first.updated_at),
        "the same bytes change nothing"
    );
    let second = put(handbook("Espresso takes nine bars and a very clean machine."))
        .await
        .unwrap();
    assert_eq!(
        (second.id, second.version, second.chunks, second.kept),
        (first.id, 2, 4, 3)
    );
    let done = ready(&mesh, first.id).await;
    assert_eq!(done.embedded, 4);
    let seen = texts.lock().unwrap().clone();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(seen[4].contains("clean machine"));
    let found = search(
        &mesh,
        "default",
        json!({"bases": ["house"], "query": "keep dry and dark"}),
    )
    .await;
    assert_eq!(found.items[0].citation.version, 2);
    let text = text_of(&mesh, first.id).await;
    found.items.iter().for_each(|hit| check_citation(hit, &text));
    assert!(!found.items.iter().any(|hit| hit.text.ends_with("nine bars.")));
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_one_name_at_once_are_one_after_another() {
    let mesh = Mesh::start().await;
    let put = |number: usize| {
        let text = format!("# A\n\nversion {}\n\n# B\n\nthe same\n", number % 4);
        add(&mesh, json!({"base": "house", "name": "n.md", "text": text}))
    };
    let all = futures::future::join_all((0..12).map(put)).await;
    let ids: Vec<_> = all.into_iter().map(|added| added.unwrap().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let done = ready(&mesh, ids[0]).await;
    assert_eq!((done.chunks, done.embedded), (2, 2));
    assert!(done.version >= 4 && done.version <= 12, "{}", done.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_embedder_is_down_pieces_are_found_by_their_words() {
    let (embedder, is_down) = Switched::new();
    let mesh = Mesh::start_with(embedder, |_| ()).await;
    is_down.store(true, std::sync::atomic::Ordering::SeqCst);
    let text = handbook("Espresso takes nine bars.");
    let added = add(&mesh, json!({"base": "house", "name": "guide.md", "text": text}))
        .await
        .unwrap();
    assert_eq!((added.state, added.embedded), (DocumentState::Embedding, 0));
    let found = search(&mesh, "default", json!({"bases": ["house"], "query": "espresso bars"})).await;
    assert!(found.degraded.is_some_and(|why| why.contains("switched off")));
    assert_eq!(found.items[0].citation.headings[1], "Coffee");
    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(ready(&mesh, added.id).await.embedded, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_others_documents() {
    let mesh = Mesh::start().await;
    let text = handbook("Espresso takes nine bars.");
    let added = add(&mesh, json!({"base": "house", "name": "guide.md", "text": text}))
        .await
        .unwrap();
    ready(&mesh, added.id).await;
    let other = mesh.caller("other");
    let bus = &mesh.context.bus;
    let request = DocumentRequest { id: added.id };
    let refused = [
        bus.call::<KnowledgeGet>(&other, &request).await.unwrap_err(),
        bus.call::<KnowledgeText>(&other, &request).await.unwrap_err(),
        bus.call::<KnowledgeDelete>(&other, &request).await.unwrap_err(),
    ];
    assert!(
        refused.iter().all(|problem| problem.is(Code::DocumentNotFound)),
        "{refused:?}"
    );
    let list = bus
        .call::<KnowledgeList>(&other, &ListDocuments::default())
        .await
        .unwrap();
    assert_eq!((list.items, list.next), (Vec::new(), None));
    let question = json!({"bases": ["house"], "query": "espresso nine bars", "k": 100});
    assert_eq!(search(&mesh, "other", question.clone()).await.items, []);
    // The same name is another document there.
    let request: AddDocument =
        serde_json::from_value(json!({"base": "house", "name": "guide.md", "text": "ours"})).unwrap();
    let theirs = bus.call::<KnowledgeAdd>(&other, &request).await.unwrap();
    assert!(theirs.id != added.id && theirs.version == 1);
    assert_eq!(search(&mesh, "default", question).await.items.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_listed_and_deleted_with_all_that_they_were() {
    let mesh = Mesh::start().await;
    for name in ["a.txt", "b.txt", "c.txt"] {
        add(
            &mesh,
            json!({"base": "house", "name": name, "text": format!("about {name}")}),
        )
        .await
        .unwrap();
    }
    let shed = add(&mesh, json!({"base": "shed", "name": "d.txt", "text": "a rake"}))
        .await
        .unwrap();
    let page = async |request: Value| {
        let request: ListDocuments = serde_json::from_value(request).unwrap();
        let page = mesh.ask::<KnowledgeList>(request).await.unwrap();
        (
            page.items.into_iter().map(|item| item.name).collect::<Vec<_>>(),
            page.next,
        )
    };
    let (names, next) = page(json!({"base": "house", "limit": 2})).await;
    assert_eq!(names, ["c.txt", "b.txt"]);
    assert_eq!(
        page(json!({"base": "house", "limit": 2, "after": next})).await,
        (vec!["a.txt".into()], None)
    );
    assert_eq!(page(json!({})).await.0.len(), 4);
    ready(&mesh, shed.id).await;
    let deleted = mesh
        .ask::<KnowledgeDelete>(DocumentRequest { id: shed.id })
        .await
        .unwrap();
    assert_eq!((deleted.id, deleted.chunks), (shed.id, 1));
    assert_eq!(
        search(&mesh, "default", json!({"bases": ["shed"], "query": "rake"}))
            .await
            .items,
        []
    );
    let gone = mesh
        .ask::<KnowledgeGet>(DocumentRequest { id: shed.id })
        .await
        .unwrap_err();
    assert!(gone.is(Code::DocumentNotFound) && gone.next.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_query_covers_the_collections_that_it_names() {
    let mesh = Mesh::start().await;
    mesh.store("Anna drinks jasmine tea").await;
    let text = handbook("Espresso takes nine bars.");
    let added = add(&mesh, json!({"base": "house", "name": "guide.md", "text": text}))
        .await
        .unwrap();
    ready(&mesh, added.id).await;
    let request: QueryRequest =
        serde_json::from_value(json!({"agent": "sofia", "query": "espresso bars", "k": 2, "knowledge": ["house"]}))
            .unwrap();
    let reply = mesh.ask::<MemoryQuery>(request).await.unwrap();
    assert_eq!(reply.knowledge.len(), 2);
    assert_eq!(reply.knowledge[0].citation.headings[1], "Coffee");
    assert_eq!(reply.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_says_which_field_and_what_to_do() {
    let mesh = Mesh::start().await;
    for (request, code, field) in [
        (json!({"base": "b", "name": "a"}), Code::InvalidRequest, "text"),
        (
            json!({"base": "b", "name": "a", "text": " \n"}),
            Code::DocumentUnreadable,
            "text",
        ),
        (
            json!({"base": "b", "name": "a", "data": "/w=="}),
            Code::DocumentUnreadable,
            "data",
        ),
        (
            json!({"base": "b", "name": "a.pdf", "data": "JVBERi0="}),
            Code::DocumentUnreadable,
            "data",
        ),
        (
            json!({"base": "b", "name": "a", "text": "x", "media_type": "video/mp4"}),
            Code::UnsupportedMediaType,
            "media_type",
        ),
    ] {
        let problem = add(&mesh, request.clone()).await.unwrap_err();
        assert!(
            problem.is(code) && problem.field.as_deref() == Some(field),
            "{request}: {problem:?}"
        );
        assert!(!problem.detail.is_empty());
    }
}
