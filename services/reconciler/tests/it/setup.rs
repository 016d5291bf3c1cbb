//! One mesh of a test: servers, and what the reconciler asks: a registry, a heartbeat, nodes that obey.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_api::execution::{AgentDemand, Demand, ExecutionDemand};
use mesh_api::fleet::{NodeAll, NodeConfiguration, NodeEntry, PlacedAgent, PlacedAll};
use mesh_api::heartbeat::{ObservedAll, ObservedNode};
use mesh_api::reconciler::{AssignmentRequest, Brain, BrainRequest, BrainState, NodeAssignment, Pass, PassList};
use mesh_api::{Caller, Endpoint, Page, PageQuery};
use mesh_bus::{Bus, BusOptions, ServiceHandle, topology};
use mesh_runtime::{Context, Metrics, Tasks};
use mesh_testkit::{TestDatabase, TestNats, wait_until};
use mesh_types::agent::Placement;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::{Assignment, Heartbeat, NodeMode, ReplicaReport, ReplicaState};
use mesh_types::subject::Filter;
use mesh_types::{Code, NodeId, Problem, Subject, Tenant, Timestamp};
use reconciler::Config;

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What the simulated services answer.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    pub(crate) observed: BTreeMap<NodeId, ObservedNode>,
    pub(crate) agents: Vec<PlacedAgent>,
    pub(crate) demand: Vec<AgentDemand>,
    /// What the registry answers instead.
    pub(crate) registry_fails: bool,
}

pub(crate) struct Mesh {
    pub(crate) nats: TestNats,
    pub(crate) database: TestDatabase,
    pub(crate) bus: Bus,
    pub(crate) context: Context,
    pub(crate) world: Arc<Mutex<World>>,
    tasks: Tasks,
    _services: Vec<ServiceHandle>,
}

impl Mesh {
    /// Servers and simulated services; no reconciler yet.
    pub(crate) async fn servers() -> Self {
        let (nats, database) = tokio::join!(TestNats::start(), TestDatabase::create());
        let bus = connect(nats.url()).await;
        bus.apply_topology(&topology::standard()).await.unwrap();
        let context = Context::new("reconciler", connect(nats.url()).await, Metrics::default());
        let world = Arc::new(Mutex::new(World::default()));
        let services = simulate(&bus, &world).await;
        let tasks = Tasks::new(tracing::Span::none(), &context.metrics);
        Self {
            nats,
            database,
            bus,
            context,
            world,
            tasks,
            _services: services,
        }
    }

    pub(crate) async fn start() -> Self {
        let mesh = Self::servers().await;
        mesh.serve(&mesh.context, mesh.config());
        wait_until(SOON, || async {
            mesh.call::<PassList>(PageQuery::default()).await.is_ok()
        })
        .await;
        mesh
    }

