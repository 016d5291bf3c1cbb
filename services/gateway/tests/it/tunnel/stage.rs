//! An edge with a registry, a heartbeat service and an identity as small as tunnels need them, and nodes that speak frames.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::{Config, Gateway, TunnelConfig};
use mesh_api::fleet::{NodeConfiguration, NodeEntry, NodeGet};
use mesh_api::heartbeat::{Observed, ObservedNode};
use mesh_api::identity::{AuditEntry, AuditNote, AuditNoted, CredentialVerify, Principal, PrincipalKind};
use mesh_bus::{Bus, BusOptions, ServiceHandle};
use mesh_runtime::{Context, Metrics};
use mesh_testkit::TestNats;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::{NodeMode, Sharing};
use mesh_types::fleet_policy::{Viewer, sees};
use mesh_types::{Code, EventId, Id, NodeId, Problem, Tenant};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::made::at;

/// What the services behind the edge know.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) nodes: Mutex<BTreeMap<NodeId, NodeEntry>>,
    pub(crate) alive: Mutex<BTreeSet<NodeId>>,
    pub(crate) notes: Mutex<Vec<AuditEntry>>,
    /// Keys that are not valid any more.
    pub(crate) revoked: Mutex<BTreeSet<String>>,
}

pub(crate) struct Stage {
    pub(crate) known: Arc<Known>,
    pub(crate) bus: Bus,
    pub(crate) context: Context,
    pub(crate) address: SocketAddr,
    pub(crate) client: reqwest::Client,
    pub(crate) served: oneshot::Receiver<Result<(), gateway::Error>>,
    pub(crate) nats: TestNats,
    _services: Vec<ServiceHandle>,
}

/// Nobody signs in.
pub(crate) fn open_to_all(tunnel: TunnelConfig) -> Config {
    Config {
        tunnel,
        ..Config::default()
    }
}

/// Keys are `mak_ann`, `mak_bob` and the like.
pub(crate) fn signed_in(tunnel: TunnelConfig) -> Config {
    Config {
        require_credentials: true,
        tunnel,
        ..Config::default()
    }
}

impl Stage {
    pub(crate) async fn start(config: Config) -> Self {
        let nats = TestNats::start().await;
        let bus = connect(nats.url(), "gateway-test").await;
        Self::on(nats, bus, config).await
    }

    /// With a server that asks for credentials: `mesh` may do all, `kitchen` what a node may.
    pub(crate) async fn start_guarded(config: Config) -> Self {
        let nats = TestNats::start_with(|options| options.extra_config = USERS.to_owned()).await;
        let user = ("mesh".to_owned(), "mesh-password".to_owned());
        let bus = connect_as(nats.url(), "gateway-test", Some(user)).await;
        Self::on(nats, bus, config).await
    }

