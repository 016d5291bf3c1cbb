//! What handlers and loops of `reconciler` share; the only holder of clock and ids.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_api::reconciler::Pass;
use mesh_runtime::{Context, Doorbell};
use mesh_types::event::{Event, Fact};
use mesh_types::{Id, InstanceId, PassId, Problem, Tenant, Timestamp};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::config::Config;
use crate::core::{AgentKey, Kept};
use crate::figures::Figures;
use crate::shown::Shown;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    /// Name of this process in the leader's row.
    pub(crate) instance: String,
    /// Whether this process leads, and since when.
    pub(crate) lead: watch::Sender<Option<Lead>>,
    /// Something may be different: a pass. Many rings within a moment become one.
    pub(crate) news: Doorbell,
    /// The pass loop's own bell.
    pub(crate) pass_bell: Doorbell,
    /// Whether the next pass runs because somebody rang.
    pub(crate) has_rung: AtomicBool,
    /// Rung after each commit that wrote an event.
    pub(crate) relay_bell: Doorbell,
    /// When the next pass is due although nothing rings.
    pub(crate) alarm: watch::Sender<Option<Timestamp>>,
    pub(crate) shown: Shown,
    pub(crate) mind: tokio::sync::Mutex<Option<Mind>>,
    /// What waited at the last pass, if some agent scales by it.
    pub(crate) waiting: Mutex<Option<HashMap<AgentKey, u64>>>,
    pub(crate) figures: Figures,
}

/// The right to act, while the row says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lead {
    pub(crate) epoch: u64,
    pub(crate) since: Timestamp,
}

/// What the leader remembers between passes; the tables say the same.
pub(crate) struct Mind {
    pub(crate) epoch: u64,
    pub(crate) kept: Arc<Kept>,
    /// The last pass and what it said, if it changed nothing: the next that says the same takes its place.
    pub(crate) last: Option<(PassId, Said)>,
    /// Passes in a row that changed nothing.
    pub(crate) quiet: u32,
    pub(crate) pruned_at: Option<Timestamp>,
}

/// What a pass without a change says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    error: Option<String>,
    held: Vec<String>,
}

impl Said {
    /// `None`: it changed something.
    pub(crate) fn of(pass: &Pass) -> Option<Self> {
        use mesh_api::reconciler::ActionKind::Hold;
        let is_idle = pass.actions.iter().all(|action| action.kind == Hold);
        is_idle.then(|| Self {
            error: pass.error.clone(),
            held: pass.actions.iter().map(|action| action.sentence.clone()).collect(),
        })
    }
}

impl State {
    pub(crate) fn new(config: Config, context: Context, pool: PgPool) -> Self {
        let instance: InstanceId = context.ids.next();
        Self {
            instance: instance.to_string(),
            figures: Figures::new(&context.metrics),
            config,
            context,
            pool,
            lead: watch::Sender::new(None),
            news: Doorbell::new(),
            pass_bell: Doorbell::new(),
            has_rung: AtomicBool::new(false),
            relay_bell: Doorbell::new(),
            alarm: watch::Sender::new(None),
            shown: Shown::default(),
            mind: tokio::sync::Mutex::new(None),
            waiting: Mutex::new(None),
        }
    }

    pub(crate) fn leads(&self) -> Option<Lead> {
        *self.lead.borrow()
    }

    /// Makes the next pass run soon.
    pub(crate) fn ring(&self) {
        self.has_rung.store(true, Ordering::Release);
        self.news.ring();
    }

    /// A fact of this service.
    pub(crate) fn event(&self, tenant: Tenant, fact: Fact) -> Event {
        Event {
            request_id: None,
            change: None,
            id: self.context.ids.next(),
            tenant,
            at: self.context.clock.now(),
            actor: "service:reconciler".to_owned(),
            fact,
        }
    }

    pub(crate) fn next_id<T: Id>(&self) -> T {
        self.context.ids.next()
    }

    pub(crate) fn set_waiting(&self, waiting: Option<HashMap<AgentKey, u64>>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }
}

/// A database error where it is handled: logged once, and as the problem that the caller gets.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Problem {
    move |error| {
        tracing::warn!(%error, doing, "the database failed a request");
        mesh_store::to_problem(error, doing)
    }
}
