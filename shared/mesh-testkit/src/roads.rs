//! What a service that nodes ask needs around it: whoever signs tickets, whoever knows the nodes, and the audit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_api::Endpoint;
use mesh_api::fleet::{NodeEntry, NodeGet};
use mesh_api::identity::{AuditEntry, AuditNote, AuditNoted};
use mesh_api::node::{Ticket, TicketHeld, TicketHeldReply, TicketKey, TicketKeyGet};
use mesh_bus::{Bus, ServiceHandle};
use mesh_runtime::TicketSigner;
use mesh_types::{Clock, Code, InvocationId, Problem, Subject, SystemClock, Tenant};
use serde_json::json;

/// Fakes of `execution`, `registry` and `identity`, as far as roads of nodes need them; gone when dropped.
pub struct TestRoads {
    signer: Arc<TicketSigner>,
    notes: Arc<Mutex<Vec<AuditEntry>>>,
    held: Arc<Mutex<HashMap<InvocationId, Result<TicketHeldReply, Problem>>>>,
    _services: Vec<ServiceHandle>,
}

impl TestRoads {
    /// With a registry where all nodes are ann's, in tenant `default`.
    pub async fn start(bus: &Bus) -> Self {
        let registry = bus.service("registry", "0.0.0").endpoint::<NodeGet, _, _>(|_, request| {
            let entry = json!({
                "node_id": request.node_id, "tenant": "default", "owner": "ann", "name": "a node", "mode": "private",
                "labels": {}, "capabilities": [], "slots": 4, "drained": false,
                "registered_at": "2026-11-21T12:00:00Z", "updated_at": "2026-11-21T12:00:00Z",
            });
            let entry: Result<NodeEntry, _> = serde_json::from_value(entry);
            std::future::ready(entry.map_err(|error| Problem::new(Code::Internal, error.to_string())))
        });
        let mut roads = Self::beside_registry(bus).await;
        roads._services.push(registry.start().await.expect("it is served"));
        roads
    }

    /// Where the registry is a real one.
    pub async fn beside_registry(bus: &Bus) -> Self {
        let signer = Arc::new(TicketSigner::from_seed(&[7; 32]).expect("32 bytes are a seed"));
        let (signs, notes) = (Arc::clone(&signer), Arc::<Mutex<Vec<AuditEntry>>>::default());
        let held = Arc::<Mutex<HashMap<InvocationId, Result<TicketHeldReply, Problem>>>>::default();
        let holds = Arc::clone(&held);
        let execution = bus
            .service("execution", "0.0.0")
            .endpoint::<TicketKeyGet, _, _>(move |_, _| std::future::ready(Ok(TicketKey { public: signs.public() })))
            .endpoint::<TicketHeld, _, _>(move |_, request| {
                let held = holds.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = held.get(&request.invocation).cloned();
                std::future::ready(answer.unwrap_or_else(|| Ok(is_held(true))))
            });
        let noted = Arc::clone(&notes);
        let identity = bus
            .service("identity", "0.0.0")
            .endpoint::<AuditNote, _, _>(move |_, entry| {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                std::future::ready(Ok(AuditNoted {}))
            });
        let services = vec![
            execution.start().await.expect("it is served"),
            identity.start().await.expect("it is served"),
        ];
        Self {
            signer,
            notes,
            held,
            _services: services,
        }
    }

    /// As `execution` gives it with a grant, now.
    pub fn ticket(&self, node: &str, tenant: &str, agent: &str, invocation: InvocationId) -> Ticket {
        let mut ticket = Ticket {
            tenant: tenant.parse::<Tenant>().expect("a name"),
            agent: agent.parse().expect("a name"),
            invocation,
            shard: 3,
            epoch: 1,
            issued_at: SystemClock::default().now(),
            signature: String::new(),
        };
        self.sign(node, &mut ticket);
        ticket
    }

    pub fn sign(&self, node: &str, ticket: &mut Ticket) {
        self.signer.sign(&node.parse().expect("a name"), ticket);
    }

    /// What `execution` says of claims of the invocation from now on; unless told otherwise, that they are held.
    pub fn held(&self, invocation: InvocationId, answer: Result<bool, Problem>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(invocation, answer.map(is_held));
    }

    /// That claims of it are held, with what `execution` knows of it.
    pub fn holds(&self, invocation: InvocationId, about: TicketHeldReply) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(invocation, Ok(TicketHeldReply { held: true, ..about }));
    }

    /// What the audit was told.
    pub fn notes(&self) -> Vec<AuditEntry> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where that node asks the endpoint.
    pub fn road<E: Endpoint>(node: &str) -> Subject {
        Subject::NodeService {
            node: node.parse().expect("a name"),
            service: E::SERVICE.parse().expect("a token"),
            endpoint: E::NAME.parse().expect("a token"),
        }
    }
}

fn is_held(held: bool) -> TicketHeldReply {
    TicketHeldReply {
        held,
        ..TicketHeldReply::default()
    }
}
