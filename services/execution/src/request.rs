//! From a request to what is accepted: limits, hash, shard. Pure.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::execution::InvokeRequest;
use mesh_api::steering::Edit;
use mesh_bus::Headers;
use mesh_trace::{Place, TraceContext};
use mesh_types::agent::AgentSpec;
use mesh_types::subject::parse_reply_to;
use mesh_types::{AgentName, Code, Id, InvocationId, Problem, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::agents::Pinned;
use crate::core::mail::{ChildRequest, Mail};
use crate::core::packed::Packed;
use crate::core::{Fork, Links, Meta, Parent, StoredInput};
use crate::shards::shard_of;

const PRIORITY_DEFAULT: u8 = 5;
const PRIORITY_MAX: u8 = 9;
/// Characters of a name that somebody gives himself.
const SAID_MAX: usize = 128;
/// Bytes of a key, session or entrypoint.
const TEXT_MAX: usize = 256;
const DELAY_MAX_MS: u64 = 366 * 86_400_000;

/// A checked request, pinned to a version.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) meta: Arc<Meta>,
    pub(crate) spec: Arc<AgentSpec>,
    pub(crate) id_is_given: bool,
    /// As it came, to pass it on to another process.
    pub(crate) request: InvokeRequest,
}

impl Prepared {
    /// It belongs to that place of a trace. The trace of its own id needs no words, unless it is recorded.
    pub(crate) fn belongs_to(&mut self, trace: Option<Place>) {
        let id = self.meta.id.as_u128();
        let said = trace.filter(|place| place.context.is_sampled() || place.context.trace_id() != id);
        if let Some(trace) = said {
            // Nobody else has it yet.
            Arc::make_mut(&mut self.meta).input.trace = Some(trace.to_string());
        }
    }
}

/// Who asked over NATS. The server says which tenant may be addressed, not who sent a message: a name in the headers is
/// kept as what was said, so that it is never taken for somebody who signed in.
pub(crate) fn said_actor(headers: &Headers) -> String {
    headers.get(Headers::MESH_ACTOR).map_or_else(
        || "nats".to_owned(),
        |said| {
            let said: String = said.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect();
            format!("nats:{said}")
        },
    )
}

/// Limits that the wire type cannot say; the problem names the field.
pub(crate) fn check(request: &InvokeRequest, tenant: &Tenant) -> Result<(), Problem> {
    let invalid =
        |field: &str, rule: &str| Err(Problem::new(Code::InvalidRequest, format!("{field} {rule}")).field(field));
    if request.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
        return invalid("priority", "must lie between 0 and 9");
    }
    for (field, text) in [
        ("idempotency_key", &request.idempotency_key),
        ("session", &request.session),
        ("entrypoint", &request.entrypoint),
    ] {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > TEXT_MAX || text.contains('\0') {
            return invalid(field, "must have 1 to 256 bytes and no U+0000");
        }
    }
    for (field, ms) in [("delay_ms", request.delay_ms), ("deadline_ms", request.deadline_ms)] {
        if ms.is_some_and(|ms| ms > DELAY_MAX_MS) {
            return invalid(field, "must be at most a year, in milliseconds");
        }
    }
    if let Some(reply_to) = &request.reply_to
        && parse_reply_to(reply_to, tenant).is_err()
    {
        return invalid(
            "reply_to",
            "must be a subject under _INBOX. or mesh.reply.<your tenant>.",
        );
    }
    Ok(())
}

