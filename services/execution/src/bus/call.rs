//! `mesh.call.<tenant>.<agent>`: accepts, waits for the end and answers once, or streams chunks before it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_api::Caller;
use mesh_api::execution::{Invocation, InvokeRequest, WAIT_MAX};
use mesh_bus::{Headers, RawRequest, Subscription};
use mesh_types::subject::Filter;
use mesh_types::{AgentName, Code, Problem, Subject, Tenant};

use crate::intake::parse_body;
use crate::request::said_actor;
use crate::state::State;
use crate::traced;

pub(super) async fn call(state: Arc<State>, request: RawRequest) {
    let span = traced::called(&request);
    span.run(answer(state, request)).await;
}

async fn answer(state: Arc<State>, request: RawRequest) {
    let streams = match prepare(&request) {
        Ok(call) if call.body.stream => {
            let answered = Box::pin(stream(&state, &request, call)).await;
            respond(&request, &answered).await;
            true
        }
        Ok(call) => {
            let answered = state
                .router
                .invoke(&call.caller, &call.agent, call.body, WAIT_MAX)
                .await;
            respond(&request, &answered).await;
            false
        }
        Err(problem) => {
            respond(&request, &Err(problem)).await;
            false
        }
    };
    if streams {
        // What `nats req --wait-for-empty` waits for.
        pass_on(&request, Bytes::new()).await;
    }
}

async fn respond(request: &RawRequest, answered: &Result<Invocation, Problem>) {
    let (headers, body) = match answered {
        Ok(invocation) => (headers_of(invocation.error.as_ref()), serde_json::to_vec(invocation)),
        Err(problem) => {
            request.note(problem);
            (headers_of(Some(problem)), serde_json::to_vec(problem))
        }
    };
    if let Err(error) = request.respond_with(headers, body.unwrap_or_default().into()).await {
        tracing::debug!(%error, "nobody hears the answer of a call; it is in the journal");
    }
}

fn headers_of(problem: Option<&Problem>) -> Headers {
    let mut headers = Headers::new();
    if let Some(problem) = problem {
        headers.insert(Headers::NATS_SERVICE_ERROR, &problem.title);
        headers.insert(Headers::NATS_SERVICE_ERROR_CODE, problem.status.to_string());
    }
    headers
}

struct Call {
    caller: Caller,
    agent: AgentName,
    body: InvokeRequest,
}

fn prepare(request: &RawRequest) -> Result<Call, Problem> {
    let (tenant, agent) = address(&request.subject)?;
    let mut body = parse_body(&request.payload)?;
    if body.idempotency_key.is_none() {
        body.idempotency_key = request.headers.get(Headers::NATS_MSG_ID).map(str::to_owned);
    }
    let actor = said_actor(&request.headers);
    Ok(Call {
        caller: Caller {
            role: None,
            tenant,
            actor,
            request_id: None,
        },
        agent,
        body,
    })
}

fn address(subject: &str) -> Result<(Tenant, AgentName), Problem> {
    match subject.parse::<Subject>() {
        Ok(Subject::Call { tenant, agent }) => Ok((tenant, agent)),
        Ok(_) => Err(Problem::new(Code::InvalidName, "not a subject of calls")),
        Err(error) => Err(Problem::new(Code::InvalidName, error.to_string())),
    }
}

/// Chunks as they come; the result is for the caller of this function to send.
async fn stream(state: &Arc<State>, request: &RawRequest, call: Call) -> Result<Invocation, Problem> {
    let Call {
        caller,
        agent,
        mut body,
    } = call;
    // Heard before it is accepted, so that no token is missed.
    let id = *body.invocation_id.get_or_insert_with(|| state.context.ids.next());
    let subject = Subject::Tokens {
        tenant: caller.tenant.clone(),
        invocation: id,
    };
    let unavailable = |error: mesh_bus::BusError| Problem::new(Code::Unavailable, error.to_string());
    let mut tokens = state
        .context
        .bus
        .subscribe(&Filter::Only(subject))
        .await
        .map_err(unavailable)?;
    let ended = state.router.invoke(&caller, &agent, body, WAIT_MAX);
    tokio::pin!(ended);
    let ended = loop {
        tokio::select! {
            biased;
            Some(message) = tokens.next() => pass_on(request, message.payload).await,
            ended = &mut ended => break ended,
        }
    };
    drain(&mut tokens, request).await;
    ended
}

async fn pass_on(request: &RawRequest, payload: Bytes) {
    // A client that went away loses nothing: the result is in the journal.
    let _ = request.respond(payload).await;
}

/// Tokens that were published before the end and are still on their way.
async fn drain(tokens: &mut Subscription, request: &RawRequest) {
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(5), tokens.next()).await {
        pass_on(request, message.payload).await;
    }
}
