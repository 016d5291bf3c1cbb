//! Who owns what on NATS, as people would say it, and independent of the lists that the server gets: for each subject who
//! speaks there and who listens. A new `Subject` does not compile without a word here.

use mesh_bus::topology::{self, Topology};
use mesh_bus::{Bucket, StreamName};
use mesh_types::{Id, InvocationId, Subject};

/// Of tenant `daarion`, whose agents, keys and facts the rows have.
pub(super) const OWN: &str = "daarion";
/// Of the other tenant, which only services know.
const OTHER: &str = "other";

/// Names of rows.
type Who = Vec<&'static str>;

/// A subject, who may say something there, and who may hear it.
pub(super) struct Column {
    pub(super) subject: String,
    pub(super) say: Who,
    pub(super) hear: Who,
}

/// The user of a mesh in one process is in every list in which a service stands.
fn column(subject: impl ToString, say: &[&'static str], hear: &[&'static str]) -> Column {
    let with_whole = |who: &[&'static str]| {
        let is_service = |name: &&str| super::SERVICES.contains(name) || super::JOBS.contains(name);
        let whole = who.iter().any(is_service).then_some("mesh");
        who.iter().copied().chain(whole).collect()
    };
    Column {
        subject: subject.to_string(),
        say: with_whole(say),
        hear: with_whole(hear),
    }
}

pub(super) fn columns() -> Vec<Column> {
    let mut all: Vec<Column> = samples().iter().map(of_subject).collect();
    all.extend(asked_by_name());
    all.extend(of_server());
    let topology = topology::standard();
    all.extend(of_streams(&topology));
    all.extend(Bucket::ALL.into_iter().flat_map(of_bucket));
    all.extend(of_consumers(&topology));
    all
}

