//! Registry, heartbeat and identity as small as the routes of nodes need them, by the real policy.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::Config;
use mesh_api::fleet::*;
use mesh_api::heartbeat::*;
use mesh_api::identity::*;
use mesh_api::{Caller, Endpoint, Page};
use mesh_bus::ServiceHandle;
use mesh_testkit::wait_until;
use mesh_types::fleet::{Labels, NodeMode, Sharing};
use mesh_types::{Code, NodeId, Problem, Timestamp, fleet_policy};

use crate::support::Edge;

#[derive(Default)]
pub(crate) struct Fleet {
    pub(crate) nodes: Mutex<BTreeMap<NodeId, NodeEntry>>,
    pub(crate) seen: Mutex<BTreeMap<NodeId, ObservedNode>>,
    pub(crate) reports: Mutex<Vec<NodeReportedModeRequest>>,
    pub(crate) enrolled: Mutex<Vec<(Caller, EnrollRequest)>>,
    pub(crate) notes: Mutex<Vec<(Caller, AuditEntry)>>,
}

type Answer<E> = Result<<E as Endpoint>::Reply, Problem>;

fn on<E: Endpoint>(
    fleet: &Arc<Fleet>,
    answer: fn(&Fleet, Caller, E::Request) -> Answer<E>,
) -> impl Fn(Caller, E::Request) -> Ready<Answer<E>> + Clone + Send + Sync + 'static {
    let fleet = Arc::clone(fleet);
    move |caller, request| ready(answer(&fleet, caller, request))
}

/// An edge with a fleet behind it.
pub(crate) struct Stage {
    pub(crate) edge: Edge,
    pub(crate) fleet: Arc<Fleet>,
    _services: Vec<ServiceHandle>,
}

pub(crate) fn at() -> Timestamp {
    Timestamp::from_millis(1_795_258_800_000)
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// Nobody gets in without a credential: `key-ann` is ann's, `node-kitchen` the node's own.
    pub(crate) async fn signed_in() -> Self {
        Self::start_with(Config {
            require_credentials: true,
            ..Config::default()
        })
        .await
    }

    async fn start_with(config: Config) -> Self {
        let edge = Edge::start_with(config).await;
        let fleet = Arc::new(Fleet::default());
        let bus = &edge.bus;
        let registry = bus
            .service("registry", "0.1.0")
            .endpoint::<NodeGet, _, _>(on::<NodeGet>(&fleet, Fleet::get))
            .endpoint::<NodeList, _, _>(on::<NodeList>(&fleet, Fleet::list))
            .endpoint::<NodeConfigure, _, _>(on::<NodeConfigure>(&fleet, Fleet::configure))
            .endpoint::<NodeReportedMode, _, _>(on::<NodeReportedMode>(&fleet, Fleet::reported_mode))
            .endpoint::<NodeDrain, _, _>(on::<NodeDrain>(&fleet, Fleet::drain))
            .endpoint::<NodeForget, _, _>(on::<NodeForget>(&fleet, Fleet::forget))
            .start();
        let heartbeat = bus
            .service("heartbeat", "0.1.0")
            .endpoint::<HeartbeatReport, _, _>(on::<HeartbeatReport>(&fleet, Fleet::heartbeat))
            .endpoint::<HealthReport, _, _>(on::<HealthReport>(&fleet, Fleet::health))
            .endpoint::<Observed, _, _>(on::<Observed>(&fleet, Fleet::observed))
            .start();
        let identity = bus
            .service("identity", "0.1.0")
            .endpoint::<Enroll, _, _>(on::<Enroll>(&fleet, Fleet::enroll))
            .endpoint::<CredentialVerify, _, _>(on::<CredentialVerify>(&fleet, Fleet::verify))
            .endpoint::<AuditNote, _, _>(on::<AuditNote>(&fleet, |fleet, caller, entry| {
                fleet.notes.lock().unwrap().push((caller, entry));
                Ok(AuditNoted {})
            }))
            .start();
        let services = vec![
            registry.await.unwrap(),
            heartbeat.await.unwrap(),
            identity.await.unwrap(),
        ];
        let stage = Self {
            edge,
            fleet,
            _services: services,
        };
        // Its answer says that the services hear.
        let heard = || async {
            let caller = Caller::service("test", mesh_types::Tenant::default());
            let nodes = ObservedRequest { nodes: Vec::new() };
            stage.edge.bus.call::<Observed>(&caller, &nodes).await.is_ok()
        };
        wait_until(Duration::from_secs(30), heard).await;
        stage
    }

    pub(crate) fn node(&self, id: &str, owner: &str, mode: NodeMode) {
        let entry = entry(id, owner, mode);
        self.fleet.nodes.lock().unwrap().insert(entry.node_id.clone(), entry);
    }

    pub(crate) fn known(&self, id: &str) -> NodeEntry {
        self.fleet.nodes.lock().unwrap()[&id.parse::<NodeId>().unwrap()].clone()
    }

    pub(crate) fn heard_of(&self, id: &str) -> ObservedNode {
        self.fleet.seen.lock().unwrap()[&id.parse::<NodeId>().unwrap()].clone()
    }

    /// Actor, action and subject of what was refused.
    pub(crate) fn notes(&self) -> Vec<(String, String, String)> {
        let notes = self.fleet.notes.lock().unwrap();
        let facts = notes.iter().map(|(_, entry)| {
            assert_eq!(entry.outcome, AuditOutcome::Refused);
            (entry.actor.clone(), entry.action.clone(), entry.subject.clone())
        });
        facts.collect()
    }
}

