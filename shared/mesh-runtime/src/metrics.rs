//! Metrics: one enum of names, instruments that say their service, and the text that Prometheus reads.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::telemetry::MetricReader;

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
    LiveConnections = "mesh.live.connections", Gauge, "", "WebSocket and SSE connections, by `kind`.";
    BusRequests = "mesh.bus.requests", Counter, "", "Requests answered on the bus, by `endpoint` and `outcome`.";
    BusDuration = "mesh.bus.duration", Histogram, "s", "Time to answer a request on the bus, by `endpoint`.";
    BusReconnects = "mesh.bus.reconnects", Counter, "", "Reconnects to NATS.";
    EventsPublished = "mesh.events.published", Counter, "", "Events published, by `event`.";
    DeadLetters = "mesh.dead_letters", Counter, "", "Messages and invocations that became dead letters, by `origin`.";
    InvocationsAccepted = "mesh.invocations.accepted", Counter, "", "Invocations accepted for good, by `by`.";
    InvocationsEnded = "mesh.invocations.ended", Counter, "", "Invocations ended, by `outcome`.";
    InvocationsOpen = "mesh.invocations.open", Gauge, "", "Invocations that have not ended, by `state`.";
    InvocationDuration = "mesh.invocation.duration", Histogram, "s", "Time from acceptance to the end, by `outcome`.";
    InvocationsRefused = "mesh.invocations.refused", Counter, "", "Invocations refused, by `reason`.";
    StepsRecorded = "mesh.steps.recorded", Counter, "", "Steps recorded, by `kind`.";
    StepsRepeated = "mesh.steps.repeated", Counter, "", "Unrecorded effects that ran again, by `kind`.";
    Commits = "mesh.commits", Counter, "", "Batches committed, by `outcome`.";
    CommitDuration = "mesh.commit.duration", Histogram, "s", "Time that a batch took to commit.";
    CommitRows = "mesh.commit.rows", Histogram, "", "Rows of a committed batch.";
    CommandsWaiting = "mesh.commands.waiting", Gauge, "", "Commands that wait for a lane.";
    ShardsOwned = "mesh.shards.owned", Gauge, "", "Shards that this process owns.";
    ShardTakeovers = "mesh.shard.takeovers", Counter, "", "Shards taken over, by `reason`.";
    RelayLag = "mesh.relay.lag", Gauge, "", "Committed batches not yet relayed to JOURNAL.";
    WorkersBusy = "mesh.workers.busy", Gauge, "", "Hosted workers at work.";
    ModelCalls = "mesh.model.calls", Counter, "", "Calls of model providers, by `provider` and `outcome`.";
    ModelDuration = "mesh.model.duration", Histogram, "s", "Time of a model call, by `provider`.";
    ModelTokens = "mesh.model.tokens", Counter, "", "Tokens, by `provider` and `direction` (input, output).";
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
        let boundaries = if unit == "s" { SECONDS.to_vec() } else { COUNTS.to_vec() };
        Histogram {
            inner: builder.with_boundaries(boundaries).build(),
            service: self.label(),
        }
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> Result<String, RenderError> {
        let families = self.inner.registry.gather();
        Ok(prometheus::TextEncoder::new().encode_to_string(&families)?)
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
}

impl Histogram {
    /// `value` in the unit of the name.
    pub fn record(&self, value: f64, labels: Labels<'_>) {
        self.inner.record(value, &with(&self.service, labels));
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
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_metric_says_its_service() {
        let metrics = Metrics::default();
        metrics
            .for_service("registry")
            .counter(MetricName::AgentsPublished)
            .add(2, &[]);
        metrics
            .for_service("memory")
            .counter(MetricName::MemoriesStored)
            .add(1, &[("type", "fact")]);
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"mesh_agents_published_total{mesh_service="registry"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"mesh_memories_stored_total{mesh_service="memory",type="fact"} 1"#),
            "{text}"
        );
    }

    #[test]
    fn the_same_name_made_twice_is_one_series() {
        let metrics = Metrics::default().for_service("execution");
        metrics.counter(MetricName::Commits).add(1, &[]);
        metrics.clone().counter(MetricName::Commits).add(1, &[]);
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"mesh_commits_total{mesh_service="execution"} 2"#),
            "{text}"
        );
    }

    #[test]
    fn durations_are_seconds_in_buckets() {
        let metrics = Metrics::default();
        metrics
            .histogram(MetricName::CommitDuration)
            .record_duration(Duration::from_millis(2), &[]);
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"mesh_commit_duration_seconds_bucket{le="0.0025"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"mesh_commit_duration_seconds_bucket{le="0.001"} 0"#),
            "{text}"
        );
    }

    #[test]
    fn names_are_unique_and_of_one_form() {
        let mut names: Vec<_> = MetricName::ALL.iter().map(|name| name.row().0).collect();
        assert!(names.iter().all(|name| name.starts_with("mesh.")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MetricName::ALL.len());
    }
}
