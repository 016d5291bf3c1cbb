//! Agents that remember: what many conversations condense to, and documents that reach the prompt with their names.

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{Http, Mesh, items, kinds, unique, until};

const FACT: &str = "Ann takes her tea with milk.";

/// One mesh for both; its model condenses whatever it is asked.
async fn mesh() -> &'static Mesh {
    static SHARED: OnceCell<Mesh> = OnceCell::const_new();
    let start = || async {
        let facts = json!({"facts": [
            {"content": FACT, "importance": 0.9, "tags": ["ann"], "sources": [1, 3]}]});
        let scripts = json!({"facts": [{"text": facts.to_string()}]});
        Mesh::up_with(&[
            ("MESH_INFERENCE__MOCK_SCRIPTS", scripts.to_string()),
            ("MESH_MEMORY__CONSOLIDATE_TICK_MS", "200".to_owned()),
        ])
        .await
    };
    SHARED.get_or_init(start).await
}

async fn agent(http: &Http, model: &str, memory: Value) -> String {
    let name = unique("rememberer");
    let spec = json!({"model": {"name": model}, "memory": memory});
    let agent = json!({"metadata": {"name": name}, "spec": spec});
    http.post("/api/v1/agents", &agent).await.expect(201);
    let publish = format!("/api/v1/agents/{name}/publish");
    http.post(&publish, &json!({})).await.expect(200);
    name
}

async fn say(http: &Http, agent: &str, text: &str) -> Value {
    let body = json!({"payload": {"text": text}, "context": {"user": "ann"}});
    let ended = http.invoke(agent, "?wait=40", &body).await.expect(200);
    assert_eq!(ended["state"], "completed", "{ended}");
    ended
}

async fn memories(http: &Http, agent: &str, kind: &str) -> Vec<Value> {
    items(&http.get(&format!("/api/v1/memories?agent={agent}&type={kind}")).await)
}

#[tokio::test]
async fn many_conversations_become_a_fact_by_an_invocation_of_the_agent_itself() {
    let mesh = mesh().await;
    let http = mesh.http();
    let memory = json!({"query_top_k": 3, "writeback": true, "consolidate_after": 3});
    let agent = agent(&http, "mock:script:facts", memory).await;
    for said in ["I like tea", "The weather is fine", "With milk, please"] {
        say(&http, &agent, said).await;
    }
    let facts = until(60, "the memories are condensed", || async {
        let facts = memories(&http, &agent, "semantic").await;
        (!facts.is_empty()).then_some(facts)
    })
    .await;
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert_eq!(facts[0]["content"], FACT);
    let invocation = facts[0]["source"]["invocation"].as_str().unwrap();
    let ended = http.until_ended(invocation).await;
    assert_eq!(ended["entrypoint"], "memory.consolidate", "{ended}");
    assert_eq!(
        (&ended["state"], &ended["output"]),
        (&json!("completed"), &json!({"facts": 1}))
    );

    let steps = http.steps(invocation).await;
    assert_eq!(kinds(&steps), ["context.memories", "model", "memory.store"]);
    assert!(
        steps[1]["output"]["text"]
            .as_str()
            .is_some_and(|text| text.contains(FACT)),
        "{}",
        steps[1]
    );
    let mut episodes = memories(&http, &agent, "episodic").await;
    assert_eq!(episodes.len(), 3, "the sources stay: {episodes:?}");
    episodes.reverse();
    let sources = json!([episodes[0]["id"], episodes[2]["id"]]);
    assert_eq!(steps[2]["input"]["derived_from"], sources, "{}", steps[2]);
    let pool = mesh.database().await;
    let derived: i64 = sqlx::query_scalar("SELECT count(*) FROM memory.derived")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(derived, 2);

    // It is a recording as any other.
    let replay = http
        .post(&format!("/api/v1/invocations/{invocation}/replay"), &json!({}))
        .await;
    let replay = replay.expect(200);
    assert_eq!(replay["divergences"], json!([]), "{replay}");
    // What was condensed is found by the next conversation.
    let next = say(&http, &agent, "tea with milk for Ann").await;
    let steps = http.steps(next["id"].as_str().unwrap()).await;
    assert!(steps[0]["output"].to_string().contains(FACT), "{}", steps[0]);
}

#[tokio::test]
async fn a_passage_of_a_document_reaches_the_prompt_with_the_name_to_cite_it_by() {
    let http = mesh().await.http();
    let base = unique("base");
    let text =
        "# Travel\n\nBook early.\n\n## Refunds\n\nA train that is an hour late is refunded by half of its fare.\n";
    let document = json!({"name": "handbook.md", "media_type": "text/markdown", "text": text});
    let added = http
        .post(&format!("/api/v1/knowledge/{base}/documents"), &document)
        .await;
    added.expect(201);
    let memory = json!({"query_top_k": 0, "writeback": false, "knowledge": [base]});
    let agent = agent(&http, "mock", memory).await;
    let ended = say(&http, &agent, "Is a late train refunded?").await;
    let steps = http.steps(ended["id"].as_str().unwrap()).await;
    assert_eq!(kinds(&steps), ["context.memories", "model"]);
    let found = &steps[0]["output"]["knowledge"][0];
    assert_eq!(found["citation"]["name"], "handbook.md", "{}", steps[0]);
    let prompt = steps[1]["input"].to_string();
    assert!(prompt.contains("[handbook.md › Travel › Refunds]"), "{prompt}");
    assert!(prompt.contains("half of its fare"), "{prompt}");
}