    async fn on(nats: TestNats, bus: Bus, config: Config) -> Self {
        let known = Arc::new(Known::default());
        let services = serve(&known, &bus).await;
        let context = Context::new("gateway", bus.clone(), Metrics::default());
        let gateway = Gateway::bind(Config { port: 0, ..config }).await.unwrap();
        let address = gateway.address();
        let (tell, served) = oneshot::channel();
        let serving = context.clone();
        context.tasks.spawn("edge", async move {
            let _ = tell.send(gateway.serve(serving).await);
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            known,
            bus,
            context,
            address,
            client,
            served,
            nats,
            _services: services,
        }
    }

    /// A node of that owner's, alive, in this mode.
    pub(crate) fn declare(&self, name: &str, owner: &str, mode: NodeMode) -> NodeId {
        let node: NodeId = name.parse().unwrap();
        let entry = NodeEntry {
            node_id: node.clone(),
            tenant: Tenant::default(),
            owner: owner.to_owned(),
            name: name.to_owned(),
            configuration: NodeConfiguration {
                mode,
                ..NodeConfiguration::default()
            },
            labels: BTreeMap::new(),
            capabilities: Vec::new(),
            slots: 1,
            drained: false,
            registered_at: at(),
            updated_at: at(),
        };
        self.known.nodes.lock().unwrap().insert(node.clone(), entry);
        self.known.alive.lock().unwrap().insert(node.clone());
        node
    }

    /// The node changes, and the registry says so.
    pub(crate) async fn change(&self, node: &NodeId, mode: NodeMode, sharing: Sharing) {
        let owner = {
            let mut nodes = self.known.nodes.lock().unwrap();
            let entry = nodes.get_mut(node).unwrap();
            entry.configuration.mode = mode;
            entry.configuration.sharing = sharing;
            entry.owner.clone()
        };
        let event = Event {
            request_id: None,
            change: None,
            id: EventId::from_u128(1),
            tenant: Tenant::default(),
            at: at(),
            actor: format!("user:{owner}"),
            fact: Fact::NodeUpdated {
                node: node.clone(),
                owner,
                mode,
            },
        };
        let payload = serde_json::to_vec(&event).unwrap().into();
        self.bus.publish(&event.subject(), payload).await.unwrap();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    /// Actions and reasons of what was noted as refused.
    pub(crate) fn refusals(&self) -> Vec<(String, String, String)> {
        let notes = self.known.notes.lock().unwrap();
        let facts = notes
            .iter()
            .map(|note| (note.actor.clone(), note.action.clone(), note.subject.clone()));
        facts.collect()
    }
}

pub(crate) fn tunnel_path(node: &NodeId, rest: &str) -> String {
    format!("/api/runtimes/v1/agent-nodes/{node}/tunnel/{rest}")
}

const USERS: &str = r#"
authorization { users: [
  { user: mesh, password: mesh-password }
  { user: kitchen, password: mns_kitchen, permissions: {
    publish: ["mesh.heartbeat.kitchen", "mesh.health.kitchen", "mesh.node.kitchen.>"]
    subscribe: ["mesh.bell.kitchen", "mesh.tunnel.kitchen", "_INBOX.kitchen.>"]
  } }
] }
"#;

pub(crate) async fn connect(url: &str, name: &str) -> Bus {
    connect_as(url, name, None).await
}

async fn connect_as(url: &str, name: &str, user: Option<(String, String)>) -> Bus {
    let options = BusOptions {
        url: url.to_owned(),
        name: name.to_owned(),
        monitor_url: None,
        user,
    };
    let bus = Bus::connect(options).await.unwrap();
    assert!(bus.wait_connected(Duration::from_secs(10)).await);
    bus
}

async fn serve(known: &Arc<Known>, bus: &Bus) -> Vec<ServiceHandle> {
    let (nodes, alive, notes, keys) = (known.clone(), known.clone(), known.clone(), known.clone());
    let registry = bus
        .service("registry", "0.1.0")
        .endpoint::<NodeGet, _, _>(move |caller, request| {
            let found = nodes.nodes.lock().unwrap().get(&request.node_id).cloned();
            let viewer = Viewer {
                tenant: &caller.tenant,
                owner: request.viewer.owner.as_deref(),
            };
            let seen = found.filter(|entry| sees(viewer, entry.facts()));
            let missing = || Problem::new(Code::NodeNotFound, format!("there is no node `{}`", request.node_id));
            std::future::ready(seen.ok_or_else(missing))
        });
    let heartbeat = bus
        .service("heartbeat", "0.1.0")
        .endpoint::<Observed, _, _>(move |_, request| {
            let alive = alive.alive.lock().unwrap();
            let seen = request.nodes.into_iter().map(|node_id| ObservedNode {
                alive: alive.contains(&node_id),
                node_id,
                since: at(),
                last_seen_at: at(),
                last_health_at: None,
                heartbeat: None,
                health: None,
            });
            std::future::ready(Ok(seen.collect()))
        });
    let identity = bus
        .service("identity", "0.1.0")
        .endpoint::<AuditNote, _, _>(move |_, entry| {
            notes.notes.lock().unwrap().push(entry);
            std::future::ready(Ok(AuditNoted {}))
        })
        .endpoint::<CredentialVerify, _, _>(move |_, request| {
            let is_revoked = keys.revoked.lock().unwrap().contains(&request.credential);
            let owner = request.credential.strip_prefix("mak_").filter(|_| !is_revoked);
            let principal = owner.map(|owner| Principal {
                role: Some(mesh_api::Role::Developer),
                scopes: Vec::new(),
                id: format!("key_{owner}"),
                kind: PrincipalKind::Key,
                owner: owner.to_owned(),
                tenant: Tenant::default(),
            });
            std::future::ready(principal.ok_or_else(|| Problem::new(Code::Unauthorized, "no such key")))
        });
    vec![
        registry.start().await.unwrap(),
        heartbeat.start().await.unwrap(),
        identity.start().await.unwrap(),
    ]
}
