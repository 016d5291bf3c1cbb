//! A lane without services around it: commands in, committed rows and started workers out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mesh_api::execution::Invocation;
use mesh_api::journal::{Done, Effect, Ended, Fact, Outcome, StepKind, Usage};
use mesh_store::{Role, StoreOptions};
use mesh_testkit::TestDatabase;
use mesh_types::agent::{AgentSpec, SessionPolicy};
use mesh_types::{Id, InvocationId, Problem, SystemClock, Tenant, Timestamp};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::core::append::AppendThen;
use crate::core::{Holder, Meta, StoredInput};
use crate::figures::Figures;
use crate::hosted::Slots;
use crate::lane::command::{
    Accept, Accepted, Action, Append, AppendAnswer, Appended, Command, LaneHandle, NODE_LEASE, Start, Steer, Waiter,
};
use crate::lane::{Lane, LaneContext};
use crate::relay::{Committed, Marks, Outbox};
use crate::shards::ShardId;
use crate::store::ledger::PgLedger;
use crate::store::shards;

pub(super) struct Harness {
    pub(super) lane: Lane<PgLedger>,
    pub(super) pool: PgPool,
    /// Held, so that the lane has somebody to tell.
    _relay: mpsc::Receiver<Committed>,
    pub(super) started: Arc<Mutex<Vec<Start>>>,
    pub(super) lost: Arc<Mutex<Vec<ShardId>>>,
    pub(super) owner: String,
}

impl Harness {
    /// A lane of process `owner` that owns `shards`; `url` may lead through a proxy.
    pub(super) async fn new(url: &str, owner: &str, shards: &[ShardId]) -> Self {
        let options = StoreOptions {
            url: url.to_owned(),
            role: Role::Execution,
            connections_max: 4,
        };
        let pool = mesh_store::connect(&options).await.unwrap();
        let (handle, receiver) = LaneHandle::new();
        let (outbox, relay, _queued) = Outbox::new();
        let started: Arc<Mutex<Vec<Start>>> = Arc::default();
        let lost: Arc<Mutex<Vec<ShardId>>> = Arc::default();
        let (starts, losses) = (Arc::clone(&started), Arc::clone(&lost));
        let context = LaneContext {
            clock: Arc::new(SystemClock::default()),
            holder: Holder {
                node: owner.into(),
                incarnation: 1,
            },
            slots: Slots::new(1_000),
            start: Box::new(move |start| starts.lock().unwrap().push(start)),
            relay: outbox,
            lost: Box::new(move |shard, _epoch| losses.lock().unwrap().push(shard)),
            posted: Box::new(|_| {}),
            node_lease: NODE_LEASE,
            pauses: Arc::default(),
            figures: Figures::unseen(),
            relayed: Arc::new(Marks::default()),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            abort_after_seq: 0,
        };
        let lane = Lane::new(context, PgLedger::new(pool.clone()), handle, receiver);
        let mut harness = Self {
            lane,
            pool,
            _relay: relay,
            started,
            lost,
            owner: owner.to_owned(),
        };
        for shard in shards {
            harness.take_over(*shard).await;
        }
        harness
    }

    /// As the steward does it: takes the row as it is now, then loads it.
    pub(super) async fn take_over(&mut self, shard: ShardId) {
        let seen = shards::some(&self.pool, &[shard.cast_signed()])
            .await
            .unwrap()
            .remove(0);
        let row = shards::take(&self.pool, &seen, &self.owner)
            .await
            .unwrap()
            .expect("nobody else writes");
        self.lane.take(Command::Adopt(row)).await;
        self.lane.adopt_pending().await;
    }

    /// One turn: what waits is planned and committed.
    pub(super) async fn turn(&mut self) {
        let planned = self.lane.plan().await;
        self.lane.commit(planned).await;
        self.lane.answer_claims();
    }

    pub(super) async fn accept(&mut self, meta: Meta) -> oneshot::Receiver<Result<Accepted, Problem>> {
        self.accept_with(meta, None).await
    }

    pub(super) async fn accept_of(
        &mut self,
        meta: Meta,
        policy: SessionPolicy,
    ) -> oneshot::Receiver<Result<Accepted, Problem>> {
        let mut spec = AgentSpec::default();
        spec.session.policy = policy;
        self.accept_spec(meta, Arc::new(spec), None).await
    }

    pub(super) async fn accept_with(
        &mut self,
        meta: Meta,
        waiter: Option<Waiter>,
    ) -> oneshot::Receiver<Result<Accepted, Problem>> {
        self.accept_spec(meta, Arc::new(AgentSpec::default()), waiter).await
    }

    /// Where it is open, or any that is ours.
    fn shard_of(&self, id: InvocationId) -> ShardId {
        let open = self.lane.memory.open.get(&id).map(|open| open.meta.shard);
        open.or_else(|| self.lane.shards.keys().next().copied())
            .unwrap_or_default()
    }

    async fn accept_spec(
        &mut self,
        meta: Meta,
        spec: Arc<AgentSpec>,
        waiter: Option<Waiter>,
    ) -> oneshot::Receiver<Result<Accepted, Problem>> {
        let (answer, answered) = oneshot::channel();
        let accept = Accept {
            meta: Arc::new(meta),
            spec,
            id_is_given: false,
            answer,
            waiter,
            place: None,
            letter: None,
        };
        self.lane.take(Command::Accept(Box::new(accept))).await;
        answered
    }

