//! Who hears how the roads are used: this crate counts, what becomes of the figures is the runtime's business.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_types::Problem;

use crate::Bus;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answered {
    Ok,
    /// Whoever asked is at fault: 4xx.
    Refused,
    /// Now is not the time: 429 and 503.
    Busy,
    /// We are at fault: the other 5xx, and panics.
    Failed,
    /// When its turn came nobody waited any more.
    Late,
}

impl Answered {
    pub const ALL: [Self; 5] = [Self::Ok, Self::Refused, Self::Busy, Self::Failed, Self::Late];

    /// One word, for a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Late => "late",
        }
    }

    #[must_use]
    pub fn of(problem: &Problem) -> Self {
        match problem.status {
            429 | 503 => Self::Busy,
            500.. => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// Hears of requests of one endpoint. Called for each: it must be quick.
pub trait EndpointObserver: Send + Sync {
    /// `took` runs from its arrival; `None`: it was not worked on.
    fn answered(&self, answered: Answered, took: Option<Duration>);
}

/// Hears of what all users of a connection do.
pub trait Observer: Send + Sync {
    /// A service begins to answer an endpoint.
    fn endpoint(&self, service: &'static str, endpoint: &str) -> Arc<dyn EndpointObserver>;

    /// A message of that stream became a dead letter.
    fn buried(&self, stream: &str);
}

/// Bytes of messages, without the protocol's own, and connections made, since the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// The first one counts.
    pub connections: u64,
}

/// For a bus that nobody observes.
struct Nobody;

impl EndpointObserver for Nobody {
    fn answered(&self, _: Answered, _: Option<Duration>) {}
}

impl Bus {
    /// Tells the observer from now on; services that have started are not told of. The first observer stays, and
    /// `false` is answered to the next.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) -> bool {
        self.observer_cell().set(observer).is_ok()
    }

    /// Reads what went over this connection so far, without keeping it open.
    pub fn traffic(&self) -> impl Fn() -> Traffic + Send + Sync + Clone + 'static {
        let (counted, connections) = (self.client().statistics(), self.connections());
        move || Traffic {
            bytes_in: counted.in_bytes.load(Ordering::Relaxed),
            bytes_out: counted.out_bytes.load(Ordering::Relaxed),
            connections: *connections.borrow(),
        }
    }

    pub(crate) fn observe_endpoint(&self, service: &'static str, endpoint: &str) -> Arc<dyn EndpointObserver> {
        match self.observer_cell().get() {
            Some(observer) => observer.endpoint(service, endpoint),
            None => Arc::new(Nobody),
        }
    }

    pub(crate) fn tell_buried(&self, stream: &str) {
        if let Some(observer) = self.observer_cell().get() {
            observer.buried(stream);
        }
    }
}
