//! Intake: the owner of shard 0 pulls INVOCATIONS in batches, in stream order, finishes one before the next, then acks.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mesh_api::Caller;
use mesh_api::execution::{InvokeRequest, RouterRequest};
use mesh_bus::{BusError, Delivery, Headers, Puller, Settled};
use mesh_runtime::fail_point;
use mesh_runtime::planted::is_planted;
use mesh_runtime::{Context, Doorbell};
use mesh_store::Outbox;
use mesh_trace::Span;
use mesh_types::event::{Event, Fact};
use mesh_types::{AgentName, Code, DeadLetterId, Id, InvocationId, Problem, Subject, Tenant, Timestamp, json};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::directory::Owner;
use crate::request::{Prepared, said_actor};
use crate::router::Router;
use crate::store::dead_letters;
use crate::traced;

const BATCH: usize = 256;
const BATCH_WAIT: Duration = Duration::from_secs(5);
const RETRY_IN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(500);
/// How soon a process sees that it owns shard 0.
const OWNER_POLL: Duration = Duration::from_millis(100);
/// Deliveries of a message that fails inside each time.
const FAILURES_MAX: u32 = 30;

pub(crate) struct Intake {
    pub(crate) context: Context,
    pub(crate) router: Arc<Router>,
    /// Writes dead letters of any tenant.
    pub(crate) pool: PgPool,
    /// Rung when there is something to tell.
    pub(crate) events_bell: Doorbell,
}

