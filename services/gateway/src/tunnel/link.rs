//! One tunnel's task: alone it speaks to the node and hears it, watches the clock and the rights, and ends it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use mesh_api::heartbeat::{Observed, ObservedRequest};
use mesh_api::tunnel::{FRAME_BYTES_MAX, Frame, Sealed};
use mesh_bus::{Message, Subscription};
use mesh_types::subject::Filter;
use mesh_types::{Code, NodeId, Subject, Token};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::end::Ended;
use super::order::{Place, Sequence};
use super::rights::{self, Right};
use super::{Order, Tunnel};
use crate::http::problem::Failure;
use crate::state::App;

/// How long an ended tunnel can still be read to its end.
const LINGER: Duration = Duration::from_secs(60);
/// What a node that is not seen gets to answer nevertheless: it may have come a moment ago.
const OFFLINE_GRACE: Duration = Duration::from_millis(500);
/// Pause after rights could not be checked.
const RIGHTS_RETRY: Duration = Duration::from_secs(5);
/// After so many intervals without a checked right the tunnel ends.
const UNCHECKED_INTERVALS_MAX: u32 = 4;

/// Opens the node's end, tells the result, carries frames until the end, and keeps the log a while longer.
pub(super) async fn run(
    app: App,
    tunnel: Arc<Tunnel>,
    right: Right,
    orders: mpsc::Receiver<Order>,
    tell: oneshot::Sender<Result<(), Failure>>,
) {
    let opened = Link::open(app.clone(), Arc::clone(&tunnel), &right, orders).await;
    let mut link = match opened {
        Ok(link) => link,
        Err(failure) => {
            tunnel.log.end(Ended::Silent);
            app.tunnels.forget(tunnel.id);
            app.tunnels.show(&app);
            let _ = tell.send(Err(failure));
            return;
        }
    };
    // Whoever does not wait any more finds it by its status, or it ends idle.
    let _ = tell.send(Ok(()));
    let ended = link.carry().await;
    tracing::debug!(tunnel = %tunnel.id, node = %tunnel.node, reason = ended.reason(), "a tunnel ended");
    if !matches!(ended, Ended::ByNode(_)) {
        let reason = ended.reason().to_owned();
        let _ = link.say(Frame::Close { reason }).await;
    }
    tunnel.log.end(ended);
    drop(link);
    app.tunnels.show(&app);
    tokio::select! {
        () = tokio::time::sleep(LINGER) => {}
        () = app.shutdown.cancelled() => {}
    }
    app.tunnels.forget(tunnel.id);
}

struct Link {
    app: App,
    tunnel: Arc<Tunnel>,
    orders: mpsc::Receiver<Order>,
    frames: Subscription,
    /// Changes of the node as the registry has it.
    updated: Subscription,
    forgotten: Subscription,
    sent: Sequence,
    heard: Sequence,
    heard_at: Instant,
    ping_at: Instant,
    dies_at: Instant,
    check_at: Instant,
    checked_at: Instant,
    checking: Option<BoxFuture<'static, Result<Right, Failure>>>,
    right: Right,
}

/// What happens next.
enum Turn {
    Frame(Message),
    Order(Order),
    NodeChanged,
    Checked(Result<Right, Failure>),
    Time,
    End(Ended),
}

impl Link {
    async fn open(
        app: App,
        tunnel: Arc<Tunnel>,
        right: &Right,
        orders: mpsc::Receiver<Order>,
    ) -> Result<Self, Failure> {
        let settings = &app.tunnels.settings;
        let hears = Subject::NodeService {
            node: tunnel.node.clone(),
            service: word("gateway"),
            endpoint: tunnel.token(),
        };
        let changes = |verb| Subject::Event {
            tenant: right.tenant.clone(),
            kind: word("node"),
            id: tunnel.node.token().clone(),
            verb: word(verb),
        };
        let (frames, updated, forgotten) = tokio::try_join!(
            subscribe(&app, hears),
            subscribe(&app, changes("updated")),
            subscribe(&app, changes("forgotten")),
        )?;
        let now = Instant::now();
        let mut link = Self {
            frames,
            updated,
            forgotten,
            orders,
            sent: Sequence::default(),
            heard: Sequence::default(),
            heard_at: now,
            ping_at: now,
            dies_at: now + Duration::from_secs(settings.life_seconds),
            // What changed between the first check and these subscriptions is seen now.
            check_at: now,
            checked_at: now,
            checking: None,
            right: right.clone(),
            tunnel,
            app,
        };
        let opening = Frame::Open {
            actor: link.tunnel.opener.caller.actor.clone(),
            owner: right.is_owner,
        };
        let unavailable = |_| Failure::new(Code::Unavailable, "the bus is not available at the moment");
        link.say(opening).await.map_err(unavailable)?;
        if let Err(failure) = link.await_opened().await {
            // A node that is only late does not keep an end that nobody has.
            let reason = "the gateway waits no longer".to_owned();
            let _ = link.say(Frame::Close { reason }).await;
            return Err(failure);
        }
        Ok(link)
    }

