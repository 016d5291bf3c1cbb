//! One tunnel: frames in order, exchanges side by side, and its end by silence, age, a gap, or either side's word.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mesh_api::tunnel::{Frame, Sealed};
use mesh_types::{Code, Problem};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::ending::Ending;
use super::exchange::{Exchange, Spoken};
use super::{Line, Tunnels};
use crate::chat::Talker;

/// In flight at the same time, in one tunnel.
const EXCHANGES_MAX: usize = 8;
const EXCHANGE_ID_BYTES_MAX: usize = 128;

pub(super) struct One {
    tunnels: Arc<Tunnels>,
    line: Line,
    frames: mpsc::Receiver<Sealed>,
    talker: Talker,
    /// Of the last frame that was taken; the opening one was the first.
    heard: u64,
}

impl One {
    pub(super) fn new(tunnels: &Arc<Tunnels>, line: Line, frames: mpsc::Receiver<Sealed>, is_owner: bool) -> Self {
        Self {
            tunnels: Arc::clone(tunnels),
            line,
            frames,
            talker: if is_owner { Talker::Owner } else { Talker::Guest },
            heard: 1,
        }
    }

    pub(super) async fn run(mut self) {
        let incarnation = self.tunnels.settings.incarnation();
        let ending = match self.line.say(Frame::Opened { incarnation }).await {
            Ok(()) => self.carry().await,
            Err(_) => Ending::Lost,
        };
        tracing::info!(tunnel = %self.line.tunnel, ?ending, "a tunnel ended");
        if let Some(reason) = ending.reason() {
            let reason = reason.to_owned();
            let _ = self.line.say(Frame::Close { reason }).await;
        }
    }

    async fn carry(&mut self) -> Ending {
        let rhythm = self.tunnels.rhythm;
        let shutdown = self.tunnels.context.shutdown.clone();
        let started = Instant::now();
        let mut pings = interval_at(started + rhythm.ping, rhythm.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_at = started + rhythm.silence;
        // They end with the tunnel: nobody would hear them.
        let mut exchanges = FuturesUnordered::new();
        let mut ids: Vec<String> = Vec::new();
        loop {
            let turn = tokio::select! {
                biased;
                () = shutdown.cancelled() => Turn::End(Ending::Stopping),
                () = tokio::time::sleep_until(started + rhythm.life) => Turn::End(Ending::Old),
                () = tokio::time::sleep_until(silent_at) => Turn::End(Ending::Silent),
                sealed = self.frames.recv() => sealed.map_or(Turn::End(Ending::Stopping), Turn::Frame),
                Some((exchange, spoken)) = exchanges.next(), if !exchanges.is_empty() => Turn::Spoken(exchange, spoken),
                _ = pings.tick() => Turn::Ping,
            };
            let said = match turn {
                Turn::End(ending) => return ending,
                Turn::Ping => Some(Frame::Ping),
                Turn::Spoken(exchange, Spoken::More(frame)) => {
                    exchanges.push(exchange.go_on(Arc::clone(&self.tunnels), self.talker));
                    Some(frame)
                }
                Turn::Spoken(exchange, Spoken::End(frame)) => {
                    ids.retain(|id| *id != exchange.id);
                    Some(frame)
                }
                Turn::Frame(sealed) => {
                    silent_at = Instant::now() + rhythm.silence;
                    match self.take(sealed) {
                        Taken::Nothing => None,
                        Taken::End(ending) => return ending,
                        Taken::Message { id, .. } if ids.contains(&id) => None,
                        Taken::Message { id, .. } if ids.len() >= EXCHANGES_MAX => Some(busy(id)),
                        Taken::Message { id, kind, body } => {
                            ids.push(id.clone());
                            exchanges.push(Exchange::new(id, kind, body).go_on(Arc::clone(&self.tunnels), self.talker));
                            None
                        }
                    }
                }
            };
            if let Some(frame) = said
                && self.line.say(frame).await.is_err()
            {
                return Ending::Lost;
            }
        }
    }

    fn take(&mut self, sealed: Sealed) -> Taken {
        if sealed.seq <= self.heard {
            return Taken::Nothing;
        }
        if sealed.seq > self.heard + 1 {
            return Taken::End(Ending::Gap);
        }
        self.heard = sealed.seq;
        match sealed.frame {
            Frame::Message { id, kind, body } if id.len() <= EXCHANGE_ID_BYTES_MAX => Taken::Message { id, kind, body },
            Frame::Close { .. } => Taken::End(Ending::Closed),
            Frame::Ping | Frame::Message { .. } => Taken::Nothing,
            Frame::Open { .. }
            | Frame::Opened { .. }
            | Frame::Token { .. }
            | Frame::Done { .. }
            | Frame::Failed { .. } => Taken::Nothing,
        }
    }
}

fn busy(id: String) -> Frame {
    let detail = format!("{EXCHANGES_MAX} exchanges of this tunnel are open already");
    let problem = Problem::new(Code::Busy, detail);
    Frame::Failed { id, problem }
}

/// What happens next.
enum Turn {
    Frame(Sealed),
    Spoken(Exchange, Spoken),
    Ping,
    End(Ending),
}

enum Taken {
    Nothing,
    Message {
        id: String,
        kind: String,
        body: serde_json::Value,
    },
    End(Ending),
}
