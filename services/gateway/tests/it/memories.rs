//! Routes of memories and knowledge: what reaches `memory` and what comes back; bad requests are refused before it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cases::{Case, case, get, posted, run};
use crate::made::the_invocation;
use crate::remembered::{the_document, the_memory};
use crate::support::{Edge, json_of, problem};

const DOCUMENTS: &str = "/api/v1/knowledge/handbook/documents";

fn of_memory(what: &str) -> String {
    format!("/api/v1/memories/{}{what}", the_memory())
}

fn of_document(what: &str) -> String {
    format!("/api/v1/knowledge/documents/{}{what}", the_document())
}

impl Edge {
    /// The answer, and what the service was asked for it.
    async fn asked(&self, request: reqwest::RequestBuilder, endpoint: &str) -> (Value, Value) {
        let answer = json_of(request.send().await.unwrap()).await;
        let asked = self.world.last_steered();
        assert_eq!(asked["endpoint"], endpoint);
        (answer, asked["request"].clone())
    }
}

#[tokio::test]
async fn a_list_passes_every_filter_on() {
    let edge = Edge::start().await;
    let query = "agent=agent:sofia&type=semantic&scope=user&user=ann&tag=a%20b&superseded=true&limit=7&after=x";
    let path = format!("/api/v1/memories?{query}&invocation={}&session=s", the_invocation());
    let (page, asked) = edge.asked(edge.get(&path), "memory-list").await;
    let expected = json!({
        "agent": "sofia", "type": "semantic", "scope": "user", "user": "ann", "tag": "a b", "superseded": true,
        "limit": 7, "after": "x", "invocation": the_invocation(), "session": "s",
    });
    assert_eq!(asked, expected);
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!(the_memory()), &json!("x"))
    );
    let (_, all) = edge.asked(edge.get("/api/v1/memories"), "memory-list").await;
    assert_eq!(all, json!({}), "nothing is filtered unless asked for");
}

#[tokio::test]
async fn a_change_is_guarded_by_the_tag_that_was_read() {
    let edge = Edge::start().await;
    let read = edge.get(&of_memory("")).send().await.unwrap();
    assert_eq!(read.headers()["etag"], "\"3\"");
    let patch = |tag: &str, body: Value| {
        let request = edge.request(Method::PATCH, &of_memory("")).json(&body);
        request.header("if-match", tag.to_owned()).send()
    };
    let changed = patch("\"3\"", json!({"importance": 0.9})).await.unwrap();
    assert_eq!(
        (changed.status().as_u16(), &changed.headers()["etag"]),
        (200, &"\"4\"".parse().unwrap())
    );
    let request = edge.world.last_steered()["request"].clone();
    assert_eq!(
        (&request["change"]["version"], &request["change"]["importance"]),
        (&json!(3), &json!(0.9))
    );
    let stale = patch("\"2\"", json!({"content": "x"})).await.unwrap();
    assert_eq!(problem(stale).await["type"], "memory/memory-stale");
    let any = patch("*", json!({"content": "x"})).await.unwrap();
    assert_eq!(any.status(), 200);
    assert_eq!(edge.world.last_steered()["request"]["change"]["version"], Value::Null);
    let contradiction = patch("\"3\"", json!({"version": 2})).await.unwrap();
    assert_eq!(problem(contradiction).await["field"], "version");
    let missing = edge
        .get("/api/v1/memories/mem_01ARZ3NDEKTSV4RRFFQ69G5FAV")
        .send()
        .await
        .unwrap();
    assert_eq!(problem(missing).await["type"], "memory/memory-not-found");
}

