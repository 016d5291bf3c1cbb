//! A mesh of a few endpoints, and nodes that live in this process.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_api::fleet::{NodeConfigure, NodeEntry};
use mesh_api::identity::{Enroll, EnrollRequest, Enrolled};
use mesh_api::reconciler::NodeAssignment;
use mesh_api::registry::{Artifact, ArtifactGet};
use mesh_bus::{Bus, BusOptions, ServiceHandle, Subscription};
use mesh_runtime::{Context, Metrics, Secret};
use mesh_testkit::TestNats;
use mesh_types::fleet::{AssignedReplica, Assignment, HealthSnapshot, Heartbeat};
use mesh_types::subject::Filter;
use mesh_types::{Code, Id, NodeId, Problem, ReplicaId, Subject, SystemClock, Tenant, Timestamp};
use node::{Config, Door, JoinError};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const TOKEN: &str = "mjt_01ARZ3NDEKTSV4RRFFQ69G5FAV_secret";
pub(crate) const TOKEN_ID: &str = "jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV";
pub(crate) const SECRET: &str = "mns_of-the-kitchen";

/// What the mesh knows, and what it answers.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    pub(crate) enrolled: Vec<EnrollRequest>,
    /// Given to who enrols with a credential.
    pub(crate) secret: Option<String>,
    pub(crate) assignment: Assignment,
    /// By hash.
    pub(crate) artifacts: HashMap<String, String>,
    /// Answer to a configuration.
    pub(crate) refusal: Option<Problem>,
}

pub(crate) struct Mesh {
    pub(crate) nats: TestNats,
    pub(crate) bus: Bus,
    pub(crate) known: Arc<Mutex<Known>>,
    pub(crate) service: Option<ServiceHandle>,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::on(TestNats::start().await, None).await
    }

    /// Nobody gets in but by these users: the mesh itself, the token, and the node `kitchen` with its secret.
    pub(crate) async fn with_credentials() -> Self {
        let of = |user: &str, password: &str, name: &str, more: &str| {
            format!(
                "{{user: \"{user}\", password: \"{password}\", permissions: {{publish: [\"mesh.node.{name}.>\"{more}], \
                 subscribe: [\"_INBOX.{name}.>\", \"mesh.bell.{name}\", \"mesh.tunnel.{name}\"]}}}}"
            )
        };
        let node = of(
            "kitchen",
            SECRET,
            "kitchen",
            ", \"mesh.heartbeat.kitchen\", \"mesh.health.kitchen\"",
        );
        let users = format!(
            "authorization {{ users: [{{user: \"mesh\", password: \"pw\"}}, {}, {node}] }}\n",
            of(TOKEN_ID, TOKEN, TOKEN_ID, "")
        );
        let nats = TestNats::start_with(move |options| options.extra_config = users).await;
        let mesh = Self::on(nats, Some(("mesh".into(), "pw".into()))).await;
        mesh.known.lock().unwrap().secret = Some(SECRET.into());
        mesh
    }

    async fn on(nats: TestNats, user: Option<(String, String)>) -> Self {
        let options = BusOptions {
            url: nats.url().to_owned(),
            name: "mesh".into(),
            monitor_url: None,
            user,
        };
        let bus = Bus::connect(options).await.unwrap();
        assert!(bus.wait_connected(SOON).await);
        let known = Arc::<Mutex<Known>>::default();
        let mut mesh = Self {
            service: None,
            nats,
            bus,
            known,
        };
        mesh.serve().await;
        mesh
    }

    /// Answers what nodes ask, until `service` is dropped.
    pub(crate) async fn serve(&mut self) {
        let of = || Arc::clone(&self.known);
        let (by_name, by_road, configured, assigned, artifacts) = (of(), of(), of(), of(), of());
        let service = self.bus.service("mesh", "1.0.0");
        let service = service
            .endpoint::<Enroll, _, _>(move |_, request| {
                let answer = enroll(&by_name, request);
                async { answer }
            })
            .node_endpoint::<Enroll, _, _>(move |_, request| {
                let answer = enroll(&by_road, request);
                async { answer }
            })
            .node_endpoint::<NodeConfigure, _, _>(move |node, request| {
                let mut known = configured.lock().unwrap();
                let answer = match (known.refusal.clone(), known.nodes.get_mut(&node)) {
                    (Some(problem), _) => Err(problem),
                    (None, None) => Err(Problem::new(Code::Unavailable, "not known yet")),
                    (None, Some(entry)) => {
                        entry.configuration = request.configuration;
                        Ok(entry.clone())
                    }
                };
                async { answer }
            })
            .node_endpoint::<NodeAssignment, _, _>(move |_, _| {
                let answer = assigned.lock().unwrap().assignment.clone();
                async { Ok(answer) }
            })
            .node_endpoint::<ArtifactGet, _, _>(move |_, request| {
                let bytes = artifacts.lock().unwrap().artifacts.get(&request.hash).cloned();
                let hash = request.hash;
                async move {
                    let bytes = bytes.ok_or_else(|| Problem::new(Code::ArtifactNotFound, hash.clone()))?;
                    Ok(Artifact { hash, bytes })
                }
            });
        self.service = Some(service.start().await.unwrap());
        self.bus.flush().await.unwrap();
    }

    pub(crate) fn door(&self) -> Door {
        Door {
            url: self.nats.url().to_owned(),
            token: None,
            tenant: None,
        }
    }

    pub(crate) fn door_with(&self, token: &str) -> Door {
        Door {
            token: Some(Secret::from(token)),
            ..self.door()
        }
    }

    pub(crate) fn entry(&self, node: &NodeId) -> NodeEntry {
        self.known.lock().unwrap().nodes[node].clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap());
    }

    /// Publishes an agent, and answers its replica.
    pub(crate) fn replica(&self, number: u128, spec: &serde_json::Value) -> AssignedReplica {
        let bytes = spec.to_string();
        let hash = hex::encode(Sha256::digest(&bytes));
        self.change(|known| drop(known.artifacts.insert(hash.clone(), bytes)));
        AssignedReplica {
            replica: ReplicaId::from_u128(number),
            tenant: Tenant::default(),
            agent: format!("agent-{number}").parse().unwrap(),
            version: 1,
            hash,
            concurrency: 4,
            stopping: false,
            foreign: false,
        }
    }

    pub(crate) async fn heartbeats(&self, node: &str) -> Heard<Heartbeat> {
        let node = node.parse().unwrap();
        self.hear(Subject::Heartbeat { node }).await
    }

    pub(crate) async fn health(&self, node: &str) -> Heard<HealthSnapshot> {
        let node = node.parse().unwrap();
        self.hear(Subject::Health { node }).await
    }

    async fn hear<T>(&self, subject: Subject) -> Heard<T> {
        let subscription = self.bus.subscribe(&Filter::Only(subject)).await.unwrap();
        Heard(subscription, std::marker::PhantomData)
    }
}

