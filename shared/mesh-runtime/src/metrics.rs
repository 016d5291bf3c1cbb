//! Metrics: one enum of names, instruments that say their service, and the text that Prometheus reads.

mod bound;
mod exemplars;
mod observed;
pub(crate) mod openmetrics;
mod process;

use std::sync::Arc;

use mesh_trace::TraceContext;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::telemetry::MetricReader;
pub use bound::{BoundCounter, BoundHistogram};
pub use observed::Told;

use exemplars::Exemplars;
use process::Process;

/// Label that names the service; Prometheus shows it as `mesh_service`.
pub const SERVICE_LABEL: &str = "mesh.service";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// In the unit of its name; `s` has buckets of a half millisecond to a minute, others powers of two.
    Histogram,
}

macro_rules! metrics {
    ($($name:ident = $text:literal, $kind:ident, $unit:literal, $help:literal;)*) => {
        /// Every metric of the mesh.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum MetricName { $(#[doc = $help] $name,)* }

        impl MetricName {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Name, kind, unit (UCUM, empty for counts), help.
            pub const fn row(self) -> (&'static str, Kind, &'static str, &'static str) {
                match self { $(Self::$name => ($text, Kind::$kind, $unit, $help),)* }
            }
        }
    };
}

metrics! {
    TaskPanics = "mesh.task.panics", Counter, "", "Tasks that panicked, by `task`.";
    ServiceRestarts = "mesh.service.restarts", Counter, "", "Restarts of a service within its process, by `reason`.";
    LoopPasses = "mesh.loop.passes", Counter, "", "Passes of a loop, by `loop` and `outcome`.";
    LoopPassDuration = "mesh.loop.pass.duration", Histogram, "s", "Time that a pass took, by `loop`.";
    HttpRequests = "mesh.http.requests", Counter, "", "HTTP requests answered, by `route`, `method` and `status`.";
    HttpDuration = "mesh.http.duration", Histogram, "s", "Time to the head of an HTTP answer, by `route` and `method`.";
    LiveConnections = "mesh.live.connections", Gauge, "", "Open connections that push, by `kind` (websocket and events: live pushes, sse: of one invocation, tunnel and nats: of nodes).";
    BusRequests = "mesh.bus.requests", Counter, "", "Requests answered on the bus, by `endpoint` and `outcome` (ok, refused, busy, failed, late).";
    BusDuration = "mesh.bus.duration", Histogram, "s", "Time to answer a request on the bus, by `endpoint`.";
    BusReconnects = "mesh.bus.reconnects", Counter, "", "Reconnects to NATS.";
    EventsPublished = "mesh.events.published", Counter, "", "Events published, by `event`.";
    DeadLetters = "mesh.dead_letters", Counter, "", "Messages and invocations that became dead letters, by `origin` (a stream, or invocation).";
    InvocationsAccepted = "mesh.invocations.accepted", Counter, "", "Invocations accepted for good, by `by` (request, parent, fork).";
    InvocationsEnded = "mesh.invocations.ended", Counter, "", "Invocations ended, by `outcome` (completed, failed, cancelled, dead).";
    InvocationsOpen = "mesh.invocations.open", Gauge, "", "Invocations that have not ended, by `state` (queued, running, waiting).";
    InvocationDuration = "mesh.invocation.duration", Histogram, "s", "Time from acceptance to the end, by `outcome`.";
    InvocationsRefused = "mesh.invocations.refused", Counter, "", "Requests for invocations refused, by `reason`, the type of the problem.";
    StepsRecorded = "mesh.steps.recorded", Counter, "", "Steps recorded, by `kind`.";
    StepsRepeated = "mesh.steps.repeated", Counter, "", "Effects that had begun and were not recorded, and ran again under a later claim, by `kind`.";
    Commits = "mesh.commits", Counter, "", "Batches of lanes, by `outcome` (ok, lost, refused, aborted, unknown); the last two are sent again.";
    CommitDuration = "mesh.commit.duration", Histogram, "s", "Time that a batch took to commit.";
    CommitRows = "mesh.commit.rows", Histogram, "", "Rows of a committed batch.";
    CommandsWaiting = "mesh.commands.waiting", Gauge, "", "Commands that wait for a lane, as of its last batch; accepts as of now.";
    ShardsOwned = "mesh.shards.owned", Gauge, "", "Shards that this process owns.";
    ShardTakeovers = "mesh.shard.takeovers", Counter, "", "Shards taken over, by `reason` (free, own, silent).";
    RelayLag = "mesh.relay.lag", Gauge, "", "Batches committed here and not yet relayed to JOURNAL.";
    WorkersBusy = "mesh.workers.busy", Gauge, "", "Hosted workers at work.";
    ModelCalls = "mesh.model.calls", Counter, "", "Calls of model providers, by `provider` and `outcome`.";
    ModelDuration = "mesh.model.duration", Histogram, "s", "Time of a model call, by `provider`.";
    ModelTokens = "mesh.model.tokens", Counter, "", "Tokens, by `provider` and `direction` (input, output).";
    ModelCost = "mesh.model.cost", Counter, "", "Money for model calls in millionths of a US dollar, by `provider`.";
    ModelUnpriced = "mesh.model.unpriced", Counter, "", "Calls of models without a price, by `provider`.";
    ModelCircuit = "mesh.model.circuit", Gauge, "", "Circuit of a provider, by `provider`: 0 closed, 1 half open, 2 open.";
    ModelsWaiting = "mesh.model.waiting", Gauge, "", "Calls that wait for their turn at a provider, by `provider`.";
    ModelRefusals = "mesh.model.refusals", Counter, "", "Calls not made, by `provider` and `reason` (resting, busy).";
    ModelCacheAnswers = "mesh.model.cache", Counter, "", "Requests that asked the response cache, by `outcome` (hit, miss).";
    ModelUsesLost = "mesh.model.uses.lost", Counter, "", "Usage events that could not be published; the journal has them.";
    MemoryQueries = "mesh.memory.queries", Counter, "", "Searches of memory, by `outcome`.";
    MemoryQueryDuration = "mesh.memory.query.duration", Histogram, "s", "Time of a search of memory.";
    MemoriesStored = "mesh.memories.stored", Counter, "", "Memories stored, by `type`.";
    EmbeddingDuration = "mesh.embedding.duration", Histogram, "s", "Time to embed a batch of texts.";
    MessagesPosted = "mesh.messages.posted", Counter, "", "Messages posted, by `author`.";
    NodeReports = "mesh.node.reports", Counter, "", "Heartbeats and health reports of nodes, by `kind` and `outcome`.";
    NodesSeen = "mesh.nodes.seen", Gauge, "", "Nodes that this process heard of and did not see go.";
    NodeRowsWritten = "mesh.node.rows.written", Counter, "", "Rows that coalesced reports became, by `kind`.";
    PresenceWrites = "mesh.presence.writes", Counter, "", "Writes of presence, by `kind` (change, renewal) and `outcome`.";
    AgentsPublished = "mesh.agents.published", Counter, "", "Agent versions published.";
    QueueWaiting = "mesh.queue.waiting", Gauge, "", "Runnable invocations that wait for a slot, of paused agents too, by `tenant` and `agent`; past 200 agents: other.";
    QueueAge = "mesh.queue.age", Gauge, "s", "Time that the longest waiting runnable invocation has waited, by `tenant` and `agent`.";
    DispatchDuration = "mesh.dispatch.duration", Histogram, "s", "Time from runnable to started, with its claim committed.";
    Replays = "mesh.replays", Counter, "", "Journals read again to go on with an invocation, by `reason` (loss, wait, hand_over).";
    LeasesLost = "mesh.leases.lost", Counter, "", "Claims that ended without their worker's end, by `reason` (worker, node, restart, lease, grant, owner).";
    AgentModelCalls = "mesh.agent.model.calls", Counter, "", "Model steps recorded, by `tenant` and `agent`.";
    AgentTokens = "mesh.agent.tokens", Counter, "", "Tokens of recorded model steps, by `tenant`, `agent` and `direction` (input, output).";
    AgentCost = "mesh.agent.cost", Counter, "", "Money of recorded model steps in millionths of a US dollar, by `tenant` and `agent`.";
    ReconcilerPasses = "mesh.reconciler.passes", Counter, "", "Passes of the reconciler, by `outcome` (changed, unchanged, blind, failed).";
    ReconcilerPassDuration = "mesh.reconciler.pass.duration", Histogram, "s", "Time of a pass of the reconciler.";
    ReconcilerDrift = "mesh.reconciler.drift", Gauge, "", "Differences between desired and observed after the last pass, by `kind` (missing, starting, stopping, failed, unheard).";
    ReconcilerDriftAge = "mesh.reconciler.drift.age", Gauge, "s", "How long the oldest difference stands.";
    ReconcilerLeads = "mesh.reconciler.leads", Gauge, "", "1 in the process whose reconciler leads, else 0.";
    Nodes = "mesh.nodes", Gauge, "", "Nodes that the registry knows, by `status` (registered, online, offline, deaf, drained, sleep).";
    HeartbeatAge = "mesh.heartbeat.age", Gauge, "s", "Age of the oldest heartbeat among the nodes that count as online.";
    PoolConnections = "mesh.pool.connections", Gauge, "", "Connections to PostgreSQL, by `role` and `state` (idle, used).";
    PoolSize = "mesh.pool.size", Gauge, "", "Connections to PostgreSQL that are allowed, by `role`.";
    NatsTraffic = "mesh.nats.traffic", Counter, "By", "Bytes between this process and NATS, by `direction` (in, out).";
    NatsServerUp = "mesh.nats.server.up", Gauge, "", "1 when the monitoring of the nats-server answers, by `server`.";
    NatsServerMemory = "mesh.nats.server.memory", Gauge, "By", "Resident memory of the nats-server, by `server`.";
    NatsServerCpu = "mesh.nats.server.cpu", Gauge, "", "Processor use of the nats-server in thousandths of a core, by `server`.";
    NatsServerConnections = "mesh.nats.server.connections", Gauge, "", "Clients of the nats-server, by `server`.";
    NatsSlowConsumers = "mesh.nats.slow.consumers", Gauge, "", "Clients cut for slowness since the nats-server started, by `server`.";
    StreamMessages = "mesh.stream.messages", Gauge, "", "Messages in a stream, by `stream`.";
    StreamBytes = "mesh.stream.bytes", Gauge, "By", "Bytes of a stream, by `stream`.";
    StreamBytesMax = "mesh.stream.bytes.max", Gauge, "By", "Bytes that a stream may take, by `stream`.";
    ConsumerPending = "mesh.consumer.pending", Gauge, "", "Messages that a durable consumer has yet to be given, by `stream` and `consumer`.";
    ConsumerUnacked = "mesh.consumer.unacked", Gauge, "", "Messages given and not acknowledged, by `stream` and `consumer`.";
    PostgresUp = "mesh.postgres.up", Gauge, "", "1 when PostgreSQL answers.";
    PostgresConnections = "mesh.postgres.connections", Gauge, "", "Connections to the database.";
    PostgresConnectionsMax = "mesh.postgres.connections.max", Gauge, "", "Connections that the server takes.";
    PostgresTransactions = "mesh.postgres.transactions", Gauge, "", "Transactions since the statistics began, by `outcome` (committed, rolled_back).";
    PostgresSize = "mesh.postgres.size", Gauge, "By", "Bytes of the database, by `schema`; `all` is the whole.";
    PostgresDeadTuples = "mesh.postgres.dead.tuples", Gauge, "", "Rows that vacuum has yet to remove, by `schema`.";
    PostgresCacheHits = "mesh.postgres.blocks", Gauge, "", "Blocks asked for since the statistics began, by `from` (cache, disk).";
    PostgresDeadlocks = "mesh.postgres.deadlocks", Gauge, "", "Deadlocks since the statistics began.";
    DiskFree = "mesh.disk.free", Gauge, "By", "Free bytes where this process keeps its data, by `volume`.";
}

