//! The whole mesh process dies right after each single record is committed, and starts again: the invocation ends
//! once, and no recorded step runs again.

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Mesh, kinds, unique, until};
use crate::readme::{CHANNEL_STEPS, invocation_of};

const ABORT: &str = "MESH_EXECUTION__ABORT_AFTER_SEQ";
const TENANT: &str = "daarion";

/// One invocation by a message in a channel of its own.
struct Trial {
    channel: String,
    marker: String,
}

impl Trial {
    /// The user's message is there before the agent is asked, and the ask is in the stream for good.
    async fn publish(mesh: &Mesh) -> Self {
        let trial = Self {
            channel: unique("channel"),
            marker: unique("said"),
        };
        let path = format!("/api/v1/channels/{}/messages", trial.channel);
        let http = mesh.http().tenant(TENANT);
        http.post(&path, &json!({"text": trial.marker})).await.expect(201);
        let body = json!({"agent_id": "agent:sofia", "entrypoint": "channel_message",
            "payload": {"channel_id": trial.channel, "microdao_id": "microdao:daarion"}});
        let client = mesh.nats().await;
        let ack = client.request("router.invoke.agent", body.to_string().into()).await;
        assert!(ack.expect("a PubAck").payload.starts_with(b"{\"stream\""));
        trial
    }

    /// Ended once, replied once, asked the model once, remembered once; answers how many records it took.
    async fn check(&self, mesh: &Mesh, at: &str) -> i32 {
        let http = mesh.http().tenant(TENANT);
        let replies = http.replies(&self.channel).await;
        assert_eq!(replies.len(), 1, "{at}: {replies:?}");
        let id = invocation_of(&replies[0]);
        let ended = http.until_ended(&id).await;
        assert_eq!(ended["state"], "completed", "{at}: {ended}");
        let steps = http.steps(&id).await;
        assert_eq!(kinds(&steps), CHANNEL_STEPS, "{at}");
        assert!(steps.iter().all(|step| step["error"].is_null()), "{at}: {steps:?}");
        let calls = mesh.model.calls(&self.marker);
        assert_eq!(calls.len(), 1, "{at}: the model was asked more than once: {calls:?}");
        let messages = http.messages(&self.channel).await;
        assert_eq!(messages.len(), 2, "{at}: {messages:?}");
        self.check_rows(&mesh.database().await, at).await
    }

    async fn check_rows(&self, pool: &PgPool, at: &str) -> i32 {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id::text FROM execution.invocation WHERE position($1::bytea IN input) > 0",
        )
        .bind(self.channel.as_bytes())
        .fetch_all(pool)
        .await
        .unwrap();
        assert_eq!(ids.len(), 1, "{at}: accepted once");
        let rows: Vec<(i32, String)> = sqlx::query_as(
            "SELECT seq, kind FROM execution.record WHERE invocation = $1::uuid ORDER BY seq",
        )
        .bind(&ids[0])
        .fetch_all(pool)
        .await
        .unwrap();
        let gapless = rows.iter().zip(1..).all(|((seq, _), expected)| *seq == expected);
        assert!(gapless, "{at}: {rows:?}");
        let of = |kind: &str| rows.iter().filter(|(_, other)| other == kind).count();
        assert_eq!((of("accepted"), of("done"), of("ended")), (1, 5, 1), "{at}: {rows:?}");
        let open: i64 = count(pool, "SELECT count(*) FROM execution.open WHERE invocation = $1::uuid", &ids[0]).await;
        assert_eq!(open, 0, "{at}");
        let memories = "SELECT count(*) FROM memory.memory WHERE position($1 IN content) > 0";
        assert_eq!(count(pool, memories, &self.marker).await, 1, "{at}");
        i32::try_from(rows.len()).expect("a few")
    }
}

async fn count(pool: &PgPool, query: &'static str, value: &str) -> i64 {
    let counted = sqlx::query_scalar(query).bind(value).fetch_one(pool).await;
    counted.unwrap()
}

#[tokio::test]
async fn a_kill_after_any_record_leads_to_one_end_and_repeats_no_recorded_step() {
    let mesh = Mesh::up().await;
    let undisturbed = Trial::publish(&mesh).await;
    let records = undisturbed.check(&mesh, "undisturbed").await;
    assert!(records >= 8, "accepted, claimed, five steps, ended: {records}");
    for seq in 1..=records {
        mesh.kill_9();
        mesh.start(&[(ABORT, &seq.to_string())]).await;
        let trial = Trial::publish(&mesh).await;
        mesh.until_dead().await;
        mesh.kill_9();
        mesh.start(&[]).await;
        let at = format!("killed after record {seq} of {records}");
        let took = trial.check(&mesh, &at).await;
        println!("{at}: ended once, after {took} records");
    }
    // What was before still stands.
    let pool = mesh.database().await;
    let ends: (i64, i64) = sqlx::query_as("SELECT count(*), count(DISTINCT invocation) FROM execution.record WHERE kind = 'ended'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(ends, (i64::from(records) + 1, i64::from(records) + 1));
    until(10, "nothing is open any more", || async {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM execution.open").fetch_one(&pool).await.ok()?;
        (open == 0).then_some(())
    })
    .await;
}