fn subject(text: &str) -> Subject {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// At least one of each kind.
fn samples() -> Vec<Subject> {
    let invocation = InvocationId::from_u128(7);
    let mut all = vec![subject("router.invoke.agent"), subject("mesh.journal._shard.3")];
    for tenant in [OWN, OTHER] {
        let of_tenant = [
            format!("mesh.invoke.{tenant}.sofia"),
            format!("mesh.call.{tenant}.sofia"),
            format!("mesh.journal.{tenant}.{invocation}"),
            format!("mesh.token.{tenant}.{invocation}"),
            format!("mesh.dead.{tenant}.invocation"),
            format!("mesh.reply.{tenant}.x"),
        ];
        all.extend(of_tenant.iter().map(|text| subject(text)));
        let kinds = [
            "tenant",
            "agent",
            "node",
            "channel",
            "memory",
            "knowledge",
            "model",
            "pass",
            "service",
        ];
        let kinds = kinds.into_iter().chain(["pause", "dead-letter", "audit", "unheard-of"]);
        all.extend(kinds.map(|kind| subject(&format!("mesh.event.{tenant}.{kind}.x.done"))));
    }
    for node in ["kitchen", "cellar"] {
        for family in ["heartbeat", "health", "bell", "tunnel"] {
            all.push(subject(&format!("mesh.{family}.{node}")));
        }
        let services = super::SERVICES.iter();
        all.extend(services.map(|service| subject(&format!("mesh.node.{node}.{service}.x"))));
    }
    all.extend(super::SERVICES.map(|service| subject(&format!("mesh.svc.{service}.x"))));
    all.push(subject("mesh.execution.one.accept"));
    all.push(subject("$SYS.REQ.SERVER.NABC.KICK"));
    let rows = super::SERVICES
        .iter()
        .chain(&super::JOBS)
        .map(|name| format!("svc_{name}"));
    let others = ["mesh", "kitchen", "cellar"].map(str::to_owned);
    all.extend(rows.chain(others).map(|user| subject(&format!("_INBOX.{user}.x.1"))));
    all
}

/// Keys that see invocations of their tenant.
const VIEWERS: [&str; 4] = ["viewer", "publisher", "owner", "narrow"];

fn of_subject(subject: &Subject) -> Column {
    let own = |tenant: &mesh_types::Tenant, who: &[&'static str]| {
        let who = if tenant.as_str() == OWN { who } else { &[] };
        who.to_vec()
    };
    let with = |who: &[&'static str], more: Vec<&'static str>| [who, &more].concat();
    match subject {
        // Durable: only INVOCATIONS hears it.
        Subject::Invoke { tenant, .. } => column(subject, &with(&["mesh"], own(tenant, &["publisher", "owner"])), &[]),
        Subject::RouterInvoke => column(subject, &["mesh", "router", "operator"], &[]),
        Subject::Call { tenant, .. } => {
            let say = with(&["mesh"], own(tenant, &["publisher", "owner"]));
            column(subject, &say, &["execution"])
        }
        Subject::Service { service, .. } => {
            let is_first = ["registry", "identity"].contains(&service.as_str());
            let say: &[_] = if is_first { &["gateway", "seed"] } else { &["gateway"] };
            column(subject, say, &answering(service.as_str()))
        }
        Subject::Execution { .. } => column(subject, &["execution"], &["execution"]),
        Subject::Journal { tenant, .. } => column(subject, &["execution"], &with(&["gateway"], own(tenant, &VIEWERS))),
        Subject::JournalMark { .. } => column(subject, &["execution"], &["gateway"]),
        Subject::Tokens { tenant, .. } => {
            let hear = with(&["gateway", "execution"], own(tenant, &VIEWERS));
            column(subject, &["execution"], &hear)
        }
        Subject::Event { tenant, kind, .. } => {
            let hear = with(hears_kind(kind.as_str()), own(tenant, sees_kind(kind.as_str())));
            column(subject, tells_kind(kind.as_str()), &hear)
        }
        Subject::Dead { .. } => column(subject, &["execution", "identity"], &["operator"]),
        Subject::Heartbeat { node } | Subject::Health { node } => {
            let say: &[_] = if node.as_str() == "kitchen" {
                &["mesh", "node"]
            } else {
                &["mesh"]
            };
            column(subject, say, &["heartbeat", "operator"])
        }
        Subject::NodeService { node, service, .. } => {
            let say: &[_] = if node.as_str() == "kitchen" { &["node"] } else { &[] };
            column(subject, say, &by_nodes(service.as_str()))
        }
        Subject::Bell { node } => {
            let hear: &[_] = if node.as_str() == "kitchen" { &["node"] } else { &[] };
            column(subject, &["registry", "execution", "reconciler"], hear)
        }
        Subject::Tunnel { node } => {
            let hear: &[_] = if node.as_str() == "kitchen" { &["node"] } else { &[] };
            column(subject, &["gateway"], hear)
        }
        // Only in the system account.
        Subject::KickConnection { .. } => column(subject, &["system"], &[]),
        Subject::Reply { tenant, .. } => {
            let hear = with(&["mesh"], own(tenant, &["publisher", "owner"]));
            column(subject, &["execution"], &hear)
        }
        Subject::Inbox { rest } => of_inbox(subject, rest),
    }
}

/// Who answers speaks in everybody's inbox; each hears only its own.
fn of_inbox(subject: &Subject, rest: &str) -> Column {
    let named = rest.split('.').next().unwrap();
    let named = named.strip_prefix("svc_").unwrap_or(named);
    let mut say: Who = super::ANSWERING.to_vec();
    let rows = super::SERVICES.iter().chain(&super::JOBS).copied().chain(["mesh"]);
    let own = rows
        .chain(["node"])
        .find(|row| *row == named || (*row == "node" && named == "kitchen"));
    // Nobody but services needs to speak there; jobs look at their own to see that they are connected.
    say.extend(own.filter(|row| super::JOBS.contains(row) || *row == "gateway"));
    Column {
        hear: own.into_iter().collect(),
        ..column(subject, &say, &[])
    }
}

fn answering(service: &str) -> Who {
    let known = super::ANSWERING.into_iter().filter(|one| *one == service);
    known.collect()
}

/// Nodes ask every service, and the gateway's tunnels.
fn by_nodes(service: &str) -> Who {
    let known = super::SERVICES.into_iter().filter(|one| *one == service);
    known.collect()
}

fn tells_kind(kind: &str) -> &'static [&'static str] {
    match kind {
        "tenant" | "agent" => &["registry"],
        "node" => &["registry", "heartbeat"],
        "channel" => &["messaging"],
        "memory" | "knowledge" => &["memory"],
        "model" => &["inference"],
        "pass" | "service" => &["reconciler"],
        "pause" | "dead-letter" => &["execution"],
        "audit" => &["identity"],
        _ => &[],
    }
}

fn hears_kind(kind: &str) -> &'static [&'static str] {
    match kind {
        "node" => &[
            "gateway",
            "operator",
            "identity",
            "heartbeat",
            "execution",
            "reconciler",
        ],
        "agent" => &["gateway", "operator", "reconciler"],
        _ => &["gateway", "operator"],
    }
}