    async fn await_opened(&mut self) -> Result<(), Failure> {
        let node = self.tunnel.node.clone();
        let mut deadline = Instant::now() + Duration::from_millis(self.app.tunnels.settings.open_timeout_ms);
        let (mut is_asked, mut is_offline) = (false, false);
        let mut offline = Box::pin(is_offline_now(self.app.clone(), self.tunnel.clone()));
        loop {
            tokio::select! {
                () = self.app.shutdown.cancelled() => {
                    return Err(Failure::new(Code::Unavailable, "the gateway stops"));
                }
                answer = &mut offline, if !is_asked => {
                    (is_asked, is_offline) = (true, answer);
                    if is_offline {
                        deadline = deadline.min(Instant::now() + OFFLINE_GRACE);
                    }
                }
                message = self.frames.next() => match message.map(|message| self.read(&message)) {
                    None => return Err(Failure::new(Code::Unavailable, "the bus is gone")),
                    Some(Ok(Some(opened @ Frame::Opened { .. }))) => {
                        self.tunnel.log.push(opened);
                        self.heard_at = Instant::now();
                        return Ok(());
                    }
                    Some(Ok(Some(Frame::Close { reason }))) => return Err(super::closed(&reason)),
                    Some(Ok(Some(Frame::Failed { problem, .. }))) => return Err(super::closed(&problem.detail)),
                    Some(Ok(_) | Err(_)) => {}
                },
                () = tokio::time::sleep_until(deadline) => return Err(unanswered(&node, is_offline)),
            }
        }
    }

    async fn carry(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.look_at_the_clock().await {
                return ended;
            }
            let turn = self.turn().await;
            let ended = match turn {
                Turn::End(ended) => Some(ended),
                Turn::Time => None,
                Turn::NodeChanged => {
                    self.check_at = Instant::now();
                    None
                }
                Turn::Frame(message) => self.take(&message),
                Turn::Checked(verdict) => self.judge(verdict),
                Turn::Order(Order::Leave) => Some(Ended::Left),
                Turn::Order(Order::Say { id, kind, body }) => self.say(Frame::Message { id, kind, body }).await.err(),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let wake_at = self.wake_at();
        let verdict = async {
            match &mut self.checking {
                Some(checking) => checking.await,
                None => std::future::pending().await,
            }
        };
        let gone = || Turn::End(Ended::Broken("the bus is gone"));
        tokio::select! {
            () = self.app.shutdown.cancelled() => Turn::End(Ended::Shutdown),
            message = self.frames.next() => message.map_or_else(gone, Turn::Frame),
            order = self.orders.recv() => order.map_or(Turn::End(Ended::Left), Turn::Order),
            change = self.updated.next() => change.map_or_else(gone, |_| Turn::NodeChanged),
            change = self.forgotten.next() => change.map_or_else(gone, |_| Turn::NodeChanged),
            verdict = verdict => {
                self.checking = None;
                Turn::Checked(verdict)
            }
            () = tokio::time::sleep_until(wake_at) => Turn::Time,
        }
    }

    /// What is due: pings, the check of rights, ends.
    async fn look_at_the_clock(&mut self) -> Option<Ended> {
        let now = Instant::now();
        if now >= self.dies_at {
            return Some(Ended::Old);
        }
        if now >= self.silent_at() {
            return Some(Ended::Silent);
        }
        if now >= self.idle_at() {
            return Some(Ended::Idle);
        }
        if now >= self.check_at && self.checking.is_none() {
            let (app, tunnel) = (self.app.clone(), Arc::clone(&self.tunnel));
            self.check_at = now + self.rights_interval();
            self.checking = Some(Box::pin(async move {
                rights::check(&app, &tunnel.opener, &tunnel.node).await
            }));
        }
        if now >= self.ping_at {
            self.ping_at = now + self.silence() / 3;
            return self.say(Frame::Ping).await.err();
        }
        None
    }

    fn wake_at(&self) -> Instant {
        let mut at = [self.dies_at, self.silent_at(), self.idle_at(), self.ping_at]
            .into_iter()
            .fold(self.dies_at, Instant::min);
        if self.checking.is_none() {
            at = at.min(self.check_at);
        }
        at
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.app.tunnels.settings.silence_ms)
    }

    fn silent_at(&self) -> Instant {
        self.heard_at + self.silence()
    }

