//! Spans of what goes over NATS, by OpenTelemetry's conventions for messaging. Subjects of agents name no span: there
//! are too many.

use mesh_api::Endpoint;
use mesh_trace::{Kind, Span};
use mesh_types::{Problem, Subject};

use crate::Headers;

/// Of who asks an endpoint.
pub(crate) fn asking<E: Endpoint>(subject: &str) -> Span {
    let mut span = Span::child(Kind::Client, || format!("request {}.{}", E::SERVICE, E::NAME));
    describe(&mut span, "request", "send", subject);
    span
}

/// The same, where the subject is not a text yet.
pub(crate) fn asking_at<E: Endpoint>(subject: &Subject) -> Span {
    let mut span = Span::child(Kind::Client, || format!("request {}.{}", E::SERVICE, E::NAME));
    if span.is_recording() {
        describe(&mut span, "request", "send", &subject.to_string());
    }
    span
}

/// Of who calls an agent and waits.
pub(crate) fn asking_agent(subject: &Subject) -> Span {
    let mut span = Span::child(Kind::Client, || "request mesh.call");
    if span.is_recording() {
        describe(&mut span, "request", "send", &subject.to_string());
    }
    span
}

/// Of who publishes into a stream.
pub(crate) fn publishing(subject: &Subject) -> Span {
    let mut span = Span::child(Kind::Producer, || "send");
    if span.is_recording() {
        describe(&mut span, "send", "send", &subject.to_string());
    }
    span
}

/// Of the endpoint that answers; none for who says no trace: what belongs to none was not begun by anybody outside.
pub(crate) fn answering(service: &'static str, endpoint: &str, subject: &str, headers: &Headers) -> Span {
    let mut span = Span::of_header(&headers.trace(), Kind::Server, || {
        format!("process {service}.{endpoint}")
    });
    span.set("mesh.service", service);
    describe(&mut span, "process", "process", subject);
    span
}

/// How it ended: the problem's kind, and nothing of its text.
pub(crate) fn answered<T>(span: &mut Span, answer: Result<T, Problem>) -> Result<T, Problem> {
    if let Err(problem) = &answer {
        span.fail(&problem.kind);
    }
    answer
}

fn describe(span: &mut Span, name: &'static str, kind: &'static str, subject: &str) {
    span.set("messaging.system", "nats");
    span.set("messaging.operation.name", name);
    span.set("messaging.operation.type", kind);
    span.set("messaging.destination.name", subject);
}