/// Keys of the tenant: nodes may be private to their owners, and the audit is for owners.
fn sees_kind(kind: &str) -> &'static [&'static str] {
    match kind {
        "node" => &[],
        "audit" => &["owner"],
        _ => &["viewer", "publisher", "owner"],
    }
}

/// Endpoints that matter most, by the services that ask them.
fn asked_by_name() -> Vec<Column> {
    let asks = |endpoint: &str, say: &[&'static str]| {
        let service = endpoint.split('.').next().unwrap();
        column(format!("mesh.svc.{endpoint}"), say, &answering(service))
    };
    let notes = [
        "gateway",
        "seed",
        "heartbeat",
        "registry",
        "execution",
        "messaging",
        "memory",
        "inference",
    ];
    vec![
        asks("identity.key-create", &["gateway", "seed"]),
        asks("identity.credential-verify", &["gateway", "seed"]),
        asks("identity.audit-note", &notes),
        asks("inference.complete", &["gateway", "execution"]),
        asks("inference.cancel-call", &["gateway", "execution"]),
        asks("registry.agent-delete", &["gateway", "seed"]),
        asks("memory.memory-store", &["gateway", "execution"]),
        asks("messaging.message-post", &["gateway", "execution"]),
    ]
}

/// Of nats-server itself.
fn of_server() -> Vec<Column> {
    let discover = ["gateway", "reconciler", "seed", "restore", "operator"];
    vec![
        column("$SRV.STATS", &discover, &super::ANSWERING),
        column("$SRV.PING.registry", &discover, &["registry"]),
        column("$SYS.REQ.USER.AUTH", &[], &["identity"]),
        column("$SYS._INBOX.x", &["identity"], &[]),
        column("$SYS.REQ.SERVER.PING.CONNZ", &["system"], &[]),
        column("$SYS.ACCOUNT.$G.CONNECT", &[], &[]),
        column("$JS.API.ACCOUNT.PURGE.$G", &[], &[]),
        column("$JS.EVENT.ADVISORY.API", &[], &[]),
        column("$JS.SNAPSHOT.ACK.EVENTS.x", &["backup"], &[]),
        column("$JS.SNAPSHOT.RESTORE.EVENTS.x", &["restore"], &[]),
        column("elsewhere", &[], &[]),
        column("mesh.unheard-of.x", &[], &[]),
        column("_INBOX.elsewhere", &super::ANSWERING, &[]),
    ]
}

/// Who reads messages of a stream.
fn readers(stream: &str) -> &'static [&'static str] {
    let name = StreamName::ALL.into_iter().find(|name| name.as_str() == stream);
    match name {
        Some(StreamName::Invocations) => &[],
        Some(StreamName::Journal) => &["execution", "gateway"],
        Some(StreamName::Tokens) => &["gateway"],
        // Who publishes durably reads back whether it is there.
        Some(StreamName::Events) => &[
            "gateway",
            "registry",
            "identity",
            "heartbeat",
            "execution",
            "messaging",
            "memory",
            "inference",
            "reconciler",
        ],
        Some(StreamName::DeadLetters) => &["execution", "identity", "operator"],
        None => key_readers(stream),
    }
}

