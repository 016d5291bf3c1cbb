//! What the tasks and endpoints of one process share.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_runtime::metrics::Counter;
use mesh_runtime::{Context, Doorbell, MetricName};
use mesh_types::{NodeId, Timestamp};
use sqlx::PgPool;
use tokio::sync::mpsc;

use crate::audit::Audit;
use crate::config::Config;
use crate::directory::Directory;
use crate::modes::Modes;
use crate::nodes::{KeyWrite, Nodes};
use crate::silence::Suspects;
use crate::store::life::Hearing;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    nodes: Mutex<Nodes>,
    /// What `registry` knows of nodes.
    pub(crate) directory: Directory,
    pub(crate) modes: Modes,
    pub(crate) suspects: Suspects,
    pub(crate) audit: Audit,
    key_writes: mpsc::Sender<KeyWrite>,
    /// Microseconds: since when heartbeats can be heard.
    hearing_since: AtomicI64,
    /// Microseconds of the monotonic clock: until when writing rests.
    flush_not_before: AtomicU64,
    pub(crate) relay_bell: Doorbell,
    pub(crate) reports: Counter,
}

impl State {
    pub(crate) fn new(
        config: Config,
        context: Context,
        pool: PgPool,
        key_writes: mpsc::Sender<KeyWrite>,
        audit: Audit,
    ) -> Self {
        let now = context.clock.now();
        Self {
            nodes: Mutex::new(Nodes::new(config.nodes_max)),
            directory: Directory::default(),
            modes: Modes::default(),
            suspects: Suspects::default(),
            audit,
            key_writes,
            hearing_since: AtomicI64::new(now.as_micros()),
            flush_not_before: AtomicU64::new(0),
            relay_bell: Doorbell::new(),
            reports: context.metrics.counter(MetricName::NodeReports),
            config,
            context,
            pool,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// Held for microseconds, never over an await.
    pub(crate) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hearing(&self) -> Hearing {
        Hearing {
            since: Timestamp::from_micros(self.hearing_since.load(Ordering::Relaxed)),
            grace: self.config.reconnect_grace(),
        }
    }

    /// Until now heartbeats may have been missed: silence counts from here.
    pub(crate) fn heard_nothing_before(&self, now: Timestamp) {
        self.hearing_since.fetch_max(now.as_micros(), Ordering::Relaxed);
    }

    /// On the monotonic clock.
    pub(crate) fn flush_not_before(&self) -> Duration {
        Duration::from_micros(self.flush_not_before.load(Ordering::Relaxed))
    }

    pub(crate) fn rest_until(&self, at: Duration) {
        let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        self.flush_not_before.store(micros, Ordering::Relaxed);
    }

    /// Hands a key to be written over. Where too many wait, the node's next heartbeat makes it due again.
    pub(crate) fn write_key(&self, write: KeyWrite) {
        if let Err(refused) = self.key_writes.try_send(write) {
            let node: NodeId = refused.into_inner().node;
            self.nodes().key_gone(&node);
        }
    }
}
