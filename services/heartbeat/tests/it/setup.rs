//! Heartbeat processes of one test, nodes that beat, and stand-ins for the services that heartbeat asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartbeat::Config;
use mesh_api::fleet::{NodeAll, NodeConfiguration, NodeEntry, NodeReportedMode, NodeReportedModeRequest};
use mesh_api::heartbeat::{Observed, ObservedAll, ObservedNode, ObservedRequest};
use mesh_api::identity::{AuditEntry, AuditNote, AuditNoted};
use mesh_api::{Caller, Endpoint, Page, PageQuery};
use mesh_bus::{Bus, BusOptions, ServiceHandle, topology};
use mesh_runtime::{Context, DatabaseConfig, Metrics};
use mesh_testkit::{TestDatabase, TestNats, wait_until};
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::{Heartbeat, NodeMode};
use mesh_types::subject::Filter;
use mesh_types::{NodeId, Problem, Subject, Tenant, Timestamp};

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Mesh {
    pub(crate) nats: TestNats,
    pub(crate) database: TestDatabase,
    pub(crate) bus: Bus,
    context: Context,
    /// What the registry's stand-in knows, and was told.
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) notes: Arc<Mutex<Vec<AuditEntry>>>,
    _services: Vec<ServiceHandle>,
}

#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) nodes: Vec<NodeEntry>,
    /// Modes that changed by being told, as the real one counts them: a repeat changes nothing.
    pub(crate) told: Vec<NodeReportedModeRequest>,
    /// Times that it was told anything.
    pub(crate) asked: usize,
    /// Answers that fail before one succeeds.
    pub(crate) fails: u32,
}

impl Mesh {
    /// Servers and stand-ins; the registry knows these nodes.
    pub(crate) async fn servers(nodes: &[&str]) -> Self {
        let (nats, database) = tokio::join!(TestNats::start(), TestDatabase::create());
        let bus = connect(&nats).await;
        bus.apply_topology(&topology::standard()).await.unwrap();
        let context = Context::new("heartbeat", connect(&nats).await, Metrics::default());
        let registry = Arc::new(Mutex::new(Registry::default()));
        registry.lock().unwrap().nodes = nodes.iter().map(|name| entry(name)).collect();
        let notes = Arc::default();
        let services = vec![
            stand_in_registry(&bus, &registry).await,
            stand_in_identity(&bus, &notes).await,
        ];
        Self {
            nats,
            database,
            bus,
            context,
            registry,
            notes,
            _services: services,
        }
    }