#[tokio::test]
async fn what_is_forgotten_has_a_receipt_of_its_own_id() {
    let edge = Edge::start().await;
    let path = "/api/v1/memories/forget";
    let body = json!({"filter": {"user": "ann"}, "dry_run": true});
    let (receipt, asked) = edge.asked(edge.post(path, &body), "memory-erase").await;
    assert_eq!(asked["filter"], json!({"user": "ann"}));
    assert_eq!((&receipt["id"], &receipt["forgotten"]), (&asked["id"], &json!(2)));
    assert_eq!((&receipt["dry_run"], &receipt["by"]), (&json!(true), &json!("dev")));
    let body = json!({"id": "rcp_01ARZ3NDEKTSV4RRFFQ69G5FAV", "filter": {"ids": [the_memory()]}, "keep_derived": true});
    let (receipt, asked) = edge.asked(edge.post(path, &body), "memory-erase").await;
    assert_eq!(receipt["id"], "rcp_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_eq!(asked["keep_derived"], true);
    let (forgotten, _) = edge
        .asked(edge.request(Method::DELETE, &of_memory("")), "memory-forget")
        .await;
    assert_eq!(forgotten, json!({"id": the_memory(), "forgotten": true}));
}

#[tokio::test]
async fn history_status_and_consolidation_have_their_routes() {
    let edge = Edge::start().await;
    let (history, _) = edge.asked(edge.get(&of_memory("/history")), "memory-history").await;
    assert_eq!(
        (&history["memory"]["version"], &history["items"]),
        (&json!(3), &json!([]))
    );
    let (report, _) = edge
        .asked(edge.get("/api/v1/memories/embedding"), "embedding-status")
        .await;
    assert_eq!(
        (&report["current"], &report["progress"]),
        (&json!("minilm"), &json!(0.5))
    );
    let path = "/api/v1/memories/consolidate";
    let started = edge.post(path, &json!({"agent": "sofia"})).send().await.unwrap();
    assert_eq!(started.status(), 202);
    assert_eq!(
        started.headers()["location"],
        format!("/api/v1/invocations/{}", the_invocation()).as_str()
    );
    let too_few = edge
        .post(path, &json!({"agent": "sofia", "at_least": 50}))
        .send()
        .await
        .unwrap();
    assert_eq!(too_few.status(), 200);
    assert_eq!(json_of(too_few).await["invocation"], Value::Null);
}

#[tokio::test]
async fn a_memory_without_an_id_gets_one_at_the_edge() {
    let edge = Edge::start().await;
    let stored = edge
        .post("/api/v1/memories", &json!({"agent": "sofia", "content": "x"}))
        .send()
        .await
        .unwrap();
    assert_eq!(stored.headers()["etag"], "\"1\"");
    let id = json_of(stored).await["id"].clone();
    let (_, request) = edge.world.memories.lock().unwrap().pop().unwrap();
    assert_eq!(json!(request.id.expect("the service is told it")), id);
}

#[tokio::test]
async fn a_document_comes_as_json_or_as_it_is() {
    let edge = Edge::start().await;
    let body = json!({"name": "leave.md", "text": "# Leave"});
    let added = edge.post(DOCUMENTS, &body).send().await.unwrap();
    assert_eq!(added.status(), 201);
    assert_eq!(added.headers()["location"], of_document("").as_str());
    assert_eq!(
        edge.world.last_steered()["request"],
        json!({"base": "handbook", "name": "leave.md", "text": "# Leave"})
    );
    for (media_type, bytes) in [
        ("text/markdown", "# Відпустка".as_bytes().to_vec()),
        ("text/html; charset=windows-1251", vec![b'<', b'p', b'>', 0xcf]),
        ("application/pdf", b"%PDF-1.7\n\0".to_vec()),
    ] {
        let raw = edge.request(Method::POST, &format!("{DOCUMENTS}?name=a%20b.md"));
        let raw = raw.header("content-type", media_type).body(bytes.clone());
        let (document, asked) = edge.asked(raw, "knowledge-add").await;
        assert_eq!(
            (&asked["media_type"], &asked["name"]),
            (&json!(media_type), &json!("a b.md"))
        );
        assert_eq!(asked["text"], Value::Null);
        assert_eq!(
            decoded(asked["data"].as_str().unwrap()),
            bytes,
            "not one byte is changed"
        );
        assert_eq!(document["state"], "embedding");
    }
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn documents_are_listed_read_searched_and_deleted() {
    let edge = Edge::start().await;
    let (page, asked) = edge
        .asked(edge.get(&format!("{DOCUMENTS}?limit=2&after=c")), "knowledge-list")
        .await;
    assert_eq!(asked, json!({"base": "handbook", "limit": 2, "after": "c"}));
    assert_eq!(page["items"][0]["name"], "leave.md");
    let all = "/api/v1/knowledge/documents";
    let (_, asked) = edge.asked(edge.get(all), "knowledge-list").await;
    assert_eq!(asked, json!({}));
    let (_, asked) = edge
        .asked(edge.get(&format!("{all}?base=other")), "knowledge-list")
        .await;
    assert_eq!(asked, json!({"base": "other"}));
    let (document, _) = edge.asked(edge.get(&of_document("")), "knowledge-get").await;
    assert_eq!(document["id"], json!(the_document()));
    let (text, _) = edge.asked(edge.get(&of_document("/text")), "knowledge-text").await;
    assert_eq!(text["text"], "Thirty days.");
    let body = json!({"bases": ["handbook"], "query": "leave", "k": 3});
    let (found, asked) = edge
        .asked(edge.post("/api/v1/knowledge/search", &body), "knowledge-search")
        .await;
    assert_eq!((&found["items"], asked), (&json!([]), body));
    let delete = edge.request(Method::DELETE, &of_document(""));
    let (deleted, _) = edge.asked(delete, "knowledge-delete").await;
    assert_eq!(deleted, json!({"id": the_document(), "chunks": 1}));
}

#[tokio::test]
async fn bad_requests_of_memories_and_knowledge_reach_no_service() {
    let invalid = "mesh/invalid-request";
    let media = "mesh/unsupported-media-type";
    let patch = |body: &str| Case {
        method: Method::PATCH,
        ..posted(&of_memory(""), body, invalid)
    };
    let of_type = |media_type: &'static str, body: &[u8]| Case {
        media_type,
        ..posted(DOCUMENTS, body, invalid)
    };
    run(vec![
        get("/api/v1/memories?type=feeling", 400, invalid).of("type"),
        get("/api/v1/memories?scope=world", 400, invalid).of("scope"),
        get("/api/v1/memories?agent=a.b", 400, invalid).of("agent"),
        get("/api/v1/memories?invocation=1", 400, invalid).of("invocation"),
        get("/api/v1/memories?superseded=maybe", 400, invalid).of("superseded"),
        get("/api/v1/memories?limit=0", 400, invalid).of("limit"),
        get("/api/v1/memories?kind=semantic", 400, invalid).of("kind"),
        get("/api/v1/memories/mem_1", 400, "mesh/invalid-name"),
        patch(r#"{"text":"x"}"#),
        patch("{}").with("if-match", "\"g1\"").of("If-Match"),
        posted("/api/v1/memories/forget", r#"{"filter":{"name":"x"}}"#, invalid),
        posted("/api/v1/memories/forget", r#"{"filter":{"ids":["mem_1"]}}"#, invalid),
        posted(
            "/api/v1/memories/consolidate",
            r#"{"agent":"sofia","at_least":-1}"#,
            invalid,
        )
        .of("at_least"),
        posted(
            "/api/v1/knowledge/search",
            r#"{"bases":["a"],"query":"x","k":0}"#,
            invalid,
        )
        .of("k"),
        posted(DOCUMENTS, r#"{"base":"other","text":"x"}"#, invalid).of("base"),
        posted(DOCUMENTS, r#"{"text":5}"#, invalid).of("text"),
        posted(&format!("{DOCUMENTS}?name=b"), r#"{"name":"a","text":"x"}"#, invalid).of("name"),
        of_type("text/plain", b""),
        Case {
            status: 415,
            ..Case {
                kind: media,
                ..of_type("image/png", b"\x89PNG")
            }
        },
        Case {
            status: 413,
            ..Case {
                kind: "mesh/body-too-large",
                ..of_type("text/plain", &vec![b'x'; 1024 * 1024 + 1])
            }
        },
        get("/api/v1/knowledge/documents/doc_1", 400, "mesh/invalid-name"),
        case(
            Method::DELETE,
            "/api/v1/knowledge/a%20b/documents",
            405,
            "mesh/method-not-allowed",
        ),
        get("/api/v1/knowledge/a%20b/documents", 400, "mesh/invalid-name").of("base"),
    ])
    .await;
}