    /// While somebody reads, an interval from now: it is looked at again then.
    fn idle_at(&self) -> Instant {
        let idle = Duration::from_millis(self.app.tunnels.settings.idle_ms);
        if self.tunnel.readers() > 0 {
            return Instant::now() + idle;
        }
        self.tunnel.touched_at() + idle
    }

    fn rights_interval(&self) -> Duration {
        Duration::from_millis(self.app.tunnels.settings.rights_interval_ms)
    }

    fn judge(&mut self, verdict: Result<Right, Failure>) -> Option<Ended> {
        let now = Instant::now();
        match verdict {
            Ok(right) if right == self.right => self.checked_at = now,
            // The node was told who owns it; that is not so any more.
            Ok(_) => return Some(Ended::NoRight),
            Err(Failure(problem)) if rights::is_final(problem.status) => return Some(Ended::NoRight),
            Err(_) if now > self.checked_at + self.rights_interval() * UNCHECKED_INTERVALS_MAX + RIGHTS_RETRY => {
                return Some(Ended::NoRight);
            }
            Err(_) => self.check_at = now + RIGHTS_RETRY.min(self.rights_interval()),
        }
        None
    }

    fn take(&mut self, message: &Message) -> Option<Ended> {
        let frame = match self.read(message) {
            Ok(Some(frame)) => frame,
            Ok(None) => return None,
            Err(ended) => return Some(ended),
        };
        self.heard_at = Instant::now();
        match frame {
            Frame::Ping | Frame::Opened { .. } => return None,
            Frame::Close { reason } => return Some(Ended::ByNode(reason)),
            Frame::Open { .. } => return Some(Ended::Broken("the node sent what only the gateway sends")),
            Frame::Done { ref id, .. } | Frame::Failed { ref id, .. } => {
                self.tunnel.exchanges().remove(id);
            }
            Frame::Message { .. } | Frame::Token { .. } => {}
        }
        self.tunnel.log.push(frame);
        None
    }

    /// The next frame of the node's; `None` for what is not of this tunnel or was taken before.
    fn read(&mut self, message: &Message) -> Result<Option<Frame>, Ended> {
        if message.payload.len() > FRAME_BYTES_MAX {
            return Err(Ended::Broken("the node sent a frame over the limit"));
        }
        let sealed: Sealed =
            serde_json::from_slice(&message.payload).map_err(|_| Ended::Broken("the node sent what is no frame"))?;
        // The subscription is of one node and one tunnel; what is inside must not say otherwise.
        if sealed.tunnel != self.tunnel.token() {
            return Ok(None);
        }
        match self.heard.take(sealed.seq) {
            Place::Next => Ok(Some(sealed.frame)),
            Place::Repeated => Ok(None),
            // Such as from a node that started anew and has forgotten the tunnel.
            Place::Gap if matches!(sealed.frame, Frame::Close { .. }) => Ok(Some(sealed.frame)),
            Place::Gap => Err(Ended::Broken("frames of the node were lost on the way")),
        }
    }

    async fn say(&mut self, frame: Frame) -> Result<(), Ended> {
        let sealed = Sealed {
            tunnel: self.tunnel.token(),
            seq: self.sent.next(),
            frame,
        };
        let payload = serde_json::to_vec(&sealed).expect("a frame is plain data").into();
        let node = self.tunnel.node.clone();
        let said = self.app.bus.publish(&Subject::Tunnel { node }, payload).await;
        said.map_err(|error| {
            tracing::debug!(%error, tunnel = %self.tunnel.id, "a frame could not be sent");
            Ended::Broken("the gateway lost its bus")
        })
    }
}

async fn subscribe(app: &App, subject: Subject) -> Result<Subscription, Failure> {
    app.bus.subscribe(&Filter::Only(subject)).await.map_err(|error| {
        tracing::warn!(%error, "could not subscribe");
        Failure::new(Code::Unavailable, "the bus is not available at the moment")
    })
}

/// Whether `heartbeat` says that the node is gone; what it does not say is no.
async fn is_offline_now(app: App, tunnel: Arc<Tunnel>) -> bool {
    let nodes = vec![tunnel.node.clone()];
    let seen = app
        .call::<Observed>(&tunnel.opener.caller, &ObservedRequest { nodes })
        .await;
    seen.is_ok_and(|seen| !seen.iter().any(|node| node.node_id == tunnel.node && node.alive))
}

fn unanswered(node: &NodeId, is_offline: bool) -> Failure {
    if is_offline {
        let detail = format!("node `{node}` is not online");
        return Failure::new(Code::NodeOffline, detail).next("start it, or look at `mesh nodes`");
    }
    let detail = format!("node `{node}` does not answer");
    Failure::new(Code::NodeSilent, detail).next("look at its log; `mesh nodes` shows when it was seen last")
}

fn word(text: &str) -> Token {
    text.parse().expect("a literal of this file is a token")
}