/// Makes instruments. Clones and the metrics of other services share one registry.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
    service: Option<&'static str>,
}

struct Inner {
    meter: Meter,
    provider: SdkMeterProvider,
    registry: prometheus::Registry,
    exemplars: Exemplars,
}

#[derive(Debug, thiserror::Error)]
#[error("the metrics have no text form")]
pub struct RenderError(#[from] prometheus::Error);

impl Default for Metrics {
    /// For tests and for tools: readable as text, sent nowhere.
    fn default() -> Self {
        Self::new(Resource::builder().build(), None)
    }
}

impl Metrics {
    /// `push` also sends them to a collector.
    pub(crate) fn new(resource: Resource, push: Option<MetricReader>) -> Self {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .expect("a new registry takes its first collector");
        let own = registry.register(Box::new(Process::new()));
        own.expect("its names begin with no `mesh`");
        let mut builder = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(exporter);
        if let Some(reader) = push {
            builder = builder.with_reader(reader);
        }
        let provider = builder.build();
        let meter = provider.meter("mesh");
        Self {
            inner: Arc::new(Inner {
                meter,
                provider,
                registry,
                exemplars: Exemplars::default(),
            }),
            service: None,
        }
    }

    /// The same registry; every instrument made from it says this service.
    #[must_use]
    pub fn for_service(&self, service: &'static str) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            service: Some(service),
        }
    }

    /// Make it once and keep it: making takes a lock, adding does not.
    pub fn counter(&self, name: MetricName) -> Counter {
        let (text, unit, help) = name.expect_kind(Kind::Counter);
        let builder = self.inner.meter.u64_counter(text).with_description(help);
        Counter {
            inner: unit_of(builder, unit).build(),
            service: self.label(),
        }
    }

    pub fn gauge(&self, name: MetricName) -> Gauge {
        let (text, unit, help) = name.expect_kind(Kind::Gauge);
        let builder = self.inner.meter.i64_gauge(text).with_description(help);
        Gauge {
            inner: unit_of(builder, unit).build(),
            service: self.label(),
        }
    }

    pub fn histogram(&self, name: MetricName) -> Histogram {
        let (text, unit, help) = name.expect_kind(Kind::Histogram);
        let mut builder = self.inner.meter.f64_histogram(text).with_description(help);
        if !unit.is_empty() {
            builder = builder.with_unit(unit);
        }
        let boundaries: &'static [f64] = if unit == "s" { &SECONDS } else { &COUNTS };
        Histogram {
            inner: builder.with_boundaries(boundaries.to_vec()).build(),
            service: self.label(),
            shown: text.replace('.', "_") + if unit == "s" { "_seconds" } else { "" },
            boundaries,
            exemplars: self.inner.exemplars.clone(),
        }
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> Result<String, RenderError> {
        let families = self.inner.registry.gather();
        Ok(prometheus::TextEncoder::new().encode_to_string(&families)?)
    }

    /// OpenMetrics 1.0: the same, and the traces that fell into the buckets.
    pub fn render_openmetrics(&self) -> String {
        openmetrics::encode(&self.inner.registry.gather(), &self.inner.exemplars)
    }

    /// Sends what is left; for the very end of the process, off the runtime's threads.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.inner.provider.shutdown() {
            tracing::debug!(%error, "the last metrics were not sent");
        }
    }

    fn label(&self) -> Option<KeyValue> {
        self.service.map(|service| KeyValue::new(SERVICE_LABEL, service))
    }
}

