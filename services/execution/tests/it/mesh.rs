//! Servers, neighbours and a client of one test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_api::execution::{
    Empty, ExecutionStatus, ExecutionStatusView, Invocation, InvocationGet, InvocationRequest, InvokeRequest,
};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bus, BusOptions, Headers, ServiceHandle, Stored, topology};
use mesh_testkit::{TestDatabase, TestNats, wait_until};
use mesh_types::{InvocationId, Problem, Subject};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::process::{Process, config};
use crate::world::{SLOW, World};

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Mesh {
    pub(crate) nats: TestNats,
    pub(crate) database_url: String,
    pub(crate) bus: Bus,
    pub(crate) pool: PgPool,
    pub(crate) world: Arc<World>,
    _services: Vec<ServiceHandle>,
    _database: Option<TestDatabase>,
}

impl Mesh {
    /// Everything but `execution`.
    pub(crate) async fn without() -> Self {
        let database = TestDatabase::create().await;
        let url = database.url().to_owned();
        Self::on(url, Some(database)).await
    }

    pub(crate) async fn on(database_url: String, database: Option<TestDatabase>) -> Self {
        let nats = TestNats::start().await;
        let bus = connect(&nats).await;
        bus.apply_topology(&topology::standard()).await.unwrap();
        let world = Arc::new(World::default());
        world.publish(
            "default",
            "noop",
            &json!({"runtime": "noop", "limits": {"concurrency": 64}}),
        );
        world.publish("default", "talker", &talker("fast", 64));
        world.publish("default", "slow", &talker(SLOW, 64));
        world.publish("default", "narrow", &talker(SLOW, 2));
        let services = world.serve(&bus).await;
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(&database_url)
            .unwrap();
        Self {
            nats,
            database_url,
            bus,
            pool,
            world,
            _services: services,
            _database: database,
        }
    }

    /// With one process, which owns every shard.
    pub(crate) async fn start() -> (Self, Process) {
        let mesh = Self::without().await;
        let process = mesh.process("one").await;
        mesh.owned_by(&[("one", 16)]).await;
        (mesh, process)
    }

    pub(crate) async fn process(&self, instance: &str) -> Process {
        Process::start(self.nats.url(), config(&self.database_url, instance)).await
    }

    /// Waits until each process owns so many shards.
    pub(crate) async fn owned_by(&self, wanted: &[(&str, i64)]) {
        wait_until(SOON, || async {
            let owners: Vec<(String, i64)> =
                sqlx::query_as("SELECT owner, count(*) FROM execution.shard GROUP BY owner ORDER BY owner")
                    .fetch_all(&self.pool)
                    .await
                    .unwrap_or_default();
            owners
                .iter()
                .map(|(owner, count)| (owner.as_str(), *count))
                .eq(wanted.iter().copied())
        })
        .await;
    }

