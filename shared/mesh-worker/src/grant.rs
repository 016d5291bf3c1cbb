//! What a worker is given, and what it reports when it lets go.

use std::sync::Arc;

use mesh_api::journal::{Outcome, Record};
use mesh_api::memory::user_of;
use mesh_api::steering::Edit;
use mesh_trace::{Place, TraceContext};
use mesh_types::agent::AgentSpec;
use mesh_types::{AgentName, InvocationId, Problem, Tenant, Timestamp};
use serde_json::{Map, Value};

/// The right to run one invocation under one epoch, with all that is needed for it.
#[derive(Debug, Clone)]
pub struct Grant {
    pub tenant: Tenant,
    pub invocation: InvocationId,
    pub agent: AgentName,
    pub version: u32,
    pub spec: Arc<AgentSpec>,
    pub input: Input,
    pub epoch: u32,
    /// Of a fork: the source's records of the steps before the fork, oldest first; they are read, never run.
    pub inherited: Vec<Record>,
    /// Of a fork: the source's records from the fork's step on, by which at_most_once effects are answered.
    pub recording: Vec<Record>,
    /// Of a fork: what is different.
    pub fork: Option<ForkEdit>,
    /// Everything committed, from seq 1; the `claimed` of this grant is the newest.
    pub journal: Vec<Record>,
    /// From `deadline_ms` of the request.
    pub deadline: Option<Timestamp>,
    /// Claims so far, this one included.
    pub attempt: u32,
    /// Invocations above this one that called it.
    pub depth: u32,
    /// The trace that it belongs to, if that is another than its own.
    pub trace: Option<Place>,
    /// The call or the source that it comes from, in another trace.
    pub trace_link: Option<TraceContext>,
}

/// Where a fork leaves its source, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ForkEdit {
    pub from_step: u32,
    pub edit: Edit,
}

impl Grant {
    pub fn task(&self) -> Task<'_> {
        Task {
            invocation: self.invocation,
            agent: &self.agent,
            spec: &self.spec,
            input: &self.input,
            depth: self.depth,
        }
    }
}

/// What the invocation was accepted with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    pub payload: Value,
    pub entrypoint: String,
    pub context: Map<String, Value>,
    pub metadata: Map<String, Value>,
    pub session: Option<String>,
}

/// All that the plan of an invocation depends on besides its journal.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    pub invocation: InvocationId,
    pub agent: &'a AgentName,
    pub spec: &'a AgentSpec,
    pub input: &'a Input,
    /// Invocations above this one that called it.
    pub depth: u32,
}

impl<'a> Task<'a> {
    /// Whom it speaks with.
    pub(crate) fn user(&self) -> Option<&'a str> {
        user_of(&self.input.context, &self.input.metadata)
    }
}

/// Why a worker let go of an invocation.
#[derive(Debug, Clone, PartialEq)]
pub enum Finished {
    /// The end is committed.
    Ended(Outcome),
    /// The wait is committed; whatever it waits for makes it runnable again.
    Waiting,
    /// Cancelled, by the token or by the answer to an append: the owner writes the end.
    Stopped,
    /// Another worker holds it.
    Stale,
    /// Even its end was refused; the invocation is still open.
    Refused(Box<Problem>),
}
