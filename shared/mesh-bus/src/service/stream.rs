//! Streaming endpoints: numbered chunks to the caller's inbox, then the reply, marked as final.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_api::{Caller, StreamEndpoint};
use mesh_types::{NodeId, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::endpoint::{check_access, decode, node_of};
use super::{Handler, Incoming};
use crate::api::NoAnswer;
use crate::call::encode;
use crate::{Bus, Headers};

/// How often a handler that is still at work says so.
const BEAT: Duration = Duration::from_secs(2);
/// A caller that is there answers at once, unless it is stopped; it counts as there then.
const PROBE_DEADLINE: Duration = Duration::from_millis(500);

/// Where a streaming handler sends its chunks; they arrive in order.
pub struct ChunkSink<C> {
    bus: Bus,
    reply: Option<String>,
    sent: Arc<AtomicU64>,
    chunk: PhantomData<fn(C)>,
}

impl<C> Clone for ChunkSink<C> {
    fn clone(&self) -> Self {
        Self {
            bus: self.bus.clone(),
            reply: self.reply.clone(),
            sent: Arc::clone(&self.sent),
            chunk: PhantomData,
        }
    }
}

impl<C> std::fmt::Debug for ChunkSink<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkSink").field("reply", &self.reply).finish()
    }
}

impl<C: Serialize> ChunkSink<C> {
    /// Sends one chunk. One after the other: chunks sent at the same time have no order.
    ///
    /// # Errors
    /// When it cannot be sent; the reply may still arrive.
    pub async fn send(&self, chunk: C) -> Result<(), Problem> {
        let Some(reply) = &self.reply else {
            return Ok(());
        };
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let mut headers = Headers::new();
        headers.insert(Headers::MESH_CHUNK, number.to_string());
        let payload = encode(&chunk)?;
        Ok(self.bus.enqueue(reply.clone(), headers, payload).await?)
    }

    /// Asks whether the caller still waits. `false` only where the server knows of nobody there: the caller's process
    /// died, or its connection broke.
    pub async fn is_awaited(&self) -> bool {
        let Some(reply) = self.reply.clone() else {
            return false;
        };
        let asked = self.bus.ask(reply, None, bytes::Bytes::new(), PROBE_DEADLINE);
        !matches!(asked.await, Err(NoAnswer::NobodyListens))
    }
}

/// Tells the caller that its request is worked on, until it is dropped.
async fn beat(bus: Bus, reply: Option<String>) -> std::convert::Infallible {
    let Some(reply) = reply else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(BEAT).await;
        let mut headers = Headers::new();
        headers.insert(Headers::MESH_ALIVE, "1");
        // Without a connection nobody hears it, and the caller gives up as it should.
        if let Err(error) = bus.enqueue(reply.clone(), headers, bytes::Bytes::new()).await {
            tracing::debug!(%error, "a beat is not sent");
        }
    }
}

pub(super) fn wrap<E, H, F>(handler: H) -> Handler
where
    E: StreamEndpoint,
    H: Fn(Caller, E::Request, ChunkSink<E::Chunk>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
{
    let caller_of = |incoming: &Incoming| {
        let caller = incoming.headers.caller()?;
        check_access::<E>(&caller)?;
        Ok(caller)
    };
    wrap_as(caller_of, handler)
}

/// As [`wrap`], of an endpoint that nodes ask: who asks stands in the subject.
pub(super) fn wrap_node<E, H, F>(handler: H) -> Handler
where
    E: StreamEndpoint,
    H: Fn(NodeId, E::Request, ChunkSink<E::Chunk>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
{
    wrap_as(|incoming| node_of(&incoming.subject), handler)
}

fn wrap_as<W, Q, R, C, H, F>(who: fn(&Incoming) -> Result<W, Problem>, handler: H) -> Handler
where
    W: Send + 'static,
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    C: 'static,
    H: Fn(W, Q, ChunkSink<C>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, Problem>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |incoming| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let caller = who(&incoming)?;
            let request = decode(&incoming.payload)?;
            let sink = ChunkSink {
                bus: incoming.bus,
                reply: incoming.reply,
                sent: Arc::default(),
                chunk: PhantomData,
            };
            let beats = beat(sink.bus.clone(), sink.reply.clone());
            let reply = tokio::select! {
                biased;
                reply = handler(caller, request, sink) => reply?,
                never = beats => match never {},
            };
            let mut headers = Headers::new();
            headers.insert(Headers::MESH_FINAL, "1");
            Ok((headers, encode(&reply)?))
        })
    })
}
