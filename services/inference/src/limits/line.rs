//! The lines before the providers: one for each, in which tenants take turns, so that who asks for much waits for
//! himself and not others for him.

use std::collections::{BTreeMap, HashMap, VecDeque};

use mesh_types::Tenant;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Gate, Ready, Spent};
use crate::config::{Config, Rates};

/// Tenants whose gates are kept though they have nothing in hand.
const IDLE_TENANTS_MAX: usize = 4_096;

/// What a call took; it is given back once, by [`Line::give_back`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) provider: String,
    pub(crate) tenant: Tenant,
    pub(crate) tokens: u64,
}

/// The tenant has too many calls in the line of this provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// When the line moves next, if that is known.
    pub(crate) moves_at: Option<Instant>,
}

struct Waiter<P> {
    tokens: u64,
    turn: oneshot::Sender<P>,
}

/// Those who wait for one provider, and its bounds.
struct Queue<P> {
    gate: Gate,
    by_tenant: HashMap<Tenant, VecDeque<Waiter<P>>>,
    /// Tenants that have someone waiting, in their turns.
    turns: VecDeque<Tenant>,
    /// When its bounds let the next one pass, by the last look.
    moves_at: Option<Instant>,
}

/// All lines of this process. `P` is what a waiting call is handed at its turn.
pub(crate) struct Line<P> {
    providers: BTreeMap<String, Queue<P>>,
    tenants: HashMap<Tenant, Gate>,
    rates: BTreeMap<String, Rates>,
    /// Of tenants that are not named.
    rates_of_others: Rates,
    queue_max: usize,
}

impl<P> Line<P> {
    pub(crate) fn new(config: &Config) -> Self {
        let queue = |rates| Queue {
            gate: Gate::new(rates),
            by_tenant: HashMap::new(),
            turns: VecDeque::new(),
            moves_at: None,
        };
        let providers = config.all_providers();
        Self {
            providers: providers
                .into_iter()
                .map(|(name, provider)| (name, queue(provider.rates())))
                .collect(),
            tenants: HashMap::new(),
            rates: config.tenants.clone(),
            rates_of_others: config.rates_of_others(),
            queue_max: config.limits.queue_max,
        }
    }

    /// Puts a call at the end of its tenant's part of the provider's line. `None`: there is no such provider.
    pub(crate) fn join(&mut self, place: &Place, turn: oneshot::Sender<P>) -> Option<Result<(), Refusal>> {
        let queue_max = self.queue_max;
        let queue = self.providers.get_mut(&place.provider)?;
        let waiting = queue.by_tenant.entry(place.tenant.clone()).or_default();
        if waiting.len() >= queue_max {
            // Those who went away left their places.
            waiting.retain(|waiter| !waiter.turn.is_closed());
        }
        if waiting.len() >= queue_max {
            return Some(Err(Refusal {
                moves_at: queue.moves_at,
            }));
        }
        if waiting.is_empty() && !queue.turns.contains(&place.tenant) {
            queue.turns.push_back(place.tenant.clone());
        }
        waiting.push_back(Waiter {
            tokens: place.tokens,
            turn,
        });
        Some(Ok(()))
    }

    /// Hands what `permit` makes to all whose turn it is at this provider; says when there is more to hand out by time
    /// alone. What `permit` made for someone who went away is given to `lost`.
    pub(crate) fn advance(
        &mut self,
        provider: &str,
        now: Instant,
        permit: impl Fn(Place) -> P,
        lost: impl Fn(P),
    ) -> Option<Instant> {
        let queue = self.providers.get_mut(provider)?;
        let mut passed_over = 0;
        let mut moves_at: Option<Instant> = None;
        while passed_over < queue.turns.len() {
            let tenant = queue.turns.pop_front()?;
            let Some(waiting) = queue.by_tenant.get_mut(&tenant) else {
                continue;
            };
            while waiting.front().is_some_and(|waiter| waiter.turn.is_closed()) {
                waiting.pop_front();
            }
            let Some(first) = waiting.front() else {
                queue.by_tenant.remove(&tenant);
                continue;
            };
            let tokens = first.tokens;
            // Whose turn it is waits at the front for the provider: a great call must not wait for ever behind small ones.
            match queue.gate.ready(tokens, now) {
                Ready::Now => {}
                ready => {
                    queue.turns.push_front(tenant);
                    moves_at = earlier(moves_at, ready);
                    break;
                }
            }
            let rates = self.rates.get(tenant.as_str()).unwrap_or(&self.rates_of_others);
            let gate = self.tenants.entry(tenant.clone()).or_insert_with(|| Gate::new(*rates));
            let ready = gate.ready(tokens, now);
            if ready != Ready::Now {
                // Its own bounds are no reason for others to wait.
                moves_at = earlier(moves_at, ready);
                queue.turns.push_back(tenant);
                passed_over += 1;
                continue;
            }
            let Some(waiter) = waiting.pop_front() else { continue };
            let place = Place {
                provider: provider.to_owned(),
                tenant: tenant.clone(),
                tokens,
            };
            match waiter.turn.send(permit(place)) {
                Ok(()) => {
                    gate.take(tokens, now);
                    queue.gate.take(tokens, now);
                }
                Err(permit) => lost(permit),
            }
            queue.turns.push_back(tenant);
            passed_over = 0;
        }
        queue.moves_at = moves_at;
        if self.tenants.len() > IDLE_TENANTS_MAX {
            self.tenants.retain(|_, gate| !gate.is_idle(now));
        }
        moves_at
    }

    /// The call is over. The lines of all providers may move now.
    pub(crate) fn give_back(&mut self, place: &Place, spent: Spent) {
        if let Some(queue) = self.providers.get_mut(&place.provider) {
            queue.gate.give_back(place.tokens, spent);
        }
        if let Some(gate) = self.tenants.get_mut(&place.tenant) {
            gate.give_back(place.tokens, spent);
        }
    }

    /// Providers that somebody waits for.
    pub(crate) fn awaited(&self) -> Vec<String> {
        let awaited = self.providers.iter().filter(|(_, queue)| !queue.turns.is_empty());
        awaited.map(|(name, _)| name.clone()).collect()
    }

    /// Calls that wait for a provider.
    pub(crate) fn waiting(&self, provider: &str) -> usize {
        let queue = self.providers.get(provider);
        queue.map_or(0, |queue| queue.by_tenant.values().map(VecDeque::len).sum())
    }

    /// When this provider's line moves next by time alone.
    pub(crate) fn moves_at(&self, provider: &str) -> Option<Instant> {
        self.providers.get(provider)?.moves_at
    }
}

fn earlier(known: Option<Instant>, ready: Ready) -> Option<Instant> {
    match (known, ready) {
        (Some(known), Ready::At(at)) => Some(known.min(at)),
        (None, Ready::At(at)) => Some(at),
        (known, _) => known,
    }
}
