//! What operators do with a fleet: drain, roll out, scale, and say whom a node works for.

use serde_json::{Value, json};

use super::ground::{Ground, spec};
use super::nodes::Order;
use crate::harness::{unique, until};

const QUICK: &str = "echo '{}'";

async fn answered_by(ground: &Ground, agent: &str) -> (String, Value) {
    let id = ground.invoke(agent).await;
    let ended = ground.completed(&id).await;
    (ground.holders(&id).await.pop().expect("a holder"), ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_is_left_without_a_pause_and_takes_work_again_afterwards() {
    let ground = Ground::up().await;
    let agent = ground.agent(1, QUICK, "idempotent", "").await;
    let (one, two) = (ground.node("one", 4).await, ground.node("two", 4).await);
    let (first, _) = answered_by(&ground, &agent).await;
    let other = if first == one.id { &two.id } else { &one.id };
    let path = format!("/api/v1/nodes/{first}/drain");
    let drained = ground.http.post(&path, &json!({})).await;
    assert!(drained.status < 300, "{}", drained.text);
    until(30, "its replicas have moved", || async {
        ground.replicas_on(&first).await.is_empty().then_some(())
    })
    .await;
    let (now, _) = answered_by(&ground, &agent).await;
    assert_eq!(now, *other);
    let back = ground.http.post(&path, &json!({"drained": false})).await;
    assert!(back.status < 300, "{}", back.text);
    ground
        .http
        .post(&format!("/api/v1/nodes/{other}/drain"), &json!({}))
        .await;
    until(30, "it takes work again", || async {
        (answered_by(&ground, &agent).await.0 == first).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_is_rolled_through_and_a_bad_one_is_not() {
    let ground = Ground::up().await;
    let _node = ground.node("one", 8).await;
    let name = unique("agent");
    let placement = json!({"replicas": 2, "rollout": {"surge": 1, "unavailable": 0, "health_seconds": 10}});
    ground
        .publish(&name, &spec("echo '{\"v\":1}'", "idempotent", &placement))
        .await;
    let (_, ended) = answered_by(&ground, &name).await;
    assert_eq!(ended["output"]["v"], 1, "{ended}");
    ground
        .publish(&name, &spec("echo '{\"v\":2}'", "idempotent", &placement))
        .await;
    until(30, "the new version answers", || async {
        (answered_by(&ground, &name).await.1["output"]["v"] == 2).then_some(())
    })
    .await;
    until(30, "both replicas are of it", || async {
        let versions = versions(&ground, &name).await;
        (versions == [2, 2]).then_some(())
    })
    .await;
    // No machine has this program: its replicas fail their health.
    let mut broken = spec("", "idempotent", &placement);
    broken["script"]["command"] = json!(["no-such-program-anywhere"]);
    ground.publish(&name, &broken).await;
    until(60, "it is rolled back, and says so", || async {
        let brain = ground.http.get("/api/v1/passes?limit=50").await;
        brain.to_string().contains("roll_back").then_some(())
    })
    .await;
    let (_, ended) = answered_by(&ground, &name).await;
    assert_eq!(
        (&ended["output"]["v"], &ended["version"]),
        (&json!(2), &json!(2)),
        "{ended}"
    );
}

async fn versions(ground: &Ground, agent: &str) -> Vec<u64> {
    let replicas = ground.replicas().await;
    let ready = replicas
        .iter()
        .filter(|replica| replica["agent"] == agent && replica["state"] == "ready");
    ready
        .map(|replica| replica["version"].as_u64().expect("a version"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_scales_with_its_queue_and_to_nothing_without_one() {
    let ground = Ground::up().await;
    let _node = ground.node("one", 8).await;
    let name = unique("agent");
    let scaling = json!({"min": 0, "max": 3, "queue_per_replica": 1, "idle_seconds": 3});
    ground
        .publish(
            &name,
            &spec("sleep 2; echo '{}'", "idempotent", &json!({"autoscaling": scaling})),
        )
        .await;
    let count = || async {
        let replicas = ground.replicas().await;
        replicas
            .iter()
            .filter(|replica| replica["agent"] == name.as_str())
            .count()
    };
    let mut asked = Vec::new();
    for _ in 0..9 {
        asked.push(ground.invoke(&name).await);
    }
    until(30, "it has three replicas", || async {
        (count().await == 3).then_some(())
    })
    .await;
    for id in &asked {
        ground.completed(id).await;
    }
    until(60, "it has none", || async { (count().await == 0).then_some(()) }).await;
    let again = ground.invoke(&name).await;
    ground.completed(&again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_works_for_whom_its_mode_says() {
    let ground = Ground::up().await;
    let made = ground.http.post("/api/v1/keys", &json!({"owner": "bob"})).await.body;
    let bob = ground.mesh.http().key(made["secret"].as_str().expect("a secret"));
    let of_bob = |mode: &'static str, token: String| Order {
        id: unique(mode),
        url: ground.http.base().to_owned(),
        token,
        slots: 4,
        of: String::new(),
        mode,
    };
    let token = bob.post("/api/v1/join-tokens", &json!({})).await.body;
    let token = token["secret"].as_str().expect("a secret").to_owned();
    let private = ground.start(&of_bob("private", token.clone()));
    let sleeping = ground.start(&Order {
        mode: "sleep",
        ..ground.order("sleep", 4).await
    });
    ground.until_status(&sleeping.id, "online", 30).await;
    until(30, "bob sees his node", || async {
        let answer = bob.try_get(&format!("/api/v1/nodes/{}", private.id)).await?;
        (answer.body["status"] == "online").then_some(())
    })
    .await;
    assert_eq!(ground.status(&private.id).await, None, "admin does not see it");
    let agent = ground.agent(1, QUICK, "idempotent", "").await;
    let waits = ground.invoke(&agent).await;
    until(30, "nobody fits, and the mesh says so", || async {
        let brain = ground.http.get("/api/v1/brain/state").await;
        brain["drift"].to_string().contains(&agent).then_some(())
    })
    .await;
    assert!(
        ground.holders(&waits).await.is_empty(),
        "neither bob's private node nor a sleeping one takes it"
    );
    let shared = ground.start(&of_bob("shared", token));
    ground.completed(&waits).await;
    assert_eq!(ground.holders(&waits).await, std::slice::from_ref(&shared.id));
    ground.until_status(&shared.id, "online", 30).await;
}
