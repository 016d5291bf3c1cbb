//! An identity of one test, a registry that knows who owns which node, and somebody who asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use identity::Config;
use mesh_api::fleet::{
    NodeAll, NodeConfiguration, NodeEntry, NodeGet, NodeGetRequest, NodeRegister, NodeRegisterRequest,
};
use mesh_api::identity::{
    AuditFact, AuditList, AuditOutcome, AuditQuery, EnrollRequest, JoinTokenCreate, JoinTokenCreated, JoinTokenRequest,
    KeyCreate, KeyCreated, KeyList, KeyRequest,
};
use mesh_api::{Caller, Endpoint, Page, PageQuery};
use mesh_bus::{Bus, BusOptions, ServiceHandle, permissions, topology};
use mesh_runtime::{Context, DatabaseConfig, Metrics, Tasks};
use mesh_servers::{NatsPermissions, NatsSubjects, NatsUser, NatsUsers};
use mesh_testkit::{TestDatabase, TestNats, wait_until};
use mesh_types::{Clock, Code, NodeId, Problem, SystemClock, Tenant, Timestamp};
use nkeys::KeyPair;
use tokio::sync::oneshot;

pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Of every user in the server's own configuration.
pub(crate) const PASSWORD: &str = "password-of-services";

/// What the registry knows: whose each node is.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) nodes: Mutex<BTreeMap<NodeId, (Tenant, String)>>,
    /// Whether the next registrations are let in, which wait for that.
    verdicts: Mutex<VecDeque<oneshot::Receiver<bool>>>,
    /// Registrations so far.
    pub(crate) asked: AtomicUsize,
}

impl Registry {
    /// Holds one more of the next registrations until it is told whether to let it in.
    pub(crate) fn hold(&self) -> oneshot::Sender<bool> {
        let (verdict, awaited) = oneshot::channel();
        self.verdicts.lock().unwrap().push_back(awaited);
        verdict
    }

    pub(crate) async fn wait_asked(&self, times: usize) {
        wait_until(SOON, || async { self.asked.load(Ordering::SeqCst) >= times }).await;
    }

    async fn register(&self, caller: Caller, request: NodeRegisterRequest) -> Result<NodeEntry, Problem> {
        let verdict = self.verdicts.lock().unwrap().pop_front();
        self.asked.fetch_add(1, Ordering::SeqCst);
        let is_let_in = match verdict {
            Some(verdict) => verdict.await.unwrap(),
            None => true,
        };
        let node = request.node_id.clone().unwrap();
        let of = (caller.tenant.clone(), request.owner.clone());
        let mut nodes = self.nodes.lock().unwrap();
        if !is_let_in || *nodes.entry(node.clone()).or_insert_with(|| of.clone()) != of {
            return Err(Problem::new(Code::Forbidden, "of another owner"));
        }
        Ok(NodeEntry {
            name: request.name.unwrap_or_default(),
            slots: request.slots.unwrap_or(1),
            ..entry(&node, &of)
        })
    }

    fn get(&self, node: &NodeId) -> Result<NodeEntry, Problem> {
        let nodes = self.nodes.lock().unwrap();
        let of = nodes.get(node).map(|of| entry(node, of));
        of.ok_or_else(|| Problem::new(Code::NodeNotFound, "there is no such node"))
    }

    fn all(&self) -> Page<NodeEntry> {
        let nodes = self.nodes.lock().unwrap();
        let items = nodes.iter().map(|(node, of)| entry(node, of)).collect();
        Page { items, next: None }
    }
}

/// The machine's time, and as much later as a test says.
#[derive(Default)]
struct Shifted {
    clock: SystemClock,
    by_micros: AtomicI64,
}

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now().as_micros() + self.by_micros.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

pub(crate) struct Mesh {
    pub(crate) nats: TestNats,
    pub(crate) bus: Bus,
    context: Context,
    config: Config,
    clock: Arc<Shifted>,
    pub(crate) registry: Arc<Registry>,
    database: TestDatabase,
    _serving: ServiceHandle,
    identity: Tasks,
}

