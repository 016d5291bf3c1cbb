//! Traces without a backend: the context that travels, spans that cost nothing unless they are recorded, and the one
//! decision whether they are. `mesh-runtime` installs where recorded spans go; until then nothing here does anything.

mod context;
mod current;
mod place;
mod random;
mod sampler;
mod span;

use std::sync::{Arc, OnceLock};

pub use context::{NotAContext, TraceContext, calling_span};
pub use current::{current, current_place, enter, within};
pub use place::{Incoming, NotAState, Place, TraceState};
pub use random::trace_id;
pub use sampler::{Sampling, Way};
pub use span::{Kind, Record, Span, Value};

use sampler::Sampler;

/// Header of the W3C's trace context, in lower case as HTTP/2 and NATS want it.
pub const TRACEPARENT: &str = "traceparent";
/// Header of what other tracing systems want carried along with it.
pub const TRACESTATE: &str = "tracestate";

/// Where recorded spans go. Called on the threads that do the work: must not block.
pub trait Sink: Send + Sync {
    /// Which service works on this thread; becomes `mesh.service` of a span that begins.
    fn service(&self) -> Option<String>;

    /// A span has ended.
    fn ended(&self, record: Record);
}

impl<S: Sink> Sink for Arc<S> {
    fn service(&self) -> Option<String> {
        S::service(self)
    }

    fn ended(&self, record: Record) {
        S::ended(self, record);
    }
}

struct Installed {
    sink: Box<dyn Sink>,
    sampler: Sampler,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// From here on there are traces. Only the first call of a process counts; `false` says that it was not this one.
pub fn install(sink: Box<dyn Sink>, sampling: Sampling) -> bool {
    let sampler = Sampler::new(sampling);
    INSTALLED.set(Installed { sink, sampler }).is_ok()
}

/// Whether there are traces in this process.
pub fn is_on() -> bool {
    INSTALLED.get().is_some()
}
