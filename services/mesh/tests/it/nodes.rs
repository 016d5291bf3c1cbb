//! `mesh nodes` and `mesh node drain` against a whole mesh, with a node that reports over HTTP.

use serde_json::{Value, json};

use crate::support::{Home, text, told};

async fn say(http: &str, what: &str, body: &Value) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{http}/api/runtimes/v1/agent-nodes/{what}");
    let response = client.post(url).json(body).send().await.unwrap();
    let status = response.status();
    let answer = response.text().await.unwrap();
    assert!(status.is_success(), "{status} {answer}");
    serde_json::from_str(&answer).unwrap()
}

#[tokio::test]
async fn nodes_are_listed_shown_drained_and_forgotten() {
    let home = Home::new();
    home.done(&["up", "--detach"]);
    let status = home.json(&["status"]);
    let http = status["http"].as_str().unwrap().trim_end_matches('/');
    let none = home.run(&["nodes"]);
    assert!(
        text(&none.stderr).contains("mesh node makes this machine one"),
        "{}",
        told(&none)
    );

    let minted = say(http, "register", &json!({"name": "Cellar"})).await;
    let minted = minted["agent_node"]["node_id"].as_str().unwrap().to_owned();
    assert!(minted.starts_with("nod_"), "{minted}");
    let kitchen = json!({"node_id": "kitchen", "slots": 3, "labels": {"region": "eu"}, "mode": "shared"});
    assert_eq!(
        say(http, "register", &kitchen).await["agent_node"]["node_id"],
        "kitchen"
    );
    let beat = say(
        http,
        "heartbeat",
        &json!({"node_id": "kitchen", "running": 1, "interval_seconds": 60}),
    )
    .await;
    assert_eq!(
        (&beat["taken"], &beat["agent_node"]["status"]),
        (&json!(true), &json!("online"))
    );

    let table = home.done(&["nodes"]);
    let line = |id: &str| {
        table
            .lines()
            .find(|line| line.starts_with(id))
            .unwrap_or_else(|| panic!("{table}"))
    };
    let of = |id: &str| line(id).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of("kitchen")[..6], ["kitchen", "dev", "shared", "online", "3", "1"]);
    assert_eq!(of(&minted)[1..5], ["Cellar", "dev", "private", "registered"]);
    assert_eq!(home.json(&["nodes"])["items"].as_array().unwrap().len(), 2);

    assert!(home.done(&["node", "drain", "kitchen"]).contains("kitchen drains"));
    assert_eq!(home.json(&["nodes", "show", "kitchen"])["drained"], true);
    assert!(home.done(&["get", "nodes", "kitchen"]).contains("online, drained"));
    home.done(&["node", "undrain", "kitchen"]);
    assert_eq!(home.json(&["nodes", "show", "kitchen"])["drained"], false);
    let shown = home.done(&["nodes", "show", "kitchen"]);
    assert!(
        shown.contains("region=eu") && shown.contains("dev of tenant default"),
        "{shown}"
    );

    assert!(home.done(&["nodes", "forget", "kitchen"]).contains("kitchen forgotten"));
    let gone = home.run(&["node", "drain", "kitchen"]);
    assert_eq!(gone.status.code(), Some(1), "{}", told(&gone));
    assert!(text(&gone.stderr).contains("next: mesh nodes"), "{}", told(&gone));
    let wrong = home.run(&["node", "drain", "a.b"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", told(&wrong));
}
