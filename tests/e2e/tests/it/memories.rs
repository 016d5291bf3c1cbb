//! Memories and knowledge of a started mesh, by command line and HTTP: told, found with reasons, changed, cited,
//! forgotten with a receipt; by meaning, with the local model that `mesh up` provides.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Mesh, items, send, unique, until};

/// Whoever is asked, nothing of another test is found.
fn agent() -> String {
    unique("rememberer")
}

#[tokio::test]
async fn a_memory_is_told_found_by_its_meaning_changed_and_forgotten_with_a_receipt() {
    let mesh = Mesh::shared().await;
    let (agent, user) = (agent(), unique("ann"));
    let told = [
        "memories",
        "remember",
        &agent,
        "Priya breaks out in hives after eating prawns",
        "--user",
        &user,
    ];
    let memory = mesh.cli(&[&told[..], &["--json"]].concat()).await.json();
    let id = memory["id"].as_str().unwrap();
    for other in ["The invoices are sent on Fridays", "Rex hides during thunder"] {
        mesh.cli(&["memories", "remember", &agent, other, "--json"])
            .await
            .json();
    }
    // No word of the question stands in the memory; until it is embedded it is not found.
    let question = "is anyone allergic to seafood?";
    let search = [
        "memories",
        "search",
        &agent,
        question,
        "--user",
        &user,
        "--explain",
        "--json",
    ];
    let found = until(60, "the memory is found by its meaning", || async {
        let found = mesh.cli(&search).await.json();
        (found["items"][0]["memory"]["id"] == id).then_some(found)
    })
    .await;
    assert!(found["items"][0]["scores"]["vector"].as_f64() > Some(0.2), "{found}");
    let explained = mesh.cli(&search[..search.len() - 1]).await;
    assert!(
        explained.stdout.contains("meaning 0.") && explained.stdout.contains("(place 1)"),
        "{explained:?}"
    );

    let http = mesh.http();
    let path = format!("/api/v1/memories/{id}");
    let change = |tag: &str| {
        let request = http.request(Method::PATCH, &path).header("If-Match", tag.to_owned());
        send(request.json(&json!({"content": "Priya may eat prawns again"})))
    };
    assert_eq!(change("\"1\"").await.expect(200)["version"], 2);
    assert_eq!(change("\"1\"").await.expect(412)["type"], "memory/memory-stale");
    let history = mesh.cli(&["memories", "show", id, "--history", "--json"]).await.json();
    assert_eq!(
        history["items"][0]["content"], "Priya breaks out in hives after eating prawns",
        "{history}"
    );
    let listed = http.get(&format!("/api/v1/memories?user={user}")).await;
    assert_eq!(items(&listed).len(), 1, "{listed}");

    is_forgotten(mesh, &user, id).await;
    let status = mesh.cli(&["memories", "status", "--json"]).await.json();
    assert_eq!(
        (&status["available"], &status["dimensions"]),
        (&json!(true), &json!(384)),
        "{status}"
    );
}

/// Counted first, then for good, with a receipt that says nothing of it.
async fn is_forgotten(mesh: &Mesh, user: &str, id: &str) {
    let counted = mesh
        .cli(&["memories", "forget", "--user", user, "--dry-run", "--json"])
        .await
        .json();
    assert_eq!((&counted["forgotten"], &counted["dry_run"]), (&json!(1), &json!(true)));
    let receipt = mesh
        .cli(&["memories", "forget", "--user", user, "--yes", "--json"])
        .await
        .json();
    assert_eq!(receipt["forgotten"], 1, "{receipt}");
    assert_eq!(receipt["ids_sha256"].as_str().map(str::len), Some(64), "{receipt}");
    assert!(
        !receipt.to_string().contains("Priya") && !receipt.to_string().contains(id),
        "{receipt}"
    );
    let gone = mesh.cli(&["memories", "show", id]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

#[tokio::test]
async fn documents_are_added_by_hand_and_by_http_and_searched_with_citations() {
    let mesh = Mesh::shared().await;
    let (http, base) = (mesh.http(), unique("handbook"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leave.md");
    let text = "# Відпустка\n\nEvery employee gets thirty days of holiday a year.\n\n## Sick days\n\nTell the lead before nine.\n";
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let added = mesh.cli(&["knowledge", "add", &base, &path, "--json"]).await.json();
    assert_eq!(
        (&added["items"][0]["state"], &added["items"][0]["version"]),
        (&json!("ready"), &json!(1)),
        "{added}"
    );
    let again = mesh.cli(&["knowledge", "add", &base, &path, "--json"]).await.json();
    assert_eq!(again["items"][0]["version"], 1, "the same bytes change nothing");

    let page =
        "<html><title>Travel</title><body><h1>Travel</h1><p>Cabs are paid for after ten at night.</p></body></html>";
    let route = format!("/api/v1/knowledge/{base}/documents");
    let raw = http.request(Method::POST, &format!("{route}?name=travel.html"));
    let html = send(raw.header("Content-Type", "text/html").body(page))
        .await
        .expect(201);
    let id = html["id"].as_str().unwrap().to_owned();
    until(60, "the page is embedded", || async {
        let document = http.get(&format!("/api/v1/knowledge/documents/{id}")).await;
        (document["state"] == "ready").then_some(())
    })
    .await;
    assert_eq!(items(&http.get(&route).await).len(), 2);

    let found = mesh
        .cli(&["knowledge", "search", &base, "how much vacation do I get?", "--json"])
        .await
        .json();
    let hit = &found["items"][0];
    assert_eq!(
        (&hit["citation"]["name"], &hit["citation"]["headings"]),
        (&json!("leave.md"), &json!(["Відпустка"])),
        "{found}"
    );
    // The citation points into the text as it was read, in characters.
    let document = hit["citation"]["document"].as_str().unwrap();
    let whole = http.get(&format!("/api/v1/knowledge/documents/{document}/text")).await;
    assert_eq!(cut(&whole, &hit["citation"]), hit["text"].as_str().unwrap(), "{whole}");
    let cited = mesh.cli(&["knowledge", "search", &base, "who pays for a taxi?"]).await;
    assert!(cited.stdout.contains("travel.html › Travel"), "{cited:?}");

    // The base is of this tenant alone.
    let body = json!({"bases": [base], "query": "holiday"});
    let elsewhere = http
        .tenant("daarion")
        .post("/api/v1/knowledge/search", &body)
        .await
        .expect(200);
    assert_eq!(elsewhere["items"], json!([]));
    let deleted = mesh.cli(&["knowledge", "delete", &id]).await;
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
    let rest = mesh.cli(&["knowledge", "list", &base, "--json"]).await.json();
    assert_eq!(items(&rest).len(), 1, "{rest}");
}

fn cut(whole: &Value, citation: &Value) -> String {
    let at = |name: &str| usize::try_from(citation[name].as_u64().unwrap()).unwrap();
    let text = whole["text"].as_str().unwrap();
    text.chars().skip(at("start")).take(at("end") - at("start")).collect()
}