impl Intake {
    pub(crate) async fn run(self) {
        let shutdown = self.context.shutdown.clone();
        let mut puller: Option<Puller> = None;
        while !shutdown.is_cancelled() {
            if self.router.directory.owner(0) != Owner::Here {
                give_back(puller.take()).await;
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(OWNER_POLL) => {}
                }
                continue;
            }
            let pulled = tokio::select! {
                () = shutdown.cancelled() => break,
                pulled = self.pull(&mut puller) => pulled,
            };
            match pulled {
                // Finished even at a shutdown: what is accepted is acked at once, not delivered again half a minute later.
                Ok(batch) => self.take(batch).await,
                Err(error) => {
                    tracing::warn!(%error, "INVOCATIONS cannot be read; trying again");
                    puller = None;
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
        give_back(puller).await;
    }

    async fn pull(&self, puller: &mut Option<Puller>) -> Result<Vec<Delivery>, BusError> {
        let puller = match puller {
            Some(puller) => puller,
            None => puller.insert(self.context.bus.pull(mesh_bus::topology::intake()).await?),
        };
        puller.next_batch(BATCH, BATCH_WAIT).await
    }

    /// Prepared first, so that lanes get all of them in stream order; then all are waited for; then acked.
    async fn take(&self, batch: Vec<Delivery>) {
        fail_point!(async "execution.intake.pulled");
        if is_planted("ack_before_commit") {
            for delivery in &batch {
                let _ = delivery.settle(Settled::Ack).await;
            }
        }
        let parsed: Vec<_> = batch.iter().map(parse).collect();
        let spans: Vec<_> = batch.iter().map(traced::taken).collect();
        // All at once: one agent that must be asked for holds up nobody behind it for long.
        let each = batch.iter().zip(&parsed).zip(&spans);
        let prepared = join_all(each.map(|((delivery, parsed), span)| {
            span.run(async move {
                match parsed {
                    Ok(parsed) => {
                        let request = parsed.request.clone();
                        self.router
                            .prepare(&parsed.caller, &parsed.agent, request, Some(derived_id(delivery)))
                            .await
                    }
                    Err((_, problem)) => Err(problem.clone()),
                }
            })
        }))
        .await;
        let accepts = batch.into_iter().zip(parsed).zip(prepared).zip(spans);
        // Polled in order: each hands its accept to a lane before it waits for the first time.
        join_all(accepts.map(|(((delivery, parsed), prepared), span)| {
            let place = span.place().cloned();
            mesh_trace::within(place, self.finish(delivery, parsed, prepared, span))
        }))
        .await;
    }

    async fn finish(
        &self,
        delivery: Delivery,
        parsed: Result<Parsed, (Tenant, Problem)>,
        prepared: Result<Prepared, Problem>,
        mut span: Span,
    ) {
        let accepted = match (&parsed, prepared) {
            (Ok(parsed), Ok(prepared)) => self
                .router
                .accept(&parsed.caller, prepared, Duration::ZERO)
                .await
                .map(drop),
            (_, Err(problem)) => Err(problem),
            (Err((_, problem)), Ok(_)) => Err(problem.clone()),
        };
        if let Err(problem) = &accepted {
            span.fail(&problem.kind);
        }
        let settled = match accepted {
            Ok(()) => Settled::Ack,
            Err(problem) if may_pass(&problem, delivery.delivered) => {
                tracing::warn!(%problem, sequence = delivery.stream_sequence, "an invocation cannot be accepted now; trying again");
                Settled::RetryIn(RETRY_IN)
            }
            Err(problem) => self.bury(&delivery, &parsed, problem).await,
        };
        fail_point!(async "execution.intake.ack.before");
        if let Err(error) = delivery.settle(settled).await {
            // Redelivered; its id or key finds the first.
            tracing::warn!(%error, "a message is not settled; it will come again");
        }
    }

    /// Dead letter row, then the answer to `reply_to`, then DEAD_LETTERS and the ack by the bus.
    async fn bury(&self, delivery: &Delivery, parsed: &Result<Parsed, (Tenant, Problem)>, problem: Problem) -> Settled {
        let tenant = match parsed {
            Ok(parsed) => &parsed.caller.tenant,
            Err((tenant, _)) => tenant,
        };
        if let Err(error) = self.keep(delivery, tenant, &problem).await {
            tracing::warn!(%error, "a dead letter is not written; trying again");
            return Settled::RetryIn(RETRY_IN);
        }
        self.events_bell.ring();
        fail_point!(async "execution.intake.bury.after");
        if let Ok(parsed) = parsed
            && let Some(reply_to) = &parsed.request.reply_to
            && let Ok(subject) = mesh_types::subject::parse_reply_to(reply_to, tenant)
        {
            let mut headers = Headers::new();
            headers.insert(Headers::NATS_SERVICE_ERROR, &problem.title);
            headers.insert(Headers::NATS_SERVICE_ERROR_CODE, problem.status.to_string());
            let body = serde_json::to_vec(&problem).unwrap_or_default();
            if let Err(error) = self.context.bus.publish_with(&subject, headers, body.into()).await {
                tracing::warn!(%error, "an error could not be sent to reply_to");
            }
        }
        Settled::Dead(problem)
    }

    /// The dead letter and the event of it, once.
    async fn keep(&self, delivery: &Delivery, tenant: &Tenant, problem: &Problem) -> Result<(), sqlx::Error> {
        let id = DeadLetterId::from_u128(derived_id(delivery).as_u128());
        let (subject, message) = (&delivery.subject, &delivery.payload);
        let mut tx = self.pool.begin().await?;
        let at = delivery.published_at;
        if dead_letters::insert_poison(&mut *tx, id, tenant, problem, subject, message, at).await? {
            let event = Event {
                id: self.context.ids.next(),
                tenant: tenant.clone(),
                at: self.context.clock.now(),
                actor: "service:execution".to_owned(),
                request_id: None,
                change: None,
                fact: Fact::DeadLetterAdded {
                    dead_letter: id,
                    reason: problem.kind.clone(),
                },
            };
            Outbox::EXECUTION.append(&mut tx, &event).await?;
        }
        tx.commit().await
    }
}

/// Whether the same message may be accepted later. A failure inside is believed to be one of the message itself after a
/// while, so that it does not come back for ever.
fn may_pass(problem: &Problem, delivered: u32) -> bool {
    problem.is_transient() || (problem.status >= 500 && delivered < FAILURES_MAX)
}

/// What was pulled and not taken goes to the next owner at once.
async fn give_back(puller: Option<Puller>) {
    if let Some(puller) = puller {
        puller.close().await;
    }
}

struct Parsed {
    caller: Caller,
    agent: AgentName,
    request: InvokeRequest,
}

/// Subject and body to a request; an error keeps the tenant as far as it is known.
fn parse(delivery: &Delivery) -> Result<Parsed, (Tenant, Problem)> {
    let (tenant, agent, mut request) = parse_message(&delivery.subject, &delivery.payload)?;
    if request.idempotency_key.is_none() {
        request.idempotency_key = delivery.headers.get(Headers::NATS_MSG_ID).map(str::to_owned);
    }
    let actor = said_actor(&delivery.headers);
    Ok(Parsed {
        caller: Caller {
            role: None,
            tenant,
            actor,
            request_id: None,
        },
        agent,
        request,
    })
}

/// Without its headers; also of a dead letter that is taken up again.
pub(crate) fn parse_message(
    subject: &str,
    payload: &[u8],
) -> Result<(Tenant, AgentName, InvokeRequest), (Tenant, Problem)> {
    let subject: Subject = subject.parse().map_err(|error: mesh_types::subject::SubjectError| {
        (Tenant::default(), Problem::new(Code::InvalidName, error.to_string()))
    })?;
    match subject {
        Subject::Invoke { tenant, agent } => {
            let request = parse_body(payload).map_err(|problem| (tenant.clone(), problem))?;
            Ok((tenant, agent, request))
        }
        Subject::RouterInvoke => json::parse::<RouterRequest>(payload)
            .and_then(RouterRequest::split)
            .map_err(|problem| (Tenant::default(), problem)),
        _ => Err((
            Tenant::default(),
            Problem::new(Code::InvalidName, "not a subject of invocations"),
        )),
    }
}

/// An empty body is an empty request.
pub(crate) fn parse_body(payload: &[u8]) -> Result<InvokeRequest, Problem> {
    if payload.is_empty() {
        Ok(InvokeRequest::default())
    } else {
        json::parse(payload)
    }
}

/// The same message is the same invocation, however often it is delivered.
pub(crate) fn derived_id(delivery: &Delivery) -> InvocationId {
    derive(delivery.published_at_ns, delivery.stream_sequence)
}

pub(crate) fn derive(published_at_ns: i64, sequence: u64) -> InvocationId {
    let mut hasher = Sha256::new();
    hasher.update(b"INVOCATIONS");
    hasher.update(published_at_ns.to_be_bytes());
    hasher.update(sequence.to_be_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    let low = hash
        .iter()
        .take(16)
        .fold(0_u128, |value, byte| (value << 8) | u128::from(*byte));
    InvocationId::new(Timestamp::from_micros(published_at_ns / 1_000), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redelivery_has_the_same_id_and_another_message_another() {
        let at = 1_795_258_800_123_456_789;
        assert_eq!(derive(at, 7), derive(at, 7));
        assert_ne!(derive(at, 7), derive(at, 8));
        assert_ne!(derive(at, 7), derive(at + 1, 7));
    }
}
