//! Services that answer requests, by the NATS micro protocol: `nats micro ls` shows them. An
//! endpoint never holds more than it may work on: what is over it is told `busy` at once.

mod cancel;
mod endpoint;
mod raw;
mod serve;
mod stats;
mod stream;
mod verbs;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use mesh_api::{Access, Caller, Endpoint, StreamEndpoint};
use mesh_types::subject::Filter;
use mesh_types::{NodeId, Problem, Subject};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Bus, BusError, Headers};

pub use raw::RawRequest;
pub use stream::ChunkSink;

pub(crate) use cancel::Leaving;

use cancel::Calls;
use endpoint::Door;
use serve::Served;
use stats::EndpointStats;

/// Requests of one endpoint that are worked on at the same time, if nothing else is said.
const CONCURRENCY: usize = 256;
/// Requests that wait for each slot, past which the answer is `busy`.
const WAITING_PER_SLOT: usize = 4;
/// Instances of a service share its requests.
const QUEUE_GROUP: &str = "q";

/// A request as it reaches an endpoint's wrapper.
struct Incoming {
    bus: Bus,
    subject: String,
    headers: Headers,
    payload: bytes::Bytes,
    reply: Option<String>,
}

/// An answer, or the problem that is sent in its place.
type Answer = Result<(Headers, bytes::Bytes), Problem>;
type Handler = Arc<dyn Fn(Incoming) -> BoxFuture<'static, Answer> + Send + Sync>;
type RawHandler = Arc<dyn Fn(RawRequest) -> BoxFuture<'static, ()> + Send + Sync>;

enum Work {
    /// A task per request, an answer per request.
    Typed {
        handler: Handler,
        deadline: Duration,
        caller: CallerLeaves,
    },
    /// The handler answers by itself; all run in one task.
    Raw(RawHandler),
}

/// What becomes of a request whose caller says that it does not wait any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallerLeaves {
    /// Callers of plain endpoints do not say it.
    Unheard,
    /// It is dropped.
    Drop,
}

struct Route {
    name: String,
    subject: String,
    queue_group: Option<String>,
    work: Work,
}

impl Route {
    fn streams(&self) -> bool {
        matches!(&self.work, Work::Typed { caller, .. } if *caller == CallerLeaves::Drop)
    }
}

/// Builds a service from its endpoints.
#[must_use]
pub struct ServiceBuilder {
    bus: Bus,
    name: &'static str,
    version: String,
    concurrency: usize,
    routes: Vec<Route>,
}

impl Bus {
    /// A service under its one name; `version` is a semantic version.
    pub fn service(&self, name: &'static str, version: &str) -> ServiceBuilder {
        ServiceBuilder {
            bus: self.clone(),
            name,
            version: version.to_owned(),
            concurrency: CONCURRENCY,
            routes: Vec::new(),
        }
    }
}

impl ServiceBuilder {
    /// Answers an endpoint at its own subject. A panic of the handler becomes `Internal`; a
    /// request whose caller's deadline passed while it waited is dropped.
    pub fn endpoint<E, H, F>(self, handler: H) -> Self
    where
        E: Endpoint,
        H: Fn(Caller, E::Request) -> F + Send + Sync + Clone + 'static,
        F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
    {
        self.endpoint_behind::<E, H, F>(Door::Guarded, &E::subject(), handler)
    }

    /// As [`ServiceBuilder::endpoint`], at another subject, such as this instance's. What only services may ask, a
    /// peer passes on there in the name of whoever asked it.
    pub fn endpoint_at<E, H, F>(self, subject: &Subject, handler: H) -> Self
    where
        E: Endpoint,
        H: Fn(Caller, E::Request) -> F + Send + Sync + Clone + 'static,
        F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
    {
        let door = if E::ACCESS == Access::Service {
            Door::Peers
        } else {
            Door::Guarded
        };
        self.endpoint_behind::<E, H, F>(door, subject, handler)
    }

    fn endpoint_behind<E, H, F>(mut self, door: Door, subject: &Subject, handler: H) -> Self
    where
        E: Endpoint,
        H: Fn(Caller, E::Request) -> F + Send + Sync + Clone + 'static,
        F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
    {
        self.routes.push(Route {
            name: E::NAME.to_owned(),
            subject: subject.to_string(),
            queue_group: Some(QUEUE_GROUP.to_owned()),
            work: Work::Typed {
                handler: endpoint::wrap::<E, H, F>(door, handler),
                deadline: E::DEADLINE,
                caller: CallerLeaves::Unheard,
            },
        });
        self
    }

    /// Answers an endpoint as nodes ask it, at `mesh.node.*.<service>.<endpoint>`. Who asks is the node named in the
    /// subject, which its credentials fix, and nothing that stands in the message.
    pub fn node_endpoint<E, H, F>(mut self, handler: H) -> Self
    where
        E: Endpoint,
        H: Fn(NodeId, E::Request) -> F + Send + Sync + Clone + 'static,
        F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
    {
        self.routes.push(Route {
            name: format!("node-{}", E::NAME),
            subject: of_nodes::<E>().to_string(),
            queue_group: Some(QUEUE_GROUP.to_owned()),
            work: Work::Typed {
                handler: endpoint::wrap_node::<E, H, F>(handler),
                deadline: E::DEADLINE,
                caller: CallerLeaves::Unheard,
            },
        });
        self
    }