    pub(crate) async fn ask<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        self.ask_as::<E>("default", request).await
    }

    pub(crate) async fn ask_as<E: Endpoint>(&self, tenant: &str, request: E::Request) -> Result<E::Reply, Problem> {
        let caller = Caller {
            role: None,
            tenant: tenant.parse().unwrap(),
            actor: "user:ann".into(),
            request_id: None,
        };
        self.bus.call::<E>(&caller, &request).await
    }

    pub(crate) async fn accept(
        &self,
        agent: &str,
        request: InvokeRequest,
        wait: Duration,
    ) -> Result<Invocation, Problem> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap();
        let request = mesh_api::execution::AcceptRequest {
            agent: agent.parse().unwrap(),
            request,
            wait_ms,
        };
        self.ask::<mesh_api::execution::InvocationAccept>(request).await
    }

    /// `nats req mesh.call.default.<agent>`: the first answer, as JSON.
    pub(crate) async fn call(&self, agent: &str, body: &str) -> Value {
        let messages = self
            .request(
                &format!("mesh.call.default.{agent}"),
                body.as_bytes().to_vec().into(),
                |_| true,
            )
            .await;
        serde_json::from_slice(&messages[0]).unwrap()
    }

    /// `nats pub SUBJECT BODY` with any bytes whatever, waiting for the PubAck of the stream.
    pub(crate) async fn publish_raw(&self, subject: &str, body: impl Into<Bytes>) {
        let acks = self.request(subject, body.into(), |_| true).await;
        let ack: Value = serde_json::from_slice(&acks[0]).unwrap();
        assert_eq!(ack["stream"], "INVOCATIONS", "{ack}");
    }

    /// What comes back on an inbox of our own, until `is_last` says so.
    pub(crate) async fn request(&self, subject: &str, body: Bytes, is_last: impl Fn(&Bytes) -> bool) -> Vec<Bytes> {
        let client = async_nats::connect(self.nats.url()).await.unwrap();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.unwrap();
        client
            .publish_with_reply(subject.to_owned(), inbox, body)
            .await
            .unwrap();
        client.flush().await.unwrap();
        let mut all = Vec::new();
        loop {
            let next = futures::StreamExt::next(&mut answers);
            let message = tokio::time::timeout(SOON, next)
                .await
                .expect("an answer comes")
                .unwrap();
            let last = is_last(&message.payload);
            all.push(message.payload);
            if last {
                return all;
            }
        }
    }

    /// `nats pub`, stored for good.
    pub(crate) async fn publish(&self, subject: &str, body: impl Into<Bytes>) -> Stored {
        let id = format!("test-{}", self.unique());
        self.publish_as(subject, &id, body).await
    }

    /// With this `Nats-Msg-Id`.
    pub(crate) async fn publish_as(&self, subject: &str, id: &str, body: impl Into<Bytes>) -> Stored {
        let subject: Subject = subject.parse().unwrap();
        self.bus
            .publish_durable(&subject, id, Headers::new(), body.into())
            .await
            .unwrap()
    }

    fn unique(&self) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) async fn get(&self, id: InvocationId) -> Invocation {
        self.ask::<InvocationGet>(InvocationRequest { id }).await.unwrap()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self, id: InvocationId) -> Invocation {
        wait_until(SOON, || async {
            let found = self.ask::<InvocationGet>(InvocationRequest { id }).await;
            found.is_ok_and(|invocation| invocation.state.is_ended())
        })
        .await;
        self.get(id).await
    }

    pub(crate) async fn held_models(&self, count: usize) {
        wait_until(SOON, || async { self.world.held() == count }).await;
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn invocations(&self, count: i64) {
        wait_until(SOON, || async {
            let sql = "SELECT count(*) FROM execution.invocation";
            sqlx::query_scalar::<_, i64>(sql)
                .fetch_one(&self.pool)
                .await
                .unwrap_or(-1)
                == count
        })
        .await;
    }

    /// Waits until so many have ended, and none is open.
    pub(crate) async fn all_ended(&self, count: i64) {
        wait_until(Duration::from_secs(60), || async {
            let sql = "SELECT (SELECT count(*) FROM execution.ended), (SELECT count(*) FROM execution.open)";
            sqlx::query_as(sql)
                .fetch_one(&self.pool)
                .await
                .unwrap_or((-1_i64, -1_i64))
                == (count, 0)
        })
        .await;
    }

    pub(crate) async fn all_ended_at_least(&self, count: i64) {
        wait_until(SOON, || async {
            self.count("SELECT count(*) FROM execution.ended").await >= count
        })
        .await;
    }

    pub(crate) async fn status(&self) -> ExecutionStatusView {
        self.ask::<ExecutionStatus>(Empty {}).await.unwrap()
    }
}

pub(crate) async fn connect(nats: &TestNats) -> Bus {
    let options = BusOptions {
        url: nats.url().into(),
        name: "test".into(),
        monitor_url: None,
        user: None,
    };
    let bus = Bus::connect(options).await.unwrap();
    assert!(bus.wait_connected(SOON).await);
    bus
}

/// An `llm` agent that neither reads nor writes memories.
pub(crate) fn talker(model: &str, concurrency: u32) -> Value {
    json!({
        "runtime": "llm",
        "model": {"name": model},
        "memory": {"query_top_k": 0, "writeback": false},
        "limits": {"concurrency": concurrency},
    })
}

pub(crate) fn request(body: Value) -> InvokeRequest {
    serde_json::from_value(body).unwrap()
}