/// What a node says.
pub(crate) struct Heard<T>(Subscription, std::marker::PhantomData<T>);

impl<T: serde::de::DeserializeOwned> Heard<T> {
    pub(crate) async fn next(&mut self) -> T {
        let message = tokio::time::timeout(SOON, self.0.next())
            .await
            .expect("it is said in time");
        serde_json::from_slice(&message.unwrap().payload).unwrap()
    }

    /// The first that is so.
    pub(crate) async fn until(&mut self, is_so: impl Fn(&T) -> bool) -> T {
        loop {
            let said = self.next().await;
            if is_so(&said) {
                return said;
            }
        }
    }
}

pub(crate) fn enroll(known: &Mutex<Known>, request: EnrollRequest) -> Result<Enrolled, Problem> {
    let mut known = known.lock().unwrap();
    known.enrolled.push(request.clone());
    if let Some(credential) = &request.credential
        && credential != TOKEN
        && Some(credential) != known.secret.as_ref()
    {
        return Err(Problem::new(Code::Unauthorized, "that is no credential of this mesh"));
    }
    let id = request.node_id.clone();
    let id = id.unwrap_or_else(|| format!("nod_{:026}", known.nodes.len()).parse().unwrap());
    let tenant = request.tenant.clone().unwrap_or_default();
    let entry = known.nodes.entry(id.clone()).or_insert_with(|| NodeEntry {
        node_id: id,
        tenant,
        owner: "ann".into(),
        name: String::new(),
        configuration: Default::default(),
        labels: Default::default(),
        capabilities: Vec::new(),
        slots: 0,
        drained: false,
        registered_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    });
    entry.name = request.name.unwrap_or_default();
    entry.slots = request.slots.unwrap_or_default();
    entry.labels = request.labels.unwrap_or_default();
    entry.configuration.mode = request.mode.unwrap_or(entry.configuration.mode);
    let entry = entry.clone();
    let is_new = request.credential.as_deref() == Some(TOKEN);
    Ok(Enrolled {
        node: entry,
        secret: known.secret.clone().filter(|_| is_new),
        nats_url: None,
    })
}

/// The configuration of a node that keeps its state there, and has no page.
pub(crate) fn config(state: &Path) -> Config {
    Config {
        state_path: state.to_owned(),
        heartbeat_seconds: 0.5,
        health_seconds: 0.5,
        assignment_seconds: 0.2,
        join_patience_seconds: 0.5,
        local: false,
        ..Config::default()
    }
}

pub(crate) fn pinned(state: &Path, id: &str) -> Config {
    Config {
        id: Some(id.parse().unwrap()),
        ..config(state)
    }
}

/// A node that works in this process.
pub(crate) struct Running {
    pub(crate) id: NodeId,
    pub(crate) bus: Bus,
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), node::Error>>,
}

impl Running {
    pub(crate) async fn start(config: Config, door: Door) -> Result<Self, JoinError> {
        let joined = node::join(&config, &door, &SystemClock::default()).await?;
        let (id, bus) = (joined.node().clone(), joined.bus.clone());
        let context = Context::new("node", bus.clone(), Metrics::default());
        Ok(Self {
            id,
            bus,
            shutdown: context.shutdown.clone(),
            ended: tokio::spawn(node::run(config, joined, context)),
        })
    }

    /// Stopped in order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(SOON, self.ended).await;
        ended.expect("it stops in time").unwrap().unwrap();
    }
}

/// What the state file says.
pub(crate) fn stored(state: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(state.join("node.json")).unwrap()).unwrap()
}