    pub(super) async fn append(
        &mut self,
        id: InvocationId,
        epoch: u32,
        after_seq: u32,
        mut facts: Vec<Fact>,
    ) -> oneshot::Receiver<Result<Appended, AppendAnswer>> {
        let then = match facts.pop() {
            Some(Fact::Ended(ended)) => AppendThen::End(ended),
            other => {
                facts.extend(other);
                AppendThen::GoOn
            }
        };
        let (answer, answered) = oneshot::channel();
        self.lane
            .take(Command::Append(Append {
                id,
                shard: self.shard_of(id),
                epoch,
                after_seq,
                holder: None,
                facts,
                then,
                answer,
            }))
            .await;
        answered
    }

    /// As a worker that holds `epoch` and knows all up to `after_seq`.
    pub(super) async fn append_then(
        &mut self,
        (id, epoch, after_seq): (InvocationId, u32, u32),
        facts: Vec<Fact>,
        then: AppendThen,
    ) -> Result<Appended, AppendAnswer> {
        self.append_as(None, (id, epoch, after_seq), facts, then).await
    }

    pub(super) async fn append_as(
        &mut self,
        holder: Option<Holder>,
        (id, epoch, after_seq): (InvocationId, u32, u32),
        facts: Vec<Fact>,
        then: AppendThen,
    ) -> Result<Appended, AppendAnswer> {
        let (answer, answered) = oneshot::channel();
        let append = Append {
            id,
            shard: self.shard_of(id),
            epoch,
            after_seq,
            holder,
            facts,
            then,
            answer,
        };
        self.lane.take(Command::Append(append)).await;
        self.turn().await;
        self.turn().await;
        answered.await.unwrap()
    }

    pub(super) async fn steer(
        &mut self,
        id: InvocationId,
        shard: ShardId,
        action: Action,
    ) -> Result<Option<Invocation>, Problem> {
        let (answer, answered) = oneshot::channel();
        let steer = Steer {
            id,
            shard,
            tenant: Tenant::default(),
            actor: "ann".into(),
            action,
            letter: None,
            answer,
        };
        self.lane.take(Command::Steer(Box::new(steer))).await;
        // A claim of the same invocation may go first.
        self.turn().await;
        self.turn().await;
        answered.await.unwrap()
    }

    /// Ids of the workers that were started, in order.
    pub(super) fn started(&self) -> Vec<InvocationId> {
        self.started.lock().unwrap().iter().map(|start| start.meta.id).collect()
    }

    /// Accepts (and claims, as slots are free), and answers the invocation.
    pub(super) async fn open(&mut self, meta: Meta) -> Invocation {
        let answered = self.accept(meta).await;
        self.turn().await;
        match answered.await.unwrap().unwrap() {
            Accepted::New(invocation) => *invocation,
            Accepted::Known(id) => panic!("{id} was known"),
        }
    }

    /// What memory holds of a shard equals what a reload would find.
    pub(super) async fn assert_memory_is_committed_state(&mut self, shard: ShardId) {
        let memory = self.lane.memory.snapshot(shard);
        let loaded = crate::store::load::open(&mut self.pool.acquire().await.unwrap(), shard.cast_signed())
            .await
            .unwrap();
        let loaded: Vec<_> = loaded.rows.into_iter().map(|row| (row.meta.id, row.row)).collect();
        let loaded: BTreeMap<_, _> = BTreeMap::from_iter(loaded);
        let memory: BTreeMap<_, _> = BTreeMap::from_iter(memory);
        assert_eq!(memory, loaded);
        let row = shards::some(&self.pool, &[shard.cast_signed()])
            .await
            .unwrap()
            .remove(0);
        let owned = self.lane.shards[&shard];
        assert_eq!((owned.epoch, owned.batch), (row.epoch, row.batch));
    }

    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub(super) async fn records(&self) -> i64 {
        self.count("SELECT count(*) FROM execution.record").await
    }
}

pub(super) fn meta(n: u128, shard: ShardId) -> Meta {
    Meta {
        id: InvocationId::new(Timestamp::from_millis(1_795_258_800_000), n),
        tenant: Tenant::default(),
        shard,
        agent: "a".parse().unwrap(),
        version: 1,
        artifact: "0".repeat(64),
        concurrency: 1_000,
        entrypoint: "invoke".into(),
        session: None,
        key: None,
        priority: 5,
        created_at: Timestamp::from_millis(1_795_258_800_000),
        deadline_at: None,
        wake_at: None,
        request_hash: [7; 32],
        reply_to: None,
        actor: "test".into(),
        input: StoredInput::default(),
        links: None,
    }
}

pub(super) fn done(step: u32, output: serde_json::Value) -> Fact {
    Fact::Done(Box::new(Done {
        step,
        kind: StepKind::Noop,
        name: "noop".into(),
        effect: Effect::Pure,
        input: None,
        output: Some(output),
        error: None,
        usage: Usage::default(),
        attempt: 1,
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
    }))
}

pub(super) fn completed() -> Fact {
    Fact::Ended(Box::new(Ended {
        outcome: Outcome::Completed,
        reason: None,
        output: Some(serde_json::json!({"text": "ok"})),
        error: None,
        usage: Usage::default(),
        provider: None,
    }))
}

pub(super) async fn database() -> TestDatabase {
    let database = TestDatabase::create().await;
    mesh_store::migrate(database.url()).await.unwrap();
    database
}