fn key_readers(stream: &str) -> &'static [&'static str] {
    match stream {
        "KV_AGENTS" => &["registry", "execution"],
        "KV_PRESENCE" => &["heartbeat", "reconciler"],
        "KV_ASSIGNMENTS" => &["registry", "execution", "reconciler"],
        "KV_A2A_PUSH" => &["gateway"],
        other => panic!("nobody is said to read {other}"),
    }
}

fn followers(stream: &str) -> &'static [&'static str] {
    match stream {
        "EVENTS" => &["gateway"],
        other if other.starts_with("KV_") => key_readers(other),
        _ => &[],
    }
}

fn of_streams(topology: &Topology) -> Vec<Column> {
    let in_memory = |name: &str| ["TOKENS", "KV_PRESENCE", "JOURNAL"].contains(&name);
    let all = topology.streams.iter().chain(&topology.buckets);
    all.flat_map(|stream| {
        let name = stream.name.as_str();
        let api = |verb: &str, who: &[&'static str]| column(format!("$JS.API.{verb}"), who, &[]);
        let mut looks = [&super::SERVICES[..], &super::JOBS].concat();
        looks.push("operator");
        let makes = ["migrate", "restore"];
        let mut remakes = makes.to_vec();
        if in_memory(name) {
            remakes.extend(super::ANSWERING);
        }
        vec![
            api(&format!("STREAM.INFO.{name}"), &looks),
            api(&format!("STREAM.CREATE.{name}"), &remakes),
            api(&format!("STREAM.UPDATE.{name}"), &makes),
            api(&format!("STREAM.PURGE.{name}"), &[]),
            api(&format!("STREAM.MSG.DELETE.{name}"), &[]),
            api(&format!("STREAM.DELETE.{name}"), &["restore"]),
            api(&format!("STREAM.SNAPSHOT.{name}"), &["backup"]),
            api(&format!("STREAM.RESTORE.{name}"), &["restore"]),
            api(&format!("STREAM.MSG.GET.{name}"), readers(name)),
            api(&format!("DIRECT.GET.{name}"), readers(name)),
            api(&format!("CONSUMER.CREATE.{name}.x.y"), followers(name)),
            api(&format!("CONSUMER.DURABLE.CREATE.{name}.x"), &[]),
            api(&format!("CONSUMER.DELETE.{name}.x"), followers(name)),
            api(&format!("CONSUMER.MSG.NEXT.{name}.x"), &[]),
        ]
    })
    .collect()
}

fn of_bucket(bucket: Bucket) -> Vec<Column> {
    let writer = match bucket {
        Bucket::Agents => "registry",
        Bucket::Presence => "heartbeat",
        Bucket::Assignments => "reconciler",
        Bucket::Pushes => "gateway",
    };
    vec![column(format!("$KV.{}.a.b", bucket.name()), &[writer], &[])]
}

fn of_consumers(topology: &Topology) -> Vec<Column> {
    let consumers = topology.consumers.iter();
    consumers
        .flat_map(|consumer| {
            let (stream, durable) = (consumer.stream.as_str(), consumer.durable);
            let owner = match consumer.stream {
                StreamName::Invocations => "execution",
                StreamName::Events => "identity",
                other => panic!("nobody is said to pull from {other:?}"),
            };
            vec![
                column(
                    format!("$JS.API.CONSUMER.CREATE.{stream}.{durable}"),
                    &[owner, "migrate", "restore"],
                    &[],
                ),
                column(format!("$JS.API.CONSUMER.DELETE.{stream}.{durable}"), &[], &[]),
                column(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"), &[owner], &[]),
                column(format!("$JS.ACK.{stream}.{durable}.1.1.1.1.0"), &[owner], &[]),
                column(format!("$JS.ACK._.x.{stream}.{durable}.1.1.1.1.0"), &[owner], &[]),
            ]
        })
        .collect()
}