pub(crate) fn prepare(
    caller: &Caller,
    agent: &AgentName,
    request: InvokeRequest,
    pinned: Pinned,
    minted: InvocationId,
    minted_is_given: bool,
    now: Timestamp,
) -> Prepared {
    let id = request.invocation_id.unwrap_or(minted);
    let key = request.idempotency_key.clone();
    let session = request.session.clone();
    let after = |ms: Option<u64>| ms.map(|ms| now.plus(Duration::from_millis(ms)));
    let meta = Meta {
        id,
        shard: shard_of(&caller.tenant, agent, session.as_deref(), key.as_deref(), id),
        tenant: caller.tenant.clone(),
        agent: agent.clone(),
        version: pinned.version,
        artifact: pinned.hash,
        concurrency: pinned.spec.limits.concurrency,
        entrypoint: request.entrypoint.clone().unwrap_or_else(|| "invoke".to_owned()),
        session,
        key,
        priority: request.priority.unwrap_or(PRIORITY_DEFAULT),
        created_at: now,
        deadline_at: after(request.deadline_ms),
        wake_at: after(request.delay_ms.filter(|ms| *ms > 0)),
        request_hash: hash(&caller.tenant, agent, &request),
        reply_to: request.reply_to.clone(),
        actor: caller.actor.clone(),
        input: StoredInput {
            payload: Packed::from(&request.payload),
            context: request.context.clone(),
            metadata: request.metadata.clone(),
            placed: pinned.spec.placement.is_some(),
            intermediate_steps: request.intermediate_steps,
            ..StoredInput::default()
        },
        links: None,
    };
    Prepared {
        meta: Arc::new(meta),
        spec: pinned.spec,
        id_is_given: minted_is_given || request.invocation_id.is_some(),
        request,
    }
}

/// A child as its parent's letter asks for it.
pub(crate) fn prepare_child(
    letter: &Mail,
    request: &ChildRequest,
    pinned: Pinned,
    now: Timestamp,
) -> Result<Prepared, Problem> {
    if let Some(session) = &request.session
        && request
            .held_sessions
            .contains(&(request.agent.clone(), session.clone()))
    {
        let detail = format!("session `{session}` is held by a caller of this one: it would wait for itself");
        return Err(Problem::new(Code::SessionBusy, detail).field("session"));
    }
    let invoke = InvokeRequest {
        payload: request.payload.clone(),
        session: request.session.clone(),
        entrypoint: Some("tool".into()),
        priority: Some(request.priority),
        ..InvokeRequest::default()
    };
    let caller = Caller {
        role: None,
        tenant: letter.tenant.clone(),
        actor: request.actor.clone(),
        request_id: None,
    };
    let mut prepared = prepare(&caller, &request.agent, invoke, pinned, letter.recipient, true, now);
    // Nobody else has it yet.
    let meta = Arc::make_mut(&mut prepared.meta);
    meta.shard = letter.shard;
    meta.input.parent_shard = Some(request.parent_shard);
    meta.input.held_sessions.clone_from(&request.held_sessions);
    if request.trace.is_some() {
        meta.input.trace = Some(TraceContext::of_id(meta.id.as_u128(), true).to_string());
        meta.input.trace_link.clone_from(&request.trace);
    }
    meta.links = Some(Box::new(Links {
        parent: Some(Parent {
            invocation: letter.sender,
            step: request.step,
            shard: request.parent_shard,
        }),
        depth: request.depth,
        ..Links::default()
    }));
    Ok(prepared)
}

/// What a fork is to be, checked against its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForkOrder {
    pub(crate) source: InvocationId,
    pub(crate) from_step: u32,
    pub(crate) edit: Edit,
    /// As it is stored.
    pub(crate) key: Option<String>,
    pub(crate) id: InvocationId,
    /// It was asked for before, without an answer: the id is looked up.
    pub(crate) is_repeat: bool,
}

/// A fork: pinned to the version of its source, in its shard, outside of any session, with nobody who waits for it.
/// `seq` is the source's highest record now.
pub(crate) fn prepare_fork(
    caller: &Caller,
    source: Meta,
    seq: u32,
    order: ForkOrder,
    spec: Arc<AgentSpec>,
    now: Timestamp,
) -> Prepared {
    let request_hash = fork_hash(&source, &order);
    // What holds for all of a fork holds for the forks of it; prompt and output are those of one step.
    let of_source = source.input.edit.clone().unwrap_or_default();
    let edit = Edit {
        instructions: order.edit.instructions.or(of_source.instructions),
        model: order.edit.model.or(of_source.model),
        ..order.edit
    };
    let links = Links {
        fork: Some(Fork {
            of: source.id,
            from_step: order.from_step,
            edit: edit.clone(),
        }),
        root: Some(source.root()),
        depth: source.depth(),
        parent: None,
    };
    let meta = Meta {
        id: order.id,
        concurrency: spec.limits.concurrency,
        session: None,
        key: order.key,
        created_at: now,
        deadline_at: None,
        wake_at: None,
        request_hash,
        reply_to: None,
        actor: caller.actor.clone(),
        links: Some(Box::new(links)),
        input: StoredInput {
            edit: Some(edit),
            source_seq: Some(seq),
            parent_shard: None,
            held_sessions: Vec::new(),
            trace: None,
            trace_link: source.input.trace().map(|trace| trace.to_string()),
            ..source.input
        },
        ..source
    };
    Prepared {
        meta: Arc::new(meta),
        spec,
        id_is_given: order.is_repeat,
        request: InvokeRequest::default(),
    }
}

