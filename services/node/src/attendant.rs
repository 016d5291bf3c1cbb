//! Claims work and says what is held; one request after the other, so that no grant is on its way while an `alive` says
//! what there is. It claims at its start, at its bell, at a freed slot, after a reconnect, and every ten seconds, which
//! also says that it is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::node::{AliveRequest, Bell, ClaimRequest, NodeAlive, NodeClaim, WireGrant};
use mesh_bus::{BusError, Subscription};
use mesh_types::subject::Filter;
use mesh_types::{Code, RequestId, Subject};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::held::Held;
use crate::{Node, work};

/// Who rings, besides the owners of work: what this node is to run has changed, or how it is configured.
const RECONCILER: &str = "reconciler";
const REGISTRY: &str = "registry";
/// How often it says that it is there, without anything else to say.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
/// Until an owner has said otherwise.
const LEASE_DEFAULT: Duration = Duration::from_secs(15);
/// An unanswered request about leases is sent again after so long.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Answers to one claim that are waited for; then what was granted is missing from `alive`.
const CLAIM_TRIES_MAX: u32 = 4;

/// A claim whose answer is not known: sent again, it gets the same grants.
struct Open {
    request: ClaimRequest,
    tries: u32,
}

pub(crate) struct Attendant {
    node: Arc<Node>,
    ended: CancellationToken,
    bell: Subscription,
    reconnects: watch::Receiver<u64>,
    lease: Duration,
    /// When the next `alive` is due; all by the monotonic clock.
    alive_at: Duration,
    announce_at: Duration,
    /// Owners that have work for us; `None` asks whichever hears it.
    wanted: BTreeSet<Option<String>>,
    /// Owners that have more than the slots of its agents took: asked again when one is free.
    full: BTreeSet<Option<String>>,
    open: Option<Open>,
    is_hungry: bool,
}

impl Attendant {
    pub(crate) async fn new(node: &Arc<Node>, ended: CancellationToken) -> Result<Self, BusError> {
        let bus = &node.context.bus;
        let subject = Subject::Bell {
            node: node.execution.node.clone(),
        };
        let mut reconnects = bus.reconnects();
        reconnects.mark_unchanged();
        Ok(Self {
            bell: bus.subscribe(&Filter::Only(subject)).await?,
            reconnects,
            node: Arc::clone(node),
            ended,
            lease: LEASE_DEFAULT,
            alive_at: Duration::ZERO,
            announce_at: Duration::ZERO,
            wanted: BTreeSet::new(),
            full: BTreeSet::new(),
            open: None,
            is_hungry: false,
        })
    }

    pub(crate) async fn run(mut self) {
        while !self.ended.is_cancelled() {
            if self.node.execution.now() >= self.announce_at {
                self.wanted.insert(None);
                self.announce_at = self.node.execution.now() + ANNOUNCE_EVERY;
            }
            self.alive_if_due().await;
            if !self.claim_if_wanted().await {
                self.wait().await;
            }
        }
    }

    /// Until there is something to do.
    async fn wait(&mut self) {
        let now = self.node.execution.now();
        let mut until = self.announce_at;
        if self.node.held.len() > 0 {
            until = until.min(self.alive_at);
        }
        if self.open.is_some() {
            until = until.min(now + RETRY_PAUSE);
        }
        tokio::select! {
            () = self.ended.cancelled() => {}
            message = self.bell.next() => match message {
                Some(message) => self.rung(&message.payload),
                // The connection is closed for good.
                None => self.ended.cancelled().await,
            },
            // Somebody's lease is short, or a slot is free.
            () = self.node.bell.rung() => {
                self.is_hungry = true;
                self.wanted.append(&mut self.full);
            }
            () = self.node.claimable.rung() => {
                self.wanted.insert(None);
            }
            changed = self.reconnects.changed() => {
                if changed.is_ok() {
                    self.wanted.insert(None);
                    self.alive_at = now;
                }
            }
            () = tokio::time::sleep(until.saturating_sub(now)) => {}
        }
    }