    /// Ticks are far away: what happens soon happens at a bell.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config {
            interval_ms: 60_000,
            leader_silence_ms: 4_000,
            ..Config::default()
        };
        config.database.url = self.database.url().into();
        config
    }

    pub(crate) fn serve(&self, context: &Context, config: Config) {
        let run = reconciler::run(config, context.clone());
        self.tasks.spawn("reconciler", async move { run.await.unwrap() });
    }

    pub(crate) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A node that is there, with so many slots, and does what it is told at once.
    pub(crate) fn join(&self, name: &str, slots: u32) {
        let node: NodeId = name.parse().unwrap();
        self.add(name, slots);
        let (bus, world) = (self.bus.clone(), Arc::clone(&self.world));
        self.tasks.spawn("node", obey(bus, world, node));
    }

    /// A node that is there and hears nothing.
    pub(crate) fn add(&self, name: &str, slots: u32) {
        let (entry, observed) = node(name, slots);
        let mut world = self.world();
        world.observed.insert(entry.node_id.clone(), observed);
        world.nodes.insert(entry.node_id.clone(), entry);
    }

    /// Its presence runs out, seconds after it was heard last.
    pub(crate) fn lose(&self, name: &str) {
        let node: NodeId = name.parse().unwrap();
        let now = self.context.clock.now();
        let mut world = self.world();
        let observed = world.observed.get_mut(&node).unwrap();
        (observed.alive, observed.since) = (false, now);
        observed.last_seen_at = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap() - 4_000);
    }

    pub(crate) fn publish_agent(&self, name: &str, version: u32, replicas: u32) {
        let agent = agent(name, version, replicas, self.context.clock.now());
        let mut world = self.world();
        world.agents.retain(|one| one.agent != agent.agent);
        world.agents.push(agent);
        world.agents.sort_by(|a, b| a.agent.cmp(&b.agent));
    }

    /// An event as registry and heartbeat tell them, which carries nothing that the reconciler believes.
    pub(crate) async fn ring(&self) {
        let fact = Fact::NodeCame {
            node: "anybody".parse().unwrap(),
            incarnation: 1,
        };
        let event = Event {
            request_id: None,
            change: None,
            id: self.context.ids.next(),
            tenant: Tenant::default(),
            at: self.context.clock.now(),
            actor: "service:heartbeat".to_owned(),
            fact,
        };
        let body = serde_json::to_vec(&event).unwrap().into();
        self.bus.publish(&event.subject(), body).await.unwrap();
    }

    pub(crate) async fn call<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        self.call_as::<E>("default", request).await
    }

    pub(crate) async fn call_as<E: Endpoint>(&self, tenant: &str, request: E::Request) -> Result<E::Reply, Problem> {
        self.call_by::<E>(tenant, "dev", request).await
    }

    pub(crate) async fn call_by<E: Endpoint>(
        &self,
        tenant: &str,
        actor: &str,
        request: E::Request,
    ) -> Result<E::Reply, Problem> {
        let caller = Caller {
            role: None,
            tenant: tenant.parse().unwrap(),
            actor: actor.into(),
            request_id: None,
        };
        self.bus.call::<E>(&caller, &request).await
    }

    pub(crate) async fn passes(&self) -> Vec<Pass> {
        self.call::<PassList>(PageQuery::default()).await.unwrap().items
    }

    pub(crate) async fn brain(&self) -> Brain {
        self.call::<BrainState>(BrainRequest::default()).await.unwrap()
    }

    pub(crate) async fn assignment(&self, name: &str) -> Assignment {
        assignment(&self.bus, &name.parse().unwrap()).await.unwrap()
    }

    /// Waits until each node has so many replicas.
    pub(crate) async fn wait_for(&self, counts: &[(&str, usize)]) {
        wait_until(SOON, || async {
            for (node, count) in counts {
                let Ok(told) = assignment(&self.bus, &node.parse().unwrap()).await else {
                    return false;
                };
                let replicas = told.replicas;
                if replicas.iter().filter(|replica| !replica.stopping).count() != *count {
                    return false;
                }
            }
            true
        })
        .await;
    }

    pub(crate) async fn wait_ready(&self, replicas: usize) {
        wait_until(SOON, || async {
            let brain = self.brain().await;
            let ready = brain.replicas.iter().filter(|one| one.state == ReplicaState::Ready);
            ready.count() == replicas && brain.replicas.len() == replicas
        })
        .await;
    }
}

pub(crate) async fn connect(url: &str) -> Bus {
    let options = BusOptions {
        url: url.into(),
        name: "test".into(),
        monitor_url: None,
        user: None,
    };
    let bus = Bus::connect(options).await.unwrap();
    assert!(bus.wait_connected(SOON).await);
    bus
}

async fn simulate(bus: &Bus, world: &Arc<Mutex<World>>) -> Vec<ServiceHandle> {
    let (nodes, agents) = (Arc::clone(world), Arc::clone(world));
    let registry = bus
        .service("registry", "0.0.0")
        .endpoint::<NodeAll, _, _>(move |_caller, query| {
            let world = nodes.lock().unwrap();
            let page = world.answer(|world| page(world.nodes.values().cloned().collect(), &query));
            async move { page }
        })
        .endpoint::<PlacedAll, _, _>(move |_caller, query| {
            let world = agents.lock().unwrap();
            let page = world.answer(|world| page(world.agents.clone(), &query));
            async move { page }
        });
    let seen = Arc::clone(world);
    let heartbeat = bus
        .service("heartbeat", "0.0.0")
        .endpoint::<ObservedAll, _, _>(move |_caller, query| {
            let page = page(seen.lock().unwrap().observed.values().cloned().collect(), &query);
            async move { Ok(page) }
        });
    let demand = Arc::clone(world);
    let execution = bus
        .service("execution", "0.0.0")
        .endpoint::<ExecutionDemand, _, _>(move |_caller, _request| {
            let agents = demand.lock().unwrap().demand.clone();
            async move { Ok(Demand { agents, complete: true }) }
        });
    let mut handles = Vec::new();
    for service in [registry, heartbeat, execution] {
        handles.push(service.start().await.unwrap());
    }
    handles
}