fn fork_hash(source: &Meta, order: &ForkOrder) -> [u8; 32] {
    let hashed = serde_json::json!({
        "tenant": source.tenant, "fork_of": order.source, "from_step": order.from_step, "edit": order.edit,
    });
    Sha256::digest(hashed.to_string()).into()
}

/// Of the parsed request: spaces and the order of keys do not matter, nor where the answer goes, nor its key or id.
fn hash(tenant: &Tenant, agent: &AgentName, request: &InvokeRequest) -> [u8; 32] {
    #[derive(Serialize)]
    struct Hashed<'a> {
        tenant: &'a Tenant,
        agent: &'a AgentName,
        payload: &'a serde_json::Value,
        entrypoint: &'a Option<String>,
        session: &'a Option<String>,
        priority: Option<u8>,
        delay_ms: Option<u64>,
        deadline_ms: Option<u64>,
        context: &'a serde_json::Map<String, serde_json::Value>,
        metadata: &'a serde_json::Map<String, serde_json::Value>,
    }
    let hashed = Hashed {
        tenant,
        agent,
        payload: &request.payload,
        entrypoint: &request.entrypoint,
        session: &request.session,
        priority: request.priority,
        delay_ms: request.delay_ms,
        deadline_ms: request.deadline_ms,
        context: &request.context,
        metadata: &request.metadata,
    };
    // Maps are sorted, so one request has one text.
    Sha256::digest(serde_json::to_vec(&hashed).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> InvokeRequest {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_hash_is_of_the_parsed_request() {
        let (tenant, agent) = (Tenant::default(), "a".parse().unwrap());
        let of = |json: &str| hash(&tenant, &agent, &request(json));
        let first = of(r#"{"payload":{"a":1,"b":2},"idempotency_key":"k"}"#);
        assert_eq!(
            first,
            of(r#"{ "idempotency_key":"other", "payload": {"b":2, "a":1}, "reply_to":"_INBOX.x" }"#)
        );
        assert_ne!(first, of(r#"{"payload":{"a":1,"b":3},"idempotency_key":"k"}"#));
        assert_ne!(first, of(r#"{"payload":{"a":1,"b":2},"session":"s"}"#));
    }

    #[test]
    fn a_limit_names_its_field() {
        let tenant = Tenant::default();
        for (json, field) in [
            (r#"{"priority":10}"#, "priority"),
            (r#"{"idempotency_key":""}"#, "idempotency_key"),
            (r#"{"session":"a\u0000b"}"#, "session"),
            (r#"{"delay_ms":99999999999999}"#, "delay_ms"),
            (r#"{"reply_to":"$JS.API.x"}"#, "reply_to"),
            (r#"{"reply_to":"mesh.reply.other.x"}"#, "reply_to"),
        ] {
            assert_eq!(
                check(&request(json), &tenant).unwrap_err().field.as_deref(),
                Some(field),
                "{json}"
            );
        }
        assert!(
            check(
                &request(r#"{"priority":9,"session":"s","reply_to":"_INBOX.a"}"#),
                &tenant
            )
            .is_ok()
        );
    }

    #[test]
    fn a_name_in_the_headers_is_what_was_said_and_no_more() {
        let mut headers = Headers::new();
        assert_eq!(said_actor(&headers), "nats");
        headers.insert(Headers::MESH_ACTOR, "user:root");
        assert_eq!(said_actor(&headers), "nats:user:root");
        headers.insert(Headers::MESH_ACTOR, "x".repeat(1_000));
        assert_eq!(said_actor(&headers).len(), "nats:".len() + SAID_MAX);
    }
}
