//! Tunnels between clients at the edge and nodes. Each is one task of this process ([`link`]), which alone speaks to the
//! node; clients send by [`Tunnel::send`] and read its [`log`]. A tunnel is its opener's, and of this process: whoever
//! comes to another one, or after a restart, opens a new one.

mod config;
pub(crate) mod end;
mod link;
pub(crate) mod log;
pub(crate) mod order;
pub(crate) mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::tunnel::{FRAME_BYTES_MAX, Frame, Sealed};
use mesh_runtime::Tasks;
use mesh_types::{Code, NodeId, Problem, Timestamp, Token, TunnelId};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use config::{NatsProxyConfig, TunnelConfig};

use crate::http::problem::Failure;
use crate::state::App;
use log::{Log, Next, Reader};
use rights::{Opener, Right};

/// Exchanges of one tunnel that have not ended.
const EXCHANGES_MAX: usize = 32;
/// Readers of one tunnel.
const READERS_MAX: usize = 8;
/// Messages that wait for the tunnel's task.
const ORDERS_MAX: usize = 64;

/// By which route a tunnel was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Road {
    Websocket,
    Events,
    Messages,
}

/// All tunnels of this process.
pub(crate) struct Tunnels {
    pub(crate) settings: TunnelConfig,
    pub(crate) tasks: Tasks,
    known: Mutex<BTreeMap<TunnelId, Arc<Tunnel>>>,
}

/// One tunnel, open or ended a moment ago.
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    pub(crate) node: NodeId,
    pub(crate) opener: Opener,
    pub(crate) road: Road,
    pub(crate) opened_at: Timestamp,
    pub(crate) log: Arc<Log>,
    orders: mpsc::Sender<Order>,
    exchanges: Mutex<BTreeSet<String>>,
    readers: AtomicUsize,
    is_left: AtomicBool,
    started: Instant,
    /// Milliseconds after `started` at which a client did something last.
    touched_ms: AtomicU64,
}

/// What clients ask of a tunnel's task.
enum Order {
    Say { id: String, kind: String, body: Value },
    Leave,
}

impl Tunnels {
    pub(crate) fn new(settings: TunnelConfig, tasks: Tasks) -> Self {
        Self {
            settings,
            tasks,
            known: Mutex::default(),
        }
    }

