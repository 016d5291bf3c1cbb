//! Backup, wipe, restore: everything of a mesh is back on other servers, what was open goes on, nothing is there twice.

mod broken;
mod world;

use serde_json::{Value, json};

use crate::harness::{Http, Mesh, until};
use world::{World, environment, nats_of};

/// A start, a copy and a stop of everything take seconds each on a machine that is busy with other tests.
const SOON: u64 = 90;

#[tokio::test]
async fn all_of_a_mesh_is_back_after_a_wipe_with_what_was_open_queued_and_not_yet_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (hot, cold) = (folder.path().join("hot.tar"), folder.path().join("cold.tar"));
    let (hot, cold) = (hot.to_str().unwrap(), cold.to_str().unwrap());
    let mesh = Mesh::up_with(&environment()).await;
    let world = World::build(&mesh).await;
    let (told, accepted) = world.back_up_under_load(&mesh, hot).await;
    assert!(
        told["tables"]["execution.invocation"].as_u64() >= Some(accepted.len() as u64),
        "{told}"
    );
    // Its servers live on, nobody takes anything in: what comes now only NATS holds.
    let nats = nats_of(&mesh).await;
    mesh.kill_9_alone();
    for number in 0..3 {
        let body = json!({"payload": {"text": format!("{} {number}", world.marker)}}).to_string();
        let subject = format!("mesh.invoke.default.{}", world.echo);
        nats.request(subject, body.into()).await.expect("it is accepted");
    }
    let copied = mesh.cli(&["backup", "--to", cold, "--json"]).await.json();
    assert!(copied["streams"]["INVOCATIONS"].as_u64() >= Some(3), "{copied}");
    assert_eq!(
        std::fs::metadata(cold).unwrap().permissions(),
        std::fs::metadata(hot).unwrap().permissions()
    );
    drop(mesh);

    let other = Mesh::prepare(&environment());
    let restored = other.cli(&["restore", hot, "--json"]).await.json();
    assert_eq!(restored["tables"], told["tables"]);
    other.start(&[]).await;
    let http = other.http().key(&world.key);
    for id in &accepted {
        assert_eq!(
            http.until_ended(id).await["state"],
            "completed",
            "accepted before the copy began"
        );
    }
    let down = other.cli(&["down"]).await;
    assert_eq!(down.code, Some(0), "{down:?}");

    let refused = other.cli(&["restore", cold]).await;
    assert!(
        refused.code == Some(1) && refused.stderr.contains("there is a mesh already"),
        "{refused:?}"
    );
    let replaced = other.cli(&["restore", cold, "--replace", "--yes", "--json"]).await;
    assert_eq!(replaced.json()["tables"], copied["tables"]);
    other.start(&[]).await;
    world.compare(&http).await;
    goes_on(&world, &http).await;
    nothing_twice(&other, &world).await;
    let audit = other.cli(&["audit", "verify"]).await;
    assert!(audit.code == Some(0) && audit.stdout.contains("intact"), "{audit:?}");
    let doctor = other.cli(&["doctor"]).await;
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
}

/// What waited, was held or lay in the inbox comes to its end.
async fn goes_on(world: &World, http: &Http) {
    let slept = http.until_ended(&world.sleeping).await;
    assert_eq!(slept["state"], "completed", "{slept}");
    let path = format!("/api/v1/invocations/{}", world.listening);
    assert_eq!(http.get(&path).await["state"], "waiting");
    let signal = json!({"name": "paid", "value": 12});
    http.post(&format!("{path}/signal"), &signal).await.expect(200);
    let heard = http.until_ended(&world.listening).await;
    assert!(heard["output"].to_string().contains("12"), "{heard}");
    let asked = until(SOON, "the question to a person is there", || async {
        let approvals = http.get("/api/v1/approvals").await;
        let items = approvals["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|one| one["invocation"] == world.asking.as_str())
    })
    .await;
    let id = asked["id"].as_str().unwrap();
    let deny = json!({"decision": "deny"});
    http.post(&format!("/api/v1/approvals/{id}"), &deny).await.expect(200);
    http.until_ended(&world.asking).await;
    let held = http.get(&format!("/api/v1/invocations/{}", world.held)).await;
    assert_eq!(held["state"], "queued", "its agent is paused");
    let resume = format!("/api/v1/agents/{}/resume", world.paused);
    http.post(&resume, &json!({})).await.expect(200);
    assert_eq!(http.until_ended(&world.held).await["state"], "completed");
}

/// Each message that lay in the inbox became one invocation, each end is one, each event is one in the outboxes.
async fn nothing_twice(mesh: &Mesh, world: &World) {
    let pool = mesh.database().await;
    let taken = "SELECT count(*) FROM execution.invocation JOIN execution.ended ON ended.invocation = invocation.id
        WHERE position($1 IN convert_from(input, 'UTF8')) > 0";
    let marker = &world.marker;
    let count = || async {
        sqlx::query_scalar::<_, i64>(taken)
            .bind(marker)
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    until(SOON, "what lay in the inbox is done", || async {
        (count().await >= 3).then_some(())
    })
    .await;
    let told: Value = mesh.cli(&["services", "--json"]).await.json();
    assert!(!told["items"].as_array().unwrap().is_empty());
    assert_eq!(count().await, 3);
    let dead = "SELECT count(*) FROM execution.dead_letter WHERE subject LIKE '%' || $1";
    let dead: i64 = sqlx::query_scalar(dead)
        .bind(&world.nobody)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(dead, 1);
}