impl World {
    fn answer<T>(&self, answer: impl FnOnce(&Self) -> T) -> Result<T, Problem> {
        if self.registry_fails {
            return Err(Problem::new(Code::Unavailable, "the database did not answer"));
        }
        Ok(answer(self))
    }
}

/// Two items a page, whatever is asked for, so that every test reads on.
fn page<T>(items: Vec<T>, query: &PageQuery) -> Page<T> {
    let from: usize = query.after.as_deref().map_or(0, |after| after.parse().unwrap());
    let next = (items.len() > from + 2).then(|| (from + 2).to_string());
    Page {
        items: items.into_iter().skip(from).take(2).collect(),
        next,
    }
}

async fn assignment(bus: &Bus, node: &NodeId) -> Result<Assignment, Problem> {
    let subject = Subject::NodeService {
        node: node.clone(),
        service: "reconciler".parse().unwrap(),
        endpoint: "assignment".parse().unwrap(),
    };
    let caller = Caller::service("node", Tenant::default());
    let request = AssignmentRequest { incarnation: 1 };
    bus.call_at::<NodeAssignment>(&subject, &caller, &request, Duration::from_secs(5))
        .await
}

/// Asks at its bell and reports all of it as ready, but what is of a version that cannot work.
async fn obey(bus: Bus, world: Arc<Mutex<World>>, node: NodeId) {
    let bell = Subject::Bell { node: node.clone() };
    let mut bells = bus.subscribe(&Filter::Only(bell)).await.unwrap();
    loop {
        if let Ok(told) = assignment(&bus, &node).await {
            let mut world = world.lock().unwrap();
            let beat = world
                .observed
                .get_mut(&node)
                .and_then(|observed| observed.heartbeat.as_mut());
            let Some(beat) = beat else { return };
            beat.assignment = told.generation;
            beat.replicas = told
                .replicas
                .iter()
                .filter(|replica| !replica.stopping)
                .map(|replica| ReplicaReport {
                    replica: replica.replica,
                    tenant: replica.tenant.clone(),
                    agent: replica.agent.clone(),
                    version: replica.version,
                    state: if replica.version == BROKEN {
                        ReplicaState::Failed
                    } else {
                        ReplicaState::Ready
                    },
                    detail: String::new(),
                    running: 0,
                })
                .collect();
        }
        if bells.next().await.is_none() {
            return;
        }
    }
}

/// A version that fails wherever it is started.
pub(crate) const BROKEN: u32 = 666;

fn node(name: &str, slots: u32) -> (NodeEntry, ObservedNode) {
    let node_id: NodeId = name.parse().unwrap();
    let at = Timestamp::from_millis(1_795_258_800_000);
    let configuration = NodeConfiguration {
        mode: NodeMode::Shared,
        ..NodeConfiguration::default()
    };
    let entry = NodeEntry {
        node_id: node_id.clone(),
        tenant: Tenant::default(),
        owner: "dev".to_owned(),
        name: name.to_owned(),
        configuration,
        labels: BTreeMap::new(),
        capabilities: vec!["llm".to_owned()],
        slots,
        drained: false,
        registered_at: at,
        updated_at: at,
    };
    let heartbeat = Heartbeat {
        node_id: node_id.clone(),
        incarnation: 1,
        seq: 1,
        sent_at: at,
        interval_seconds: 1.0,
        mode: NodeMode::Shared,
        slots,
        running: 0,
        tokens_per_second: 0.0,
        assignment: 0,
        replicas: Vec::new(),
        draining: false,
    };
    let observed = ObservedNode {
        node_id,
        alive: true,
        since: at,
        last_seen_at: at,
        last_health_at: None,
        heartbeat: Some(heartbeat),
        health: None,
    };
    (entry, observed)
}

fn agent(name: &str, version: u32, replicas: u32, published_at: Timestamp) -> PlacedAgent {
    PlacedAgent {
        tenant: Tenant::default(),
        agent: name.parse().unwrap(),
        owner: None,
        version,
        hash: "ab".repeat(32),
        published_at,
        placement: Placement {
            replicas,
            ..Placement::default()
        },
        concurrency: 4,
        requires: vec!["llm".to_owned()],
    }
}
