//! One piece of work of a trace. Where the trace is not recorded, a span is some words on the stack: names and
//! attributes are not even made.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use tokio::task::futures::TaskLocalFuture;

use crate::sampler::Way;
use crate::{INSTALLED, Incoming, Place, TraceContext, current_place, enter, random, within};

/// Which side of a call it is (OpenTelemetry, "SpanKind").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// Value of an attribute. Never a prompt, an answer of a model or a secret.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Texts(Vec<String>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub context: TraceContext,
    /// Id of the span above it, and whether that is another process's.
    pub parent: Option<(u64, bool)>,
    pub started_at: SystemTime,
    pub ended_at: SystemTime,
    pub attributes: Vec<(&'static str, Value)>,
    pub links: Vec<TraceContext>,
    pub is_error: bool,
}

/// A span; it ends when it is dropped.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    place: Option<Place>,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
struct Recording {
    record: Record,
    /// None: its times are given.
    began: Option<Instant>,
}

/// Longest text of an attribute, in bytes.
const TEXT_BYTES_MAX: usize = 256;

impl Span {
    /// No span, in no trace.
    pub const fn none() -> Self {
        Self {
            place: None,
            recording: None,
        }
    }

    /// Below what runs now.
    pub fn child<N: Into<Cow<'static, str>>>(kind: Kind, name: impl FnOnce() -> N) -> Self {
        Self::below(current_place(), false, kind, name)
    }

    /// Below what a message or request says of its trace; nothing where it says nothing.
    pub fn of_header<N: Into<Cow<'static, str>>>(said: &Incoming<'_>, kind: Kind, name: impl FnOnce() -> N) -> Self {
        let parent = if crate::is_on() { said.place() } else { None };
        Self::below(parent, true, kind, name)
    }

    /// Below a place that was kept, such as with an invocation.
    pub fn of_place<N: Into<Cow<'static, str>>>(parent: Option<Place>, kind: Kind, name: impl FnOnce() -> N) -> Self {
        Self::below(parent.filter(|_| crate::is_on()), true, kind, name)
    }

    /// Where work enters the mesh: it goes on with the trace that it says to belong to, or begins the one of that id.
    /// Here it is decided whether the trace is recorded.
    pub fn edge<N: Into<Cow<'static, str>>>(
        said: &Incoming<'_>,
        trace_id: impl FnOnce() -> u128,
        way: Way,
        kind: Kind,
        name: impl FnOnce() -> N,
    ) -> Self {
        let Some(installed) = INSTALLED.get() else {
            return Self::none();
        };
        if let Some(Place { context, state }) = said.place() {
            let is_sampled = context.is_sampled() && installed.sampler.decide(context.trace_id(), Way::Wish);
            let context = TraceContext::new(context.trace_id(), context.span_id(), is_sampled);
            return Self::below(Some(Place { context, state }), true, kind, name);
        }
        let trace_id = trace_id();
        let is_sampled = installed.sampler.decide(trace_id, way);
        Self::first(TraceContext::new(trace_id, random::span_id(), is_sampled), kind, name)
    }

    /// The first of a trace whose ids and decision are known.
    pub fn first<N: Into<Cow<'static, str>>>(context: TraceContext, kind: Kind, name: impl FnOnce() -> N) -> Self {
        if !crate::is_on() {
            return Self::none();
        }
        Self::new(context.into(), None, kind, name)
    }

    fn below<N: Into<Cow<'static, str>>>(
        parent: Option<Place>,
        is_remote: bool,
        kind: Kind,
        name: impl FnOnce() -> N,
    ) -> Self {
        match parent {
            Some(Place { context: parent, state }) if parent.is_sampled() => {
                let context = TraceContext::new(parent.trace_id(), random::span_id(), true);
                Self::new(
                    Place { context, state },
                    Some((parent.span_id(), is_remote)),
                    kind,
                    name,
                )
            }
            place => Self { place, recording: None },
        }
    }

    fn new<N: Into<Cow<'static, str>>>(
        place: Place,
        parent: Option<(u64, bool)>,
        kind: Kind,
        name: impl FnOnce() -> N,
    ) -> Self {
        let context = place.context;
        let recording = INSTALLED.get().filter(|_| context.is_sampled()).map(|installed| {
            let service = installed.sink.service();
            let started_at = now();
            Box::new(Recording {
                record: Record {
                    name: cut(name().into()),
                    kind,
                    context,
                    parent,
                    started_at,
                    ended_at: started_at,
                    attributes: service.into_iter().map(|name| ("mesh.service", name.into())).collect(),
                    links: Vec::new(),
                    is_error: false,
                },
                began: Some(Instant::now()),
            })
        });
        Self {
            place: Some(place),
            recording,
        }
    }

    /// With an id that others can know beforehand, such as to link to it.
    pub fn with_id(mut self, span_id: u64) -> Self {
        if let (Some(place), Some(recording)) = (&mut self.place, &mut self.recording) {
            place.context = TraceContext::new(place.context.trace_id(), span_id, true);
            recording.record.context = place.context;
        }
        self
    }

    /// Of what lies behind: it lasted from there to there, however long before this process.
    pub fn lasting(mut self, started_at: SystemTime, ended_at: SystemTime) -> Self {
        if let Some(recording) = &mut self.recording {
            recording.record.started_at = started_at;
            recording.record.ended_at = ended_at.max(started_at);
            recording.began = None;
        }
        self
    }

    /// Its ids; what is below it says these in its `traceparent`.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.place.as_ref().map(|place| place.context)
    }

    /// Its ids and what is handed on with them.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Whether attributes are kept: ask before making what is dear to make.
    #[must_use]
    pub const fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Sets an attribute; a later one of that name replaces it. Long texts are cut.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let Some(recording) = &mut self.recording else { return };
        let value = match value.into() {
            Value::Text(text) => Value::Text(cut(text)),
            Value::Texts(texts) => Value::Texts(texts.into_iter().map(|text| cut(text.into()).into_owned()).collect()),
            other => other,
        };
        let attributes = &mut recording.record.attributes;
        match attributes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => attributes.push((name, value)),
        }
    }

    /// It has to do with that place, in this trace or another one.
    pub fn link(&mut self, to: TraceContext) {
        if let Some(recording) = &mut self.recording {
            recording.record.links.push(to);
        }
    }

    /// It failed; `kind` is a code of a closed list, never a text that somebody else wrote.
    pub fn fail(&mut self, kind: &str) {
        self.set("error.type", kind);
        if let Some(recording) = &mut self.recording {
            recording.record.is_error = true;
        }
    }

    /// The future, each of whose polls is below this span.
    pub fn run<F: Future>(&self, future: F) -> TaskLocalFuture<Option<Place>, F> {
        within(self.place.clone(), future)
    }

    /// Calls it below this span.
    pub fn enter<T>(&self, call: impl FnOnce() -> T) -> T {
        enter(self.place.clone(), call)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let (Some(recording), Some(installed)) = (self.recording.take(), INSTALLED.get()) else {
            return;
        };
        let Recording { mut record, began } = *recording;
        if let Some(began) = began {
            record.ended_at = record.started_at + began.elapsed();
        }
        installed.sink.ended(record);
    }
}

#[expect(clippy::disallowed_methods, reason = "a span begins when it begins")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn cut(text: Cow<'static, str>) -> Cow<'static, str> {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text[..end].to_owned().into()
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned().into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u64> for Value {
    /// Saturates: OTLP knows no larger number.
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}
