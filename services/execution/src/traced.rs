//! Where invocations enter, and what they waited for: spans of messages, calls, children and settled waits. What runs
//! them is `mesh-worker`'s to trace.

use std::time::{Duration, SystemTime};

use mesh_api::journal::{Done, StepKind};
use mesh_bus::{Delivery, RawRequest};
use mesh_trace::{Incoming, Kind, Place, Span, TraceContext, Way};
use mesh_types::{Id, Timestamp};

use crate::core::Meta;
use crate::intake::derived_id;

/// A message of INVOCATIONS; without a trace of its sender it begins the invocation's own.
pub(crate) fn taken(delivery: &Delivery) -> Span {
    let id = || derived_id(delivery).as_u128();
    let name = || "process mesh.invoke";
    let mut span = Span::edge(&delivery.headers.trace(), id, Way::Message, Kind::Consumer, name);
    describe(&mut span, &delivery.subject);
    if span.is_recording() {
        span.set("messaging.message.body.size", delivery.payload.len() as u64);
        span.set("mesh.stream.sequence", delivery.stream_sequence);
        span.set("mesh.delivered", delivery.delivered);
    }
    span
}

/// A call that waits for its end, if its caller says a trace. Else the invocation begins its own.
pub(crate) fn called(request: &RawRequest) -> Span {
    let said = request.headers.trace();
    if said.is_none() {
        return Span::none();
    }
    let name = || "process mesh.call";
    let mut span = Span::edge(&said, mesh_trace::trace_id, Way::Write, Kind::Server, name);
    describe(&mut span, &request.subject);
    span
}

fn describe(span: &mut Span, subject: &str) {
    span.set("messaging.system", "nats");
    span.set("messaging.operation.name", "process");
    span.set("messaging.operation.type", "process");
    span.set("messaging.destination.name", subject);
}

/// The first span of an invocation's own trace: it was accepted for somebody who said none.
pub(crate) fn begun(meta: &Meta) -> Option<Place> {
    let id = meta.id.as_u128();
    let first = TraceContext::of_id(id, true).span_id();
    let name = || format!("accept {}", meta.agent);
    let mut span = Span::edge(&Incoming::default(), || id, Way::Message, Kind::Consumer, name).with_id(first);
    accepted(&mut span, meta);
    span.place().cloned()
}

/// The first span of a child's trace; held until the child is durable. None where its parent's is not recorded.
pub(crate) fn child(meta: &Meta) -> Span {
    let Some(trace) = meta.input.trace() else {
        return Span::none();
    };
    let mut span = Span::first(trace, Kind::Consumer, || format!("accept {}", meta.agent));
    if let Some(call) = meta.input.trace_link() {
        span.link(call);
    }
    accepted(&mut span, meta);
    span
}

/// A wait that is settled and committed, beside the claims of its invocation. It may have taken days and several
/// processes: nobody held it, so it is told as a whole, with the journal's times.
pub(crate) fn waited(meta: &Meta, done: &Done) {
    let is_wait = matches!(
        done.kind,
        StepKind::Timer | StepKind::Signal | StepKind::Approval | StepKind::Child
    );
    if !is_wait {
        return;
    }
    let mut span = Span::of_place(meta.input.place(), Kind::Internal, || {
        format!("wait {}", done.kind.as_str())
    });
    if !span.is_recording() {
        return;
    }
    accepted(&mut span, meta);
    span.set("mesh.step", done.step);
    span.set("mesh.step.kind", done.kind.as_str());
    span.set("mesh.step.name", done.name.as_str());
    if let Some(problem) = &done.error {
        span.fail(&problem.kind);
    }
    drop(span.lasting(system_time(done.started_at), system_time(done.ended_at)));
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at.as_micros()).unwrap_or_default())
}

fn accepted(span: &mut Span, meta: &Meta) {
    if span.is_recording() {
        span.set("gen_ai.agent.name", meta.agent.as_str());
        span.set("mesh.invocation.id", meta.id.to_string());
        span.set("mesh.tenant", meta.tenant.as_str());
    }
}