    /// Answers a streaming endpoint: chunks through the sink, then the reply. The handler is dropped
    /// when its caller drops the call.
    pub fn stream_endpoint<E, H, F>(mut self, handler: H) -> Self
    where
        E: StreamEndpoint,
        H: Fn(Caller, E::Request, ChunkSink<E::Chunk>) -> F + Send + Sync + Clone + 'static,
        F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
    {
        self.routes.push(Route {
            name: E::NAME.to_owned(),
            subject: E::subject().to_string(),
            queue_group: Some(QUEUE_GROUP.to_owned()),
            work: Work::Typed {
                handler: stream::wrap::<E, H, F>(handler),
                deadline: E::DEADLINE,
                caller: CallerLeaves::Drop,
            },
        });
        self
    }

    /// As [`ServiceBuilder::stream_endpoint`], as nodes ask it: see [`ServiceBuilder::node_endpoint`].
    pub fn node_stream_endpoint<E, H, F>(mut self, handler: H) -> Self
    where
        E: StreamEndpoint,
        H: Fn(NodeId, E::Request, ChunkSink<E::Chunk>) -> F + Send + Sync + Clone + 'static,
        F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
    {
        self.routes.push(Route {
            name: format!("node-{}", E::NAME),
            subject: of_nodes::<E>().to_string(),
            queue_group: Some(QUEUE_GROUP.to_owned()),
            work: Work::Typed {
                handler: stream::wrap_node::<E, H, F>(handler),
                deadline: E::DEADLINE,
                caller: CallerLeaves::Drop,
            },
        });
        self
    }

    /// Hands over requests as bytes, for roads where each microsecond counts: no task per request,
    /// all handlers run in one task, so a handler returns soon and answers later through its
    /// [`RawRequest`]. `queue_group`: instances of one group share the requests, without one each
    /// instance gets all of them.
    pub fn raw<H, F>(mut self, name: &str, filter: &Filter, queue_group: Option<&str>, handler: H) -> Self
    where
        H: Fn(RawRequest) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.routes.push(Route {
            name: name.to_owned(),
            subject: filter.to_string(),
            queue_group: queue_group.map(str::to_owned),
            work: Work::Raw(Arc::new(move |request| Box::pin(handler(request)))),
        });
        self
    }

    /// Most requests that each endpoint works on at the same time; four times as many wait, and
    /// what comes then is told `busy`.
    pub fn concurrency(mut self, per_endpoint_max: usize) -> Self {
        self.concurrency = per_endpoint_max.max(1);
        self
    }

    /// Subscribes every endpoint and answers from now on, over every reconnect.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] after 10 s without room on the way to the server.
    pub async fn start(self) -> Result<ServiceHandle, BusError> {
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        let abort = CancellationToken::new();
        let attendants = TaskTracker::new();
        let calls = Arc::new(Calls::default());
        if self.routes.iter().any(Route::streams) {
            let leave = [
                cancel::subject(self.name).to_string(),
                cancel::of_nodes(self.name).to_string(),
            ];
            for subject in leave {
                let leaving = self.bus.subscribe_at(subject, None).await?;
                let heard = Arc::clone(&calls).hear(leaving);
                attendants.spawn(abort.clone().run_until_cancelled_owned(heard));
            }
        }
        let mut stats = Vec::new();
        for route in self.routes {
            let subscriber = self
                .bus
                .subscribe_at(route.subject.clone(), route.queue_group.as_deref())
                .await?;
            let counted = Arc::new(EndpointStats::new(
                route.name.clone(),
                route.subject,
                route.queue_group.unwrap_or_default(),
                self.bus.observe_endpoint(self.name, &route.name),
            ));
            stats.push(Arc::clone(&counted));
            let served = Served {
                bus: self.bus.clone(),
                service: self.name,
                name: route.name,
                subscriber,
                stats: counted,
                running_max: self.concurrency,
                waiting_max: self.concurrency.saturating_mul(WAITING_PER_SLOT),
                calls: Arc::clone(&calls),
                stop: stop.clone(),
                abort: abort.clone(),
                tracker: tracker.clone(),
            };
            let run = served.run(route.work);
            tracker.spawn(abort.clone().run_until_cancelled_owned(run));
        }
        let identity = verbs::Identity::new(&self.bus, self.name, &self.version, stats);
        let verbs = identity.subscribe(&self.bus).await?;
        let answered = identity.run(self.bus.clone(), verbs, stop.clone());
        tracker.spawn(abort.clone().run_until_cancelled_owned(answered));
        tracker.close();
        attendants.close();
        Ok(ServiceHandle {
            tracker,
            attendants,
            stop,
            abort,
        })
    }
}

/// Where any node asks it.
fn of_nodes<E: Endpoint>() -> Filter {
    let token = |text: &str| text.parse().expect("endpoint names are tokens");
    Filter::Nodes {
        service: token(E::SERVICE),
        endpoint: token(E::NAME),
    }
}

/// A running service; it stops at once when this is dropped.
#[derive(Debug)]
#[must_use = "a service stops when its handle is dropped"]
pub struct ServiceHandle {
    tracker: TaskTracker,
    /// What serves the work and ends after it.
    attendants: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl ServiceHandle {
    /// Takes no more requests, finishes those that have come, and cuts off what is not done at
    /// the deadline.
    pub async fn drain(self, deadline: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_err() {
            tracing::warn!(left = self.tracker.len(), "requests are cut off");
        }
        self.abort.cancel();
        self.tracker.wait().await;
        self.attendants.wait().await;
    }
}

impl Drop for ServiceHandle {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}