    fn rung(&mut self, payload: &[u8]) {
        let bell = serde_json::from_slice::<Bell>(payload).ok();
        match bell.as_ref().map(|bell| bell.owner.as_str()) {
            Some(RECONCILER) => return self.node.assigned.ring(),
            Some(REGISTRY) => return self.node.untold.ring(),
            _ => {}
        }
        if bell.as_ref().is_none_or(|bell| bell.stops) {
            self.alive_at = self.node.execution.now();
        }
        self.wanted.insert(bell.map(|bell| bell.owner));
    }

    async fn alive_if_due(&mut self) {
        let now = self.node.execution.now();
        // A worker that waits for its lease rings; an answer of a moment ago has not helped it.
        let is_short = std::mem::take(&mut self.is_hungry) && self.node.held.any_short(now);
        let named = self.node.held.named();
        if named.is_empty() || (now < self.alive_at && !is_short) {
            return;
        }
        let request = AliveRequest {
            incarnation: self.node.execution.incarnation,
            held: named.clone(),
        };
        match self.node.execution.ask::<NodeAlive>(&request).await {
            Ok(reply) => {
                self.lease = Duration::from_millis(reply.lease_ms);
                let but = [reply.unanswered.as_slice(), reply.stop.as_slice()].concat();
                self.node.held.renew(&named, &but, now, self.lease);
                self.node.held.stop(&named, &reply.stop);
                let pause = if reply.unanswered.is_empty() {
                    self.lease / 3
                } else {
                    RETRY_PAUSE
                };
                self.alive_at = now + pause;
            }
            Err(problem) => {
                tracing::debug!(%problem, "nobody hears that we are alive; trying again");
                self.alive_at = self.node.execution.now() + RETRY_PAUSE;
            }
        }
    }

    /// Whether there may be more to claim at once.
    async fn claim_if_wanted(&mut self) -> bool {
        if !self.node.takes_work() {
            self.open = None;
            return false;
        }
        let held = u32::try_from(self.node.held.len()).unwrap_or(u32::MAX);
        let free = self.node.config.slots.saturating_sub(held);
        let open = match self.open.take() {
            Some(open) => open,
            None if free == 0 => return false,
            None => match self.wanted.pop_last() {
                Some(owner) => self.open_claim(owner, free),
                None => return false,
            },
        };
        self.claim(open).await
    }

    fn open_claim(&self, owner: Option<String>, free: u32) -> Open {
        let request = ClaimRequest {
            owner,
            incarnation: self.node.execution.incarnation,
            request_id: self.node.context.ids.next::<RequestId>().to_string(),
            free_slots: free,
            running: self.node.held.running(),
            ready: self.node.replicas.ready(),
        };
        Open { request, tries: 0 }
    }

    async fn claim(&mut self, mut open: Open) -> bool {
        let sent = self.node.execution.now();
        match self.node.execution.ask::<NodeClaim>(&open.request).await {
            Ok(reply) => {
                self.lease = Duration::from_millis(reply.lease_ms);
                if reply.more {
                    let again = match reply.grants.is_empty() {
                        true => &mut self.full,
                        false => &mut self.wanted,
                    };
                    again.insert(Some(reply.owner));
                }
                for grant in reply.grants {
                    self.take(grant, sent);
                }
                true
            }
            // Nobody has heard it: nothing was granted.
            Err(problem) if problem.is(Code::Unavailable) && open.tries == 0 => {
                tracing::debug!(%problem, owner = ?open.request.owner, "nobody answers a claim");
                false
            }
            Err(problem) => {
                tracing::debug!(%problem, "a claim is not answered; sending it again");
                open.tries += 1;
                // One that names nobody may be heard by somebody else, who gives more; a grant that nobody hears of would
                // hold its invocation for a whole lease, which is worse.
                self.open = (open.tries < CLAIM_TRIES_MAX).then_some(open);
                false
            }
        }
    }

    fn take(&mut self, grant: WireGrant, sent: Duration) {
        let WireGrant { ticket, agent, work } = grant;
        let held = Held::new(ticket, agent, sent, self.lease);
        if self.node.held.add(&held) {
            if self.alive_at < sent {
                // Nothing was held before.
                self.alive_at = sent + self.lease / 3;
            }
            work::start(&self.node, held, work);
        }
    }
}