pub(crate) fn entry(id: &str, owner: &str, mode: NodeMode) -> NodeEntry {
    let node_id: NodeId = id.parse().unwrap();
    NodeEntry {
        node_id: node_id.clone(),
        tenant: mesh_types::Tenant::default(),
        owner: owner.to_owned(),
        name: format!("the {id}"),
        configuration: NodeConfiguration {
            mode,
            node_uid: Some(node_id),
            ..NodeConfiguration::default()
        },
        labels: Labels::new(),
        capabilities: vec!["llm".into()],
        slots: 4,
        drained: false,
        registered_at: at(),
        updated_at: at(),
    }
}

pub(crate) fn shared_with(user: &str) -> Sharing {
    Sharing {
        users: vec![user.to_owned()],
        ..Sharing::default()
    }
}

impl Fleet {
    fn missing(id: &NodeId) -> Problem {
        Problem::new(Code::NodeNotFound, format!("there is no node `{id}`"))
    }

    fn get(&self, caller: Caller, request: NodeGetRequest) -> Answer<NodeGet> {
        let nodes = self.nodes.lock().unwrap();
        let viewer = request.viewer.in_tenant(&caller.tenant);
        let found = nodes.get(&request.node_id).cloned();
        found
            .filter(|entry| fleet_policy::sees(viewer, entry.facts()))
            .ok_or_else(|| Self::missing(&request.node_id))
    }

    fn list(&self, caller: Caller, request: NodeListRequest) -> Answer<NodeList> {
        let nodes = self.nodes.lock().unwrap();
        let viewer = request.viewer.in_tenant(&caller.tenant);
        let after = request.page.after.clone().unwrap_or_default();
        let seen = nodes
            .values()
            .filter(|entry| fleet_policy::sees(viewer, entry.facts()) && entry.node_id.as_str() > after.as_str());
        Ok(Page::cut(seen.cloned().collect(), request.page.limit(), |entry| {
            entry.node_id.to_string()
        }))
    }

    fn change(
        &self,
        caller: &Caller,
        viewer: &Viewer,
        id: &NodeId,
        change: impl FnOnce(&mut NodeEntry),
    ) -> Result<NodeEntry, Problem> {
        let mut nodes = self.nodes.lock().unwrap();
        let may = |entry: &&mut NodeEntry| fleet_policy::may_configure(viewer.in_tenant(&caller.tenant), entry.facts());
        let Some(entry) = nodes.get_mut(id).filter(may) else {
            return Err(match viewer.owner {
                None => Self::missing(id),
                Some(_) => Problem::new(Code::Forbidden, format!("`{id}` is no node of yours")),
            });
        };
        change(entry);
        Ok(entry.clone())
    }

    fn configure(&self, caller: Caller, request: NodeConfigureRequest) -> Answer<NodeConfigure> {
        let configuration = request.configuration;
        if configuration.node_uid.as_ref() != Some(&request.node_id) {
            return Err(Problem::new(Code::InvalidRequest, "of another node").field("node_uid"));
        }
        self.change(&caller, &request.viewer, &request.node_id, |entry| {
            entry.configuration = configuration;
            entry.labels = request.labels.unwrap_or_else(|| entry.labels.clone());
        })
    }