    /// Opens a tunnel; the node has answered when this returns.
    ///
    /// # Errors
    /// Those of [`rights::check`]; `Busy` over the limits; `NodeOffline`, `NodeSilent`, `TunnelClosed` where the node
    /// does not open its end.
    pub(crate) async fn open(
        app: &App,
        opener: Opener,
        node: &NodeId,
        road: Road,
    ) -> Result<(Arc<Tunnel>, Right), Failure> {
        let right = rights::check(app, &opener, node).await?;
        let (orders, orders_of) = mpsc::channel(ORDERS_MAX);
        let tunnel = app.tunnels.admit(app, opener, node, road, orders)?;
        let (tell, opened) = oneshot::channel();
        let task = link::run(app.clone(), Arc::clone(&tunnel), right.clone(), orders_of, tell);
        app.tunnels.tasks.spawn("tunnel", task);
        match opened.await {
            Ok(Ok(())) => Ok((tunnel, right)),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::new(Code::Unavailable, "the gateway stops")),
        }
    }

    /// A tunnel of this person's to this node; anything else does not exist for him.
    pub(crate) fn find(&self, opener: &Opener, node: &NodeId, id: TunnelId) -> Option<Arc<Tunnel>> {
        let known = self.known();
        let tunnel = known.get(&id)?;
        (tunnel.node == *node && tunnel.opener.is(opener)).then(|| Arc::clone(tunnel))
    }

    /// Open tunnels of this person's to this node, oldest first.
    pub(crate) fn of(&self, opener: &Opener, node: &NodeId) -> Vec<Arc<Tunnel>> {
        let known = self.known();
        let own = known
            .values()
            .filter(|tunnel| tunnel.node == *node && tunnel.opener.is(opener) && tunnel.is_open());
        own.cloned().collect()
    }

    fn admit(
        &self,
        app: &App,
        opener: Opener,
        node: &NodeId,
        road: Road,
        orders: mpsc::Sender<Order>,
    ) -> Result<Arc<Tunnel>, Failure> {
        let mut known = self.known();
        let open = known.values().filter(|tunnel| tunnel.is_open());
        let (all, here) = open.fold((0, 0), |(all, here), tunnel| {
            (all + 1, here + usize::from(tunnel.node == *node))
        });
        if all >= self.settings.tunnels_max || here >= self.settings.per_node_max {
            // Who comes back without resuming what he lost does not stand in his own way.
            let mut own = known
                .values()
                .filter(|one| one.is_open() && one.readers() == 0 && one.node == *node && one.opener.is(&opener));
            let Some(unused) = own.next() else {
                let detail = format!("{here} tunnels to the node are open and {all} in all, which is the limit");
                return Err(Failure::new(Code::Busy, detail).next("close one, or wait until an unused one is closed"));
            };
            unused.leave();
        }
        let id: TunnelId = app.ids.next();
        let (frames, bytes) = (self.settings.kept_frames_max, self.settings.kept_bytes_max);
        let tunnel = Arc::new(Tunnel {
            id,
            node: node.clone(),
            opener,
            road,
            opened_at: app.clock.now(),
            log: Arc::new(Log::new(token_of(id), frames, bytes)),
            orders,
            exchanges: Mutex::default(),
            readers: AtomicUsize::new(0),
            is_left: AtomicBool::new(false),
            started: Instant::now(),
            touched_ms: AtomicU64::new(0),
        });
        known.insert(id, Arc::clone(&tunnel));
        drop(known);
        self.show(app);
        Ok(tunnel)
    }

    fn forget(&self, id: TunnelId) {
        self.known().remove(&id);
    }

    fn show(&self, app: &App) {
        let open = self.known().values().filter(|tunnel| tunnel.is_open()).count();
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        app.live_connections.set(open, &[("kind", "tunnel")]);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TunnelId, Arc<Tunnel>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tunnel {
    /// As the subject of the node's frames ends.
    pub(crate) fn token(&self) -> Token {
        token_of(self.id)
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.is_left.load(Ordering::SeqCst) && self.log.ended().is_none()
    }

    /// Begins an exchange.
    ///
    /// # Errors
    /// `ExchangeExists`, `BodyTooLarge`, `Busy`, and `TunnelClosed` with the reason.
    pub(crate) fn send(&self, id: &Token, kind: &Token, body: Value) -> Result<(), Failure> {
        if let Some(ended) = self.log.ended() {
            return Err(closed(ended.reason()));
        }
        let (id, kind) = (id.to_string(), kind.to_string());
        check_size(&self.token(), &id, &kind, &body)?;
        let mut exchanges = self.exchanges();
        if exchanges.contains(&id) {
            let detail = format!("the exchange `{id}` has not ended yet");
            return Err(Failure::new(Code::ExchangeExists, detail).next("use another id, or leave it out"));
        }
        if exchanges.len() >= EXCHANGES_MAX {
            let detail = format!("{EXCHANGES_MAX} exchanges of this tunnel are open, which is the limit");
            return Err(Failure::new(Code::Busy, detail));
        }
        let order = Order::Say {
            id: id.clone(),
            kind,
            body,
        };
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::new(Code::Busy, "messages come faster than the node takes"),
            mpsc::error::TrySendError::Closed(_) => closed("it has ended"),
        })?;
        exchanges.insert(id);
        drop(exchanges);
        self.touch();
        Ok(())
    }

    /// Its client goes for good.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Ordering::SeqCst);
        // Where there is no room the tunnel ends idle.
        let _ = self.orders.try_send(Order::Leave);
    }

    /// A reader behind the entry of a number.
    ///
    /// # Errors
    /// `Busy` when enough read it.
    pub(crate) fn attach(self: &Arc<Self>, told: u64) -> Result<Attached, Failure> {
        let before = self.readers.fetch_add(1, Ordering::SeqCst);
        // From here on its drop counts it out.
        let attached = Attached {
            reader: Reader::new(Arc::clone(&self.log), told),
            tunnel: Arc::clone(self),
        };
        if before >= READERS_MAX {
            return Err(Failure::new(
                Code::Busy,
                format!("{READERS_MAX} readers follow this tunnel, which is the limit"),
            ));
        }
        Ok(attached)
    }

    pub(crate) fn readers(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }

    pub(crate) fn exchanges(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched_ms.fetch_max(now, Ordering::SeqCst);
    }

    fn touched_at(&self) -> Instant {
        self.started + Duration::from_millis(self.touched_ms.load(Ordering::SeqCst))
    }
}

/// A reader that counts as long as it is there.
pub(crate) struct Attached {
    pub(crate) tunnel: Arc<Tunnel>,
    reader: Reader,
}

impl Attached {
    /// Waits for what follows; never [`Next::Nothing`].
    pub(crate) async fn next(&mut self) -> Next {
        self.reader.next().await
    }

    pub(crate) fn told(&self) -> u64 {
        self.reader.told
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.tunnel.touch();
        self.tunnel.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn closed(reason: &str) -> Failure {
    Failure(Problem::new(Code::TunnelClosed, format!("the tunnel was closed: {reason}")).next("open another"))
}

fn token_of(id: TunnelId) -> Token {
    id.to_string().parse().expect("an id is a token")
}

/// The frame as it would go out, with the longest number.
fn check_size(tunnel: &Token, id: &str, kind: &str, body: &Value) -> Result<(), Failure> {
    let frame = Frame::Message {
        id: id.to_owned(),
        kind: kind.to_owned(),
        body: body.clone(),
    };
    let sealed = Sealed {
        tunnel: tunnel.clone(),
        seq: u64::MAX,
        frame,
    };
    let bytes = serde_json::to_vec(&sealed).map_or(usize::MAX, |json| json.len());
    if bytes <= FRAME_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("the message takes {bytes} bytes; a tunnel carries {FRAME_BYTES_MAX}");
    Err(Failure::new(Code::BodyTooLarge, detail))
}