    pub(crate) async fn start(nodes: &[&str]) -> Self {
        let mesh = Self::servers(nodes).await;
        mesh.serve().await;
        mesh
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            database: DatabaseConfig {
                url: self.database.url().into(),
                connections: 3,
            },
            flush_ms: 100,
            reconnect_grace_ms: 1_000,
            sweep_ms: 500,
            ..Config::default()
        }
    }

    /// One more process, that answers and has read the registry. It stops with its context.
    pub(crate) async fn serve(&self) -> Context {
        let context = Context {
            bus: connect(&self.nats).await,
            ..self.context.for_service("heartbeat")
        };
        // Its own, so that a test sees its loops.
        let context = Context {
            loops: Default::default(),
            ..context
        };
        let run = heartbeat::run(self.config(), context.clone());
        let tasks = mesh_runtime::Tasks::new(tracing::Span::none(), &context.metrics);
        tasks.spawn("heartbeat", async move { run.await.unwrap() });
        wait_until(SOON, || async {
            let status = context.loops.status("heartbeat", "heartbeat-directory");
            status.is_some_and(|status| status.error.is_none()) && self.observed("nobody").await.is_none()
        })
        .await;
        context
    }

    /// Restarts NATS; somebody keeps the topology in a whole mesh.
    pub(crate) async fn restart_nats(&self) {
        self.nats.restart().await;
        let topology = topology::standard();
        wait_until(SOON, || async { self.bus.apply_topology(&topology).await.is_ok() }).await;
    }

    pub(crate) async fn beat(&self, heartbeat: &Heartbeat) {
        let node = heartbeat.node_id.clone();
        self.publish(&Subject::Heartbeat { node }, heartbeat).await;
    }

    pub(crate) async fn publish<T: serde::Serialize>(&self, subject: &Subject, body: &T) {
        let payload = serde_json::to_vec(body).unwrap();
        self.bus.publish(subject, payload.into()).await.unwrap();
    }

    pub(crate) async fn call<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        self.call_as::<E>("dev", request).await
    }

    pub(crate) async fn call_as<E: Endpoint>(&self, actor: &str, request: E::Request) -> Result<E::Reply, Problem> {
        let caller = Caller {
            role: None,
            tenant: Tenant::default(),
            actor: actor.into(),
            request_id: None,
        };
        self.bus.call::<E>(&caller, &request).await
    }

    pub(crate) async fn observed(&self, node: &str) -> Option<ObservedNode> {
        let nodes = vec![node.parse().unwrap()];
        self.call::<Observed>(ObservedRequest { nodes }).await.unwrap().pop()
    }

    /// Incarnation and seq of its newest heartbeat.
    pub(crate) async fn newest(&self, node: &str) -> Option<(u64, u64)> {
        let heartbeat = self.observed(node).await?.heartbeat?;
        Some((heartbeat.incarnation, heartbeat.seq))
    }

    pub(crate) async fn all(&self, limit: u32) -> Vec<ObservedNode> {
        let mut nodes = Vec::new();
        let mut after = None;
        loop {
            let query = PageQuery {
                limit: Some(limit),
                after,
            };
            let page: Page<ObservedNode> = self.call::<ObservedAll>(query).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            nodes.extend(page.items);
            after = page.next;
            if after.is_none() {
                return nodes;
            }
        }
    }

    /// Collects the events of nodes from now on.
    pub(crate) async fn told(&self) -> Told {
        let filter = Filter::EventsAbout("node".parse().unwrap());
        let mut events = self.bus.subscribe(&filter).await.unwrap();
        let heard: Arc<Mutex<Vec<(String, Event)>>> = Arc::default();
        let keep = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Some(message) = events.next().await {
                let event = serde_json::from_slice(&message.payload).unwrap();
                keep.lock().unwrap().push((message.subject, event));
            }
        });
        Told { heard, task }
    }

    /// 0 where there is no row.
    pub(crate) async fn scalar(&self, query: &'static str) -> i64 {
        let pool = self.database.pool().await;
        let found = sqlx::query_scalar(query).fetch_optional(&pool).await.unwrap();
        found.unwrap_or_default()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

pub(crate) struct Told {
    heard: Arc<Mutex<Vec<(String, Event)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Told {
    /// `came kitchen 1`, in order; an event that is published twice by two relays under one id is one.
    pub(crate) fn lines(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let mut ids = std::collections::HashSet::new();
        let once = heard.iter().filter(|(_, event)| ids.insert(event.id));
        let line = |(subject, event): &(String, Event)| {
            assert!(subject.starts_with("mesh.event.default.node."), "{subject}");
            assert_eq!(event.actor, "service:heartbeat");
            match &event.fact {
                Fact::NodeCame { node, incarnation } => format!("came {node} {incarnation}"),
                Fact::NodeLost { node, incarnation } => format!("lost {node} {incarnation}"),
                other => format!("{other:?}"),
            }
        };
        once.map(line).collect()
    }

    pub(crate) async fn wait_for(&self, lines: &[&str]) {
        wait_until(SOON, || async { self.lines() == lines }).await;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A node that beats every second until it is dropped.
pub(crate) struct Beating {
    task: tokio::task::JoinHandle<()>,
}

impl Beating {
    pub(crate) fn start(mesh: &Mesh, node: &str, incarnation: u64) -> Self {
        let bus = mesh.bus.clone();
        let mut heartbeat = heartbeat(node, incarnation, 0);
        let task = tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_secs(1));
            loop {
                every.tick().await;
                heartbeat.seq += 1;
                let subject = Subject::Heartbeat {
                    node: heartbeat.node_id.clone(),
                };
                let payload = serde_json::to_vec(&heartbeat).unwrap();
                // What is said while there is no connection is lost.
                let _ = bus.publish(&subject, payload.into()).await;
            }
        });
        Self { task }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn heartbeat(node: &str, incarnation: u64, seq: u64) -> Heartbeat {
    Heartbeat {
        node_id: node.parse().unwrap(),
        incarnation,
        seq,
        sent_at: Timestamp::EPOCH,
        interval_seconds: 1.0,
        mode: NodeMode::Private,
        slots: 4,
        running: 1,
        tokens_per_second: 0.5,
        assignment: 7,
        replicas: Vec::new(),
        draining: false,
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

pub(crate) fn entry(name: &str) -> NodeEntry {
    NodeEntry {
        node_id: name.parse::<NodeId>().unwrap(),
        tenant: Tenant::default(),
        owner: "ann".into(),
        name: name.into(),
        configuration: NodeConfiguration::default(),
        labels: Default::default(),
        capabilities: Vec::new(),
        slots: 4,
        drained: false,
        registered_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

async fn stand_in_registry(bus: &Bus, registry: &Arc<Mutex<Registry>>) -> ServiceHandle {
    let (all, told) = (Arc::clone(registry), Arc::clone(registry));
    bus.service("registry", "0.0.1")
        .endpoint::<NodeAll, _, _>(move |_, _| {
            let items = all.lock().unwrap().nodes.clone();
            async { Ok(Page { items, next: None }) }
        })
        .endpoint::<NodeReportedMode, _, _>(move |_, request| {
            let answer = told.lock().unwrap().report(request);
            async { answer }
        })
        .start()
        .await
        .unwrap()
}

impl Registry {
    fn report(&mut self, request: NodeReportedModeRequest) -> Result<NodeEntry, Problem> {
        if self.fails > 0 {
            self.fails -= 1;
            return Err(Problem::new(mesh_types::Code::Unavailable, "away"));
        }
        let entry = self.nodes.iter_mut().find(|entry| entry.node_id == request.node_id);
        let entry = entry.ok_or_else(|| Problem::new(mesh_types::Code::NodeNotFound, "no such node"))?;
        self.asked += 1;
        if entry.configuration.mode != request.mode {
            entry.configuration.mode = request.mode;
            self.told.push(request);
        }
        Ok(entry.clone())
    }
}

async fn stand_in_identity(bus: &Bus, notes: &Arc<Mutex<Vec<AuditEntry>>>) -> ServiceHandle {
    let notes = Arc::clone(notes);
    bus.service("identity", "0.0.1")
        .endpoint::<AuditNote, _, _>(move |_, entry| {
            notes.lock().unwrap().push(entry);
            async { Ok(AuditNoted {}) }
        })
        .start()
        .await
        .unwrap()
}
