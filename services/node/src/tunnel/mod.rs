//! The node's end of tunnels: frames at `mesh.tunnel.<node>`, each tunnel a task of its own that answers by
//! `mesh.node.<node>.gateway.<tunnel>`. Who may come was checked by the gateway; what they may do here, the node knows.

mod ending;
mod exchange;
mod one;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::tunnel::{FRAME_BYTES_MAX, Frame, LIFE_SECONDS, PING_SECONDS, SILENCE_SECONDS, Sealed};
use mesh_bus::{Bus, Subscription};
use mesh_runtime::Context;
use mesh_types::subject::Filter;
use mesh_types::{NodeId, Subject, Token};
use tokio::sync::mpsc;

use crate::chat::Chat;
use crate::local::Settings;
use crate::models::Models;

/// Open at the same time.
const TUNNELS_MAX: usize = 32;
/// Frames that wait for one tunnel; a gateway sends no faster than its clients write.
const FRAMES_WAITING_MAX: usize = 64;
const _: () = assert!(SILENCE_SECONDS >= 3 * PING_SECONDS);
/// Place of a frame that ends a tunnel which this start of the node does not know: after every other.
const SEQ_LAST: u64 = u64::MAX;

/// How long things take; tests are in a hurry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    pub(crate) ping: Duration,
    pub(crate) silence: Duration,
    pub(crate) life: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(PING_SECONDS),
            silence: Duration::from_secs(SILENCE_SECONDS),
            life: Duration::from_secs(LIFE_SECONDS),
        }
    }
}

/// All tunnels of a node.
pub(crate) struct Tunnels {
    settings: Arc<dyn Settings>,
    models: Arc<Models>,
    chat: Arc<Chat>,
    context: Context,
    rhythm: Rhythm,
}

impl Tunnels {
    pub(crate) fn new(settings: Arc<dyn Settings>, models: Arc<Models>, chat: Arc<Chat>, context: &Context) -> Self {
        Self {
            settings,
            models,
            chat,
            context: context.clone(),
            rhythm: Rhythm::default(),
        }
    }

    #[cfg(test)]
    fn with_rhythm(mut self, rhythm: Rhythm) -> Self {
        self.rhythm = rhythm;
        self
    }

    /// Hears and serves in the background until `context.shutdown`.
    ///
    /// # Errors
    /// There is no room on the way to NATS.
    pub(crate) async fn start(self) -> Result<(), mesh_bus::BusError> {
        let node = self.settings.node_id();
        let filter = Filter::Only(Subject::Tunnel { node });
        let frames = self.context.bus.subscribe(&filter).await?;
        let tasks = self.context.tasks.clone();
        tasks.spawn("tunnels", Arc::new(self).hear(frames));
        Ok(())
    }

    async fn hear(self: Arc<Self>, mut frames: Subscription) {
        let mut open: HashMap<Token, mpsc::Sender<Sealed>> = HashMap::new();
        let shutdown = self.context.shutdown.clone();
        while let Some(Some(message)) = shutdown.run_until_cancelled(frames.next()).await {
            if message.payload.len() > FRAME_BYTES_MAX {
                tracing::warn!(
                    bytes = message.payload.len(),
                    "a frame is over the limit and was dropped"
                );
                continue;
            }
            let sealed: Sealed = match serde_json::from_slice(&message.payload) {
                Ok(sealed) => sealed,
                Err(error) => {
                    tracing::warn!(%error, "a message is no frame of a tunnel");
                    continue;
                }
            };
            open.retain(|_, frames| !frames.is_closed());
            match open.get(&sealed.tunnel) {
                Some(frames) => {
                    let tunnel = sealed.tunnel.clone();
                    if frames.try_send(sealed).is_err() {
                        // The gap is seen there, and ends it.
                        tracing::warn!(%tunnel, "a tunnel is flooded");
                    }
                }
                None => self.open(sealed, &mut open).await,
            }
        }
    }

    async fn open(self: &Arc<Self>, first: Sealed, open: &mut HashMap<Token, mpsc::Sender<Sealed>>) {
        let line = Line::new(self.context.bus.clone(), self.settings.node_id(), first.tunnel.clone());
        let Frame::Open { actor, owner } = first.frame else {
            if !matches!(first.frame, Frame::Close { .. }) {
                line.refuse(SEQ_LAST, "the node has restarted and does not know this tunnel")
                    .await;
            }
            return;
        };
        if first.seq != 1 {
            return line.refuse(SEQ_LAST, "frames were lost on the way to the node").await;
        }
        if open.len() >= TUNNELS_MAX {
            let reason = format!("{TUNNELS_MAX} tunnels to the node are open already");
            return line.refuse(1, &reason).await;
        }
        let (sender, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        tracing::info!(tunnel = %first.tunnel, actor, owner, "a tunnel was opened");
        open.insert(first.tunnel, sender);
        let one = one::One::new(self, line, frames, owner);
        self.context.tasks.spawn("tunnel", one.run());
    }
}

/// The way back to the gateway, for one tunnel.
struct Line {
    bus: Bus,
    subject: Subject,
    tunnel: Token,
    /// Of the last frame.
    seq: u64,
}

impl Line {
    fn new(bus: Bus, node: NodeId, tunnel: Token) -> Self {
        let subject = Subject::NodeService {
            node,
            service: "gateway".parse().expect("a literal of this file is a token"),
            endpoint: tunnel.clone(),
        };
        Self {
            bus,
            subject,
            tunnel,
            seq: 0,
        }
    }

    /// The next frame of this direction. One that is too large becomes the failure of its exchange.
    async fn say(&mut self, frame: Frame) -> Result<(), mesh_bus::BusError> {
        let seq = self.seq + 1;
        let mut payload = self.seal(seq, &frame);
        if payload.len() > FRAME_BYTES_MAX {
            let Some(failed) = ending::too_large(&frame) else {
                return Ok(());
            };
            payload = self.seal(seq, &failed);
        }
        self.bus.publish(&self.subject, payload.into()).await?;
        self.seq = seq;
        Ok(())
    }

    /// Ends a tunnel that was never opened here.
    async fn refuse(&self, seq: u64, reason: &str) {
        let reason = reason.to_owned();
        let payload = self.seal(seq, &Frame::Close { reason });
        if let Err(error) = self.bus.publish(&self.subject, payload.into()).await {
            tracing::debug!(%error, tunnel = %self.tunnel, "a tunnel is not refused aloud");
        }
    }

    fn seal(&self, seq: u64, frame: &Frame) -> Vec<u8> {
        let sealed = Sealed {
            tunnel: self.tunnel.clone(),
            seq,
            frame: frame.clone(),
        };
        serde_json::to_vec(&sealed).expect("a frame is plain data")
    }
}