    fn reported_mode(&self, _: Caller, request: NodeReportedModeRequest) -> Answer<NodeReportedMode> {
        let mut nodes = self.nodes.lock().unwrap();
        let entry = nodes
            .get_mut(&request.node_id)
            .ok_or_else(|| Self::missing(&request.node_id))?;
        entry.configuration.mode = request.mode;
        self.reports.lock().unwrap().push(request);
        Ok(entry.clone())
    }

    fn drain(&self, caller: Caller, request: NodeDrainRequest) -> Answer<NodeDrain> {
        self.change(&caller, &request.viewer, &request.node_id, |entry| {
            entry.drained = request.drained
        })
    }

    fn forget(&self, caller: Caller, request: NodeGetRequest) -> Answer<NodeForget> {
        let entry = self.change(&caller, &request.viewer, &request.node_id, |_| {})?;
        self.nodes.lock().unwrap().remove(&request.node_id);
        Ok(entry)
    }

    fn heartbeat(&self, _: Caller, heartbeat: mesh_types::fleet::Heartbeat) -> Answer<HeartbeatReport> {
        let mut seen = self.seen.lock().unwrap();
        let node = seen
            .entry(heartbeat.node_id.clone())
            .or_insert_with(|| unseen(&heartbeat.node_id));
        let newer = |known: &mesh_types::fleet::Heartbeat| {
            (known.incarnation, known.seq) < (heartbeat.incarnation, heartbeat.seq)
        };
        let taken = node.heartbeat.as_ref().is_none_or(newer);
        if taken {
            node.alive = true;
            node.heartbeat = Some(heartbeat);
        }
        Ok(Reported { taken })
    }

    fn health(&self, _: Caller, request: HealthReportRequest) -> Answer<HealthReport> {
        let mut seen = self.seen.lock().unwrap();
        let node = seen
            .entry(request.node_id.clone())
            .or_insert_with(|| unseen(&request.node_id));
        node.last_health_at = Some(at());
        node.health = Some(request.health);
        Ok(Reported { taken: true })
    }

    fn observed(&self, _: Caller, request: ObservedRequest) -> Answer<Observed> {
        let seen = self.seen.lock().unwrap();
        Ok(request.nodes.iter().filter_map(|id| seen.get(id).cloned()).collect())
    }

    fn enroll(&self, caller: Caller, request: EnrollRequest) -> Answer<Enroll> {
        let id = request
            .node_id
            .clone()
            .map_or_else(|| "nod_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(), |id| id.to_string());
        let owner = caller.actor.strip_prefix("user:").unwrap_or("dev").to_owned();
        let mut node = entry(&id, &owner, request.mode.unwrap_or_default());
        node.tenant = caller.tenant.clone();
        node.capabilities = request.capabilities.clone().unwrap_or_default();
        self.nodes.lock().unwrap().insert(node.node_id.clone(), node.clone());
        let secret = request.credential.as_ref().map(|_| "mns_secret".to_owned());
        self.enrolled.lock().unwrap().push((caller, request));
        Ok(Enrolled {
            node,
            secret,
            nats_url: Some("nats://mesh.example.org:4222".into()),
        })
    }

    fn verify(&self, _: Caller, request: VerifyRequest) -> Answer<CredentialVerify> {
        let unknown = || Problem::new(Code::Unauthorized, "that is no credential of this mesh");
        let (kind, id) = request.credential.split_once('-').ok_or_else(unknown)?;
        let (kind, owner) = match kind {
            "key" => (PrincipalKind::Key, id.to_owned()),
            "node" => {
                let node: NodeId = id.parse().map_err(|_| unknown())?;
                let owner = self.nodes.lock().unwrap().get(&node).map(|entry| entry.owner.clone());
                (PrincipalKind::Node, owner.ok_or_else(unknown)?)
            }
            _ => return Err(unknown()),
        };
        Ok(Principal {
            role: (kind == PrincipalKind::Key).then_some(mesh_api::Role::Developer),
            scopes: Vec::new(),
            id: id.to_owned(),
            kind,
            owner,
            tenant: mesh_types::Tenant::default(),
        })
    }
}

fn unseen(id: &NodeId) -> ObservedNode {
    ObservedNode {
        node_id: id.clone(),
        alive: false,
        since: at(),
        last_seen_at: at(),
        last_health_at: None,
        heartbeat: None,
        health: None,
    }
}
