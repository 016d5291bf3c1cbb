//! What every handler shares: the way to the services, ids, and limits.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::inference::{Complete, CompleteRequest, Completion};
use mesh_api::{Access, Caller, Endpoint};
use mesh_bus::Bus;
use mesh_runtime::Context;
use mesh_runtime::metrics::{Counter, Gauge, Histogram, MetricName};
use mesh_types::{Clock, Code, IdSource, Problem};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::a2a::push::Pushes;
use crate::http::credentials::Desk;
use crate::http::limits::Limits;
use crate::http::live::{LiveConfig, Visitors};
use crate::http::nats_proxy::NatsProxy;
use crate::http::needs::Needs;
use crate::http::problem::Failure;
use crate::http::shares::Shares;
use crate::hub::Hub;
use crate::tunnel::Tunnels;

/// Cheap to clone; one per process.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) bus: Bus,
    pub(crate) ids: IdSource,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) body_bytes_max: usize,
    pub(crate) request_timeout: Duration,
    /// Lower-case names that `Host` may say besides loopback.
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) cors_origins: Vec<String>,
    /// Proxies in front that are believed.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Who may use which route.
    pub(crate) needs: Needs,
    pub(crate) limits: Limits,
    pub(crate) desk: Desk,
    pub(crate) hub: Hub,
    pub(crate) live: LiveConfig,
    pub(crate) visitors: Visitors,
    pub(crate) tunnels: Tunnels,
    pub(crate) push: Pushes,
    pub(crate) nats_proxy: NatsProxy,
    /// A place per open event stream.
    pub(crate) streams: Shares,
    pub(crate) requests: Counter,
    pub(crate) durations: Histogram,
    pub(crate) live_connections: Gauge,
}

impl std::ops::Deref for App {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(crate) fn new(config: &Config, context: &Context, needs: Needs) -> Self {
        Self(Arc::new(Inner {
            bus: context.bus.clone(),
            ids: context.ids.clone(),
            clock: Arc::clone(&context.clock),
            shutdown: context.shutdown.clone(),
            body_bytes_max: config.body_bytes_max,
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            allowed_hosts: config
                .allowed_hosts
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            cors_origins: config.cors_origins.clone(),
            trusted_proxies: config.proxies(),
            needs,
            limits: Limits::new(config.rates.clone()),
            live: config.live.clone(),
            visitors: Visitors::new(config),
            hub: Hub::new(context, config.require_credentials),
            tunnels: Tunnels::new(config.tunnel.clone(), context.tasks.clone()),
            push: Pushes::new(config, context),
            nats_proxy: NatsProxy::new(config.nats.clone(), context.tasks.clone()),
            desk: Desk::new(config.require_credentials),
            streams: Shares::new("event streams", config.streams_max, config.require_credentials),
            requests: context.metrics.counter(MetricName::HttpRequests),
            durations: context.metrics.histogram(MetricName::HttpDuration),
            live_connections: context.metrics.gauge(MetricName::LiveConnections),
        }))
    }

    /// Asks a service within the request's own deadline.
    pub(crate) async fn call<E: Endpoint>(&self, caller: &Caller, request: &E::Request) -> Result<E::Reply, Failure> {
        self.call_within::<E>(caller, request, E::deadline_of(request)).await
    }

    /// As [`Self::call`] with a deadline of the caller's.
    pub(crate) async fn call_within<E: Endpoint>(
        &self,
        caller: &Caller,
        request: &E::Request,
        deadline: Duration,
    ) -> Result<E::Reply, Failure> {
        let asks = asking::<E>(caller);
        let reply = self.bus.call_within::<E>(&asks, request, deadline).await;
        reply.map_err(|problem| outward(problem, E::SERVICE, caller))
    }

    /// One model call for a caller who takes the text in one piece.
    pub(crate) async fn complete(&self, caller: &Caller, request: &CompleteRequest) -> Result<Completion, Failure> {
        let reply = self.bus.call_stream::<Complete>(caller, request, |_chunk| {}).await;
        reply.map_err(|problem| outward(problem, Complete::SERVICE, caller))
    }

    /// Event streams that are open now.
    pub(crate) fn show_open_streams(&self) {
        self.live_connections.set(
            i64::try_from(self.streams.taken()).unwrap_or(i64::MAX),
            &[("kind", "sse")],
        );
    }
}

/// What only services may ask, the edge asks in its own name, about the person.
fn asking<E: Endpoint>(caller: &Caller) -> Cow<'_, Caller> {
    if E::ACCESS != Access::Service {
        return Cow::Borrowed(caller);
    }
    Cow::Owned(Caller {
        role: None,
        ..caller.clone()
    })
}

/// What a service said, fit for strangers: a 5xx of the inside keeps its type and loses its words, which the log has.
fn outward(problem: Problem, service: &'static str, caller: &Caller) -> Failure {
    let words = [
        (Code::Unavailable, "is not available at the moment"),
        (
            Code::Timeout,
            "did not answer in time; whether it did what was asked is not known",
        ),
        (Code::Moved, "is moving work between its processes"),
        (
            Code::DatabaseWentBack,
            "waits for an operator: its database is older than its feed",
        ),
        (Code::Internal, "failed; its log says why under this request id"),
    ];
    let Some((code, words)) = words.into_iter().find(|(code, _)| problem.is(*code)) else {
        return Failure(problem);
    };
    tracing::warn!(service, kind = problem.kind, detail = problem.detail, request_id = ?caller.request_id, "a service could not answer");
    let mut said = Problem::new(code, format!("the service `{service}` {words}"));
    said.retry_after_seconds = problem.retry_after_seconds.or(said.retry_after_seconds);
    Failure(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_inside_keeps_its_type_and_loses_its_words() {
        let caller = Caller::service("test", mesh_types::Tenant::default());
        let Failure(said) = outward(
            Problem::new(Code::Internal, "password of mesh_registry"),
            "registry",
            &caller,
        );
        assert_eq!(said.kind, "mesh/internal");
        assert!(
            !said.detail.contains("password") && said.detail.contains("registry"),
            "{said:?}"
        );
        let Failure(said) = outward(Problem::new(Code::AgentNotFound, "no agent `x`"), "registry", &caller);
        assert_eq!(said.detail, "no agent `x`");
    }
}
