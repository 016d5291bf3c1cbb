//! What the node asks of the mesh, by its own subjects: of `execution`, and of other services for what it holds.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_api::node::{
    NodeAppend, NodePut, NodeWork, PART_BYTES_MAX, PutRequest, TOKEN, Ticket, TokenBatch, WireWork, WorkRequest,
};
use mesh_api::road::{ByNode, Ticketed};
use mesh_api::{Caller, Endpoint, StreamEndpoint};
use mesh_bus::Bus;
use mesh_runtime::Context;
use mesh_types::{Code, NodeId, Problem, Subject, Tenant};
use sha2::{Digest, Sha256};

const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(crate) struct Execution {
    context: Context,
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
}

impl Execution {
    pub(crate) fn new(context: &Context, node: NodeId, incarnation: u64) -> Self {
        Self {
            context: context.clone(),
            node,
            incarnation,
        }
    }

    /// On the monotonic clock: what leases are measured by.
    pub(crate) fn now(&self) -> Duration {
        self.context.clock.monotonic()
    }

    /// # Errors
    /// As [`Bus::call_at`].
    pub(crate) async fn ask<E: Endpoint>(&self, request: &E::Request) -> Result<E::Reply, Problem> {
        let subject = self.road(E::SERVICE, E::NAME)?;
        let deadline = E::deadline_of(request);
        self.bus().call_at::<E>(&subject, &nobody(), request, deadline).await
    }

    /// Asks a service in the name of an invocation that is held.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub(crate) async fn ask_for<E: Endpoint>(&self, ticket: &Ticket, request: E::Request) -> Result<E::Reply, Problem> {
        let ticket = ticket.clone();
        self.ask::<ByNode<E>>(&Ticketed { ticket, request }).await
    }

    /// As [`Execution::ask_for`], with what is streamed before the answer.
    ///
    /// # Errors
    /// As [`Bus::call_stream`].
    pub(crate) async fn stream_for<E: StreamEndpoint>(
        &self,
        ticket: &Ticket,
        request: E::Request,
        on_chunk: impl FnMut(E::Chunk) + Send,
    ) -> Result<E::Reply, Problem> {
        let subject = self.road(E::SERVICE, E::NAME)?;
        let ticket = ticket.clone();
        let request = Ticketed { ticket, request };
        let bus = self.bus();
        bus.call_stream_at::<ByNode<E>>(&subject, &nobody(), &request, on_chunk)
            .await
    }

    /// Streamed text, without an answer: it may be lost, as the record will have it.
    pub(crate) async fn tell_tokens(&self, batch: &TokenBatch) {
        let told = async {
            let subject = self.road(NodeAppend::SERVICE, TOKEN)?;
            let payload = serde_json::to_vec(batch).unwrap_or_default();
            self.bus()
                .publish(&subject, payload.into())
                .await
                .map_err(Problem::from)
        };
        if let Err(problem) = told.await {
            tracing::debug!(%problem, "tokens are not published; the record will have them");
        }
    }

    fn road(&self, service: &str, endpoint: &str) -> Result<Subject, Problem> {
        Ok(Subject::NodeService {
            node: self.node.clone(),
            service: service.parse()?,
            endpoint: endpoint.parse()?,
        })
    }

    fn bus(&self) -> &Bus {
        &self.context.bus
    }

    /// Sends a body ahead, as long as it takes; answers its hash.
    ///
    /// # Errors
    /// It is refused for ever.
    pub(crate) async fn put(&self, ticket: &Ticket, body: &[u8]) -> Result<String, Problem> {
        let hash = hex::encode(Sha256::digest(body));
        for (part, bytes) in (0..).zip(body.chunks(PART_BYTES_MAX)) {
            let request = PutRequest {
                ticket: ticket.clone(),
                hash: hash.clone(),
                part,
                bytes: BASE64.encode(bytes),
            };
            self.patiently::<NodePut>(&request).await?;
        }
        Ok(hash)
    }

    /// All that is known of the invocation, as long as it takes.
    ///
    /// # Errors
    /// It can never be read.
    pub(crate) async fn work(&self, ticket: &Ticket) -> Result<WireWork, Problem> {
        let mut whole: Vec<u8> = Vec::new();
        let mut hash = String::new();
        loop {
            let request = WorkRequest {
                ticket: ticket.clone(),
                offset: whole.len() as u64,
            };
            let page = self.patiently::<NodeWork>(&request).await?;
            if page.hash != hash && !whole.is_empty() {
                // Something was written meanwhile: from the beginning.
                whole.clear();
                hash.clear();
                continue;
            }
            hash = page.hash;
            let broken = |why: &str| Problem::new(Code::Internal, format!("the work of {}: {why}", ticket.invocation));
            let bytes = BASE64.decode(&page.bytes).map_err(|error| broken(&error.to_string()))?;
            let is_last = whole.len() as u64 + bytes.len() as u64 >= page.total;
            if bytes.is_empty() && !is_last {
                return Err(broken("an empty page"));
            }
            whole.extend(bytes);
            if is_last {
                return serde_json::from_slice(&whole).map_err(|error| broken(&error.to_string()));
            }
        }
    }

    /// Until there is an answer that would be the same again.
    async fn patiently<E: Endpoint>(&self, request: &E::Request) -> Result<E::Reply, Problem> {
        let mut pause = RETRY_PAUSE;
        loop {
            match self.ask::<E>(request).await {
                Err(problem) if problem.is_transient() => {
                    tracing::debug!(%problem, endpoint = E::NAME, "execution does not answer; asking again");
                }
                answered => return answered,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}

/// Nobody looks at it: who asks stands in the subject.
fn nobody() -> Caller {
    Caller::service("node", Tenant::default())
}
