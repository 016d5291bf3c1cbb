//! One invocation by a message in a channel, and all that must be true of it after whatever happened.

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Mesh, kinds, unique};
use crate::readme::{CHANNEL_STEPS, invocation_of};

const TENANT: &str = "daarion";

/// One invocation by a message in a channel of its own.
pub(crate) struct Trial {
    channel: String,
    pub(crate) marker: String,
}

impl Trial {
    pub(crate) async fn publish(mesh: &Mesh) -> Self {
        let trial = Self::prepare(mesh).await;
        trial.ask(mesh).await;
        trial
    }

    /// The user's message is there before the agent is asked.
    pub(crate) async fn prepare(mesh: &Mesh) -> Self {
        let trial = Self {
            channel: unique("channel"),
            marker: unique("said"),
        };
        let path = format!("/api/v1/channels/{}/messages", trial.channel);
        let http = mesh.http().tenant(TENANT);
        http.post(&path, &json!({"text": trial.marker})).await.expect(201);
        trial
    }

    /// Returns when the ask is in the stream for good.
    pub(crate) async fn ask(&self, mesh: &Mesh) {
        let body = json!({"agent_id": "agent:sofia", "entrypoint": "channel_message",
            "payload": {"channel_id": self.channel, "microdao_id": "microdao:daarion"}});
        let client = mesh.nats().await;
        let ack = client.request("router.invoke.agent", body.to_string().into()).await;
        assert!(ack.expect("a PubAck").payload.starts_with(b"{\"stream\""));
    }

    /// Ended once, replied once, asked the model so often, remembered once; answers how many records it took.
    pub(crate) async fn check(&self, mesh: &Mesh, calls_expected: usize, at: &str) -> i32 {
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
        assert_eq!(calls.len(), calls_expected, "{at}: calls of the model: {calls:?}");
        assert!(
            calls.iter().all(|call| call.key == format!("{id}/3")),
            "{at}: {calls:?}"
        );
        let messages = http.messages(&self.channel).await;
        assert_eq!(messages.len(), 2, "{at}: {messages:?}");
        self.check_rows(&mesh.database().await, at).await
    }

    /// Under which claim a step was recorded; 1 is the first.
    pub(crate) async fn epoch_of(&self, pool: &PgPool, step: i32) -> i32 {
        let epoch = sqlx::query_scalar(
            "SELECT r.epoch FROM execution.record r JOIN execution.invocation i ON i.id = r.invocation \
             WHERE r.kind = 'done' AND r.step = $2 AND position($1::bytea IN i.input) > 0",
        );
        let epoch = epoch.bind(self.channel.as_bytes()).bind(step).fetch_one(pool);
        epoch.await.unwrap()
    }

    async fn check_rows(&self, pool: &PgPool, at: &str) -> i32 {
        let ids: Vec<String> =
            sqlx::query_scalar("SELECT id::text FROM execution.invocation WHERE position($1::bytea IN input) > 0")
                .bind(self.channel.as_bytes())
                .fetch_all(pool)
                .await
                .unwrap();
        assert_eq!(ids.len(), 1, "{at}: accepted once");
        let rows: Vec<(i32, String)> =
            sqlx::query_as("SELECT seq, kind FROM execution.record WHERE invocation = $1::uuid ORDER BY seq")
                .bind(&ids[0])
                .fetch_all(pool)
                .await
                .unwrap();
        let gapless = rows.iter().zip(1..).all(|((seq, _), expected)| *seq == expected);
        assert!(gapless, "{at}: {rows:?}");
        let of = |kind: &str| rows.iter().filter(|(_, other)| other == kind).count();
        assert_eq!((of("accepted"), of("done"), of("ended")), (1, 5, 1), "{at}: {rows:?}");
        let open: i64 = count(
            pool,
            "SELECT count(*) FROM execution.open WHERE invocation = $1::uuid",
            &ids[0],
        )
        .await;
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