impl Mesh {
    /// Credentials are demanded, by nats-server too.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let issuer = KeyPair::new_account();
        let system = nats_user(permissions::system());
        let nats_system = format!("{}:{PASSWORD}", system.name);
        let users = NatsUsers {
            services: permissions::all().into_iter().map(nats_user).collect(),
            system,
            issuer: issuer.public_key(),
            answer_seconds: 5,
        };
        let nats = TestNats::start_with(move |options| options.users = Some(users));
        let (nats, database) = tokio::join!(nats, TestDatabase::create());
        let mut config = Config {
            database: DatabaseConfig {
                url: database.url().into(),
                connections: 5,
            },
            require_credentials: true,
            nats_issuer_seed: issuer.seed().unwrap().into(),
            nats_system: nats_system.into(),
            ..Config::default()
        };
        change(&mut config);
        Self::serve(nats, database, config, ["svc_identity", "mesh"].map(Some)).await
    }

    /// As `mesh up` is without further words: nobody needs a credential.
    pub(crate) async fn in_development() -> Self {
        let (nats, database) = tokio::join!(TestNats::start(), TestDatabase::create());
        let config = Config {
            database: DatabaseConfig {
                url: database.url().into(),
                connections: 5,
            },
            ..Config::default()
        };
        Self::serve(nats, database, config, [None; 2]).await
    }

    /// `users`: of identity, and of all others.
    async fn serve(nats: TestNats, database: TestDatabase, config: Config, users: [Option<&str>; 2]) -> Self {
        let options = users.map(|user| BusOptions {
            url: nats.url().into(),
            name: "test".into(),
            monitor_url: None,
            user: user.map(|user| (user.to_owned(), PASSWORD.to_owned())),
        });
        let [of_identity, of_others] = options;
        let (bus, asking) = tokio::join!(Bus::connect(of_identity), Bus::connect(of_others));
        let (bus, asking) = (bus.unwrap(), asking.unwrap());
        assert!(bus.wait_connected(SOON).await && asking.wait_connected(SOON).await);
        asking.apply_topology(&topology::standard()).await.unwrap();
        let registry = Arc::default();
        let serving = serve_registry(&asking, &registry).await;
        let context = Context::new("identity", bus, Metrics::default());
        let clock = Arc::new(Shifted::default());
        let context = context.clone().with_clock(clock.clone(), context.ids.clone());
        let run = identity::run(config.clone(), context.clone());
        let tasks = Tasks::new(tracing::Span::none(), &context.metrics);
        tasks.spawn("identity", async move { run.await.unwrap() });
        let mesh = Self {
            nats,
            bus: asking,
            context,
            config,
            clock,
            registry,
            database,
            _serving: serving,
            identity: tasks,
        };
        wait_until(SOON, || async {
            mesh.call::<KeyList>("dev", PageQuery::default()).await.is_ok()
        })
        .await;
        mesh
    }

    pub(crate) async fn call<E: Endpoint>(&self, actor: &str, request: E::Request) -> Result<E::Reply, Problem> {
        self.bus.call::<E>(&caller(actor, "default"), &request).await
    }

    pub(crate) async fn key(&self, owner: &str) -> KeyCreated {
        self.call::<KeyCreate>("dev", key_of(owner)).await.unwrap()
    }

    pub(crate) async fn join_token(&self, owner: &str) -> JoinTokenCreated {
        self.call::<JoinTokenCreate>(&format!("user:{owner}"), JoinTokenRequest::for_anybody())
            .await
            .unwrap()
    }

    /// All facts of tenant `default`, newest first.
    pub(crate) async fn audit(&self, outcome: AuditOutcome) -> Vec<AuditFact> {
        let query = AuditQuery {
            outcome: Some(outcome),
            ..AuditQuery::default()
        };
        self.call::<AuditList>("dev", query).await.unwrap().items
    }

    /// Waits for a refusal of that action with that reason.
    pub(crate) async fn refusal(&self, action: &str, reason: &str) -> AuditFact {
        let find = || async {
            let facts = self.audit(AuditOutcome::Refused).await;
            facts
                .into_iter()
                .find(|fact| fact.entry.action == action && fact.entry.reason.contains(reason))
        };
        wait_until(SOON, || async { find().await.is_some() }).await;
        find().await.unwrap()
    }

    /// Another instance of identity, which looks at the whole fleet at its start.
    pub(crate) async fn second_identity(&self) -> Tasks {
        let context = self.by_the_clock(self.bus.clone());
        let context = Context {
            shutdown: self.context.shutdown.clone(),
            ..context
        };
        let tasks = Tasks::new(tracing::Span::none(), &context.metrics);
        let run = identity::run(self.config.clone(), context);
        tasks.spawn("identity", async move { run.await.unwrap() });
        tasks
    }

    /// Of another instance, for which it is as late as for the first: whoever is asked, the time is the same.
    fn by_the_clock(&self, bus: Bus) -> Context {
        let context = Context::new("identity", bus, Metrics::default());
        let ids = context.ids.clone();
        context.with_clock(self.clock.clone(), ids)
    }

    /// Ends the instance that runs, and starts another, which knows nothing of its connections.
    pub(crate) async fn restart_identity(&self) -> Tasks {
        self.context.shutdown.cancel();
        self.identity.drain(SOON).await;
        let context = self.by_the_clock(self.context.bus.clone());
        let tasks = Tasks::new(tracing::Span::none(), &context.metrics);
        let run = identity::run(self.config.clone(), context);
        tasks.spawn("identity", async move { run.await.unwrap() });
        wait_until(SOON, || async {
            self.call::<KeyList>("dev", PageQuery::default()).await.is_ok()
        })
        .await;
        tasks
    }

    /// Somebody with all rights on the database.
    pub(crate) async fn superuser(&self) -> sqlx::PgPool {
        self.database.pool().await
    }

    /// From here on it is so much later for identity.
    pub(crate) fn pass(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).unwrap();
        self.clock.by_micros.fetch_add(micros, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    pub(crate) async fn stop(&self) {
        self.context.shutdown.cancel();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

/// A user of the table with the password of all.
fn nats_user(user: permissions::User) -> NatsUser {
    let subjects = |rules: permissions::Rules| NatsSubjects {
        allow: rules.allow,
        deny: rules.deny,
    };
    NatsUser {
        name: user.user,
        password: PASSWORD.to_owned(),
        permissions: NatsPermissions {
            publish: subjects(user.permissions.publish),
            subscribe: subjects(user.permissions.subscribe),
        },
    }
}

pub(crate) trait ForAnybody {
    fn for_anybody() -> Self;
}

impl ForAnybody for JoinTokenRequest {
    fn for_anybody() -> Self {
        Self {
            owner: None,
            expires_in_seconds: None,
            uses_max: None,
            node_id: None,
        }
    }
}

pub(crate) fn caller(actor: &str, tenant: &str) -> Caller {
    Caller {
        role: None,
        tenant: tenant.parse().unwrap(),
        actor: actor.into(),
        request_id: None,
    }
}

pub(crate) fn key_of(owner: &str) -> KeyRequest {
    KeyRequest {
        owner: owner.into(),
        name: String::new(),
        expires_in_seconds: None,
        tenant: None,
        role: None,
        scopes: Vec::new(),
    }
}

pub(crate) fn joining(credential: Option<&str>, node: Option<&str>) -> EnrollRequest {
    EnrollRequest {
        credential: credential.map(str::to_owned),
        tenant: None,
        node_id: node.map(|node| node.parse().unwrap()),
        name: None,
        mode: None,
        labels: None,
        capabilities: None,
        slots: None,
    }
}

/// Knows whose a node is, and refuses everybody else.
async fn serve_registry(bus: &Bus, registry: &Arc<Registry>) -> ServiceHandle {
    let (of_register, of_get, of_all) = (Arc::clone(registry), Arc::clone(registry), Arc::clone(registry));
    let service = bus
        .service("registry", "0.0.0")
        .endpoint::<NodeRegister, _, _>(move |caller: Caller, request: NodeRegisterRequest| {
            let registry = Arc::clone(&of_register);
            async move { registry.register(caller, request).await }
        })
        .endpoint::<NodeGet, _, _>(move |_: Caller, request: NodeGetRequest| {
            let registry = Arc::clone(&of_get);
            async move { registry.get(&request.node_id) }
        })
        .endpoint::<NodeAll, _, _>(move |_: Caller, _: PageQuery| {
            let registry = Arc::clone(&of_all);
            async move { Ok(registry.all()) }
        });
    service.start().await.unwrap()
}

fn entry(node: &NodeId, (tenant, owner): &(Tenant, String)) -> NodeEntry {
    NodeEntry {
        node_id: node.clone(),
        tenant: tenant.clone(),
        owner: owner.clone(),
        name: String::new(),
        configuration: NodeConfiguration::default(),
        labels: BTreeMap::new(),
        capabilities: Vec::new(),
        slots: 1,
        drained: false,
        registered_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
    }
}