const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Labels are (name, value); keep their values few.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

#[derive(Debug, Clone)]
pub struct Counter {
    inner: opentelemetry::metrics::Counter<u64>,
    service: Option<KeyValue>,
}

impl Counter {
    pub fn add(&self, count: u64, labels: Labels<'_>) {
        self.inner.add(count, &with(&self.service, labels));
    }
}

#[derive(Debug, Clone)]
pub struct Gauge {
    inner: opentelemetry::metrics::Gauge<i64>,
    service: Option<KeyValue>,
}

impl Gauge {
    pub fn set(&self, value: i64, labels: Labels<'_>) {
        self.inner.record(value, &with(&self.service, labels));
    }
}

#[derive(Debug, Clone)]
pub struct Histogram {
    inner: opentelemetry::metrics::Histogram<f64>,
    service: Option<KeyValue>,
    /// Its name as Prometheus shows it.
    shown: String,
    boundaries: &'static [f64],
    exemplars: Exemplars,
}

impl Histogram {
    /// `value` in the unit of the name. Its bucket remembers the trace that runs now.
    pub fn record(&self, value: f64, labels: Labels<'_>) {
        self.record_in(mesh_trace::current(), value, labels);
    }

    /// As [`Histogram::record`], for what another trace did.
    pub fn record_in(&self, trace: Option<TraceContext>, value: f64, labels: Labels<'_>) {
        self.inner.record(value, &with(&self.service, labels));
        if let Some(trace) = trace.filter(|trace| trace.is_sampled()) {
            let service = self.service.iter().map(|label| (SERVICE_LABEL, label.value.as_str()));
            let service: Vec<_> = service.collect();
            let all = service.iter().map(|(name, value)| (*name, value.as_ref()));
            let key = exemplars::key(&self.shown, all.chain(labels.iter().copied()));
            self.exemplars.keep(key, self.boundaries, value, trace);
        }
    }

    /// For histograms in seconds.
    pub fn record_duration(&self, duration: std::time::Duration, labels: Labels<'_>) {
        self.record(duration.as_secs_f64(), labels);
    }
}

impl MetricName {
    /// A wrong kind is a slip of the programmer, which tests of that code see; production goes on.
    fn expect_kind(self, kind: Kind) -> (&'static str, &'static str, &'static str) {
        let (text, own, unit, help) = self.row();
        debug_assert_eq!(own, kind, "{self:?} is no {kind:?}");
        (text, unit, help)
    }
}

fn unit_of<'a, T>(
    builder: opentelemetry::metrics::InstrumentBuilder<'a, T>,
    unit: &'static str,
) -> opentelemetry::metrics::InstrumentBuilder<'a, T> {
    if unit.is_empty() {
        builder
    } else {
        builder.with_unit(unit)
    }
}

fn with(service: &Option<KeyValue>, labels: Labels<'_>) -> Vec<KeyValue> {
    let own = labels
        .iter()
        .map(|(name, value)| KeyValue::new(*name, (*value).to_owned()));
    service.iter().cloned().chain(own).collect()
}

#[cfg(test)]
mod tests;
