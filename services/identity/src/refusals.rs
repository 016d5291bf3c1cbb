//! Refusals on their way to the audit: the first of a kind is noted at once, those of the next second are counted and
//! noted as one. A stranger who knocks a thousand times a second writes a few rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::identity::AuditEntry;
use mesh_runtime::{Doorbell, PassReport, run_loop};
use mesh_types::{Tenant, Timestamp};
use serde_json::json;

use crate::state::{State, failed};
use crate::store;

const WINDOW: Duration = Duration::from_secs(1);
/// Kinds of one window; past it they are told apart by action and reason only.
const KINDS_MAX: usize = 64;
/// Characters of what a stranger says of himself.
const SHOWN_CHARS: usize = 120;
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
const PRUNE_ROWS: i64 = 10_000;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Default)]
pub(crate) struct Refusals {
    windows: HashMap<Kind, Window>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    tenant: Tenant,
    action: String,
    subject: String,
    reason: String,
}

#[derive(Debug)]
struct Window {
    since: Duration,
    /// Those after the first.
    more: u64,
    last: AuditEntry,
}

impl Refusals {
    /// What is to be noted now, if anything.
    pub(crate) fn take(&mut self, tenant: &Tenant, entry: AuditEntry, now: Duration) -> Option<(Tenant, AuditEntry)> {
        let mut entry = AuditEntry {
            actor: shown(&entry.actor),
            action: shown(&entry.action),
            subject: shown(&entry.subject),
            reason: shown(&entry.reason),
            ..entry
        };
        let mut kind = kind_of(tenant, &entry);
        if self.windows.len() >= KINDS_MAX && !self.windows.contains_key(&kind) {
            entry.subject = "*".into();
            kind = kind_of(tenant, &entry);
        }
        if let Some(window) = self.windows.get_mut(&kind) {
            window.more += 1;
            window.last = entry;
            return None;
        }
        if self.windows.len() >= 2 * KINDS_MAX {
            return None;
        }
        let window = Window {
            since: now,
            more: 0,
            last: entry.clone(),
        };
        self.windows.insert(kind, window);
        Some((tenant.clone(), entry))
    }

    /// Ends the windows that are over; what was counted in them is to be noted.
    pub(crate) fn end(&mut self, now: Duration) -> Vec<(Tenant, AuditEntry)> {
        let mut counted = Vec::new();
        self.windows.retain(|kind, window| {
            if now.saturating_sub(window.since) < WINDOW {
                return true;
            }
            if window.more == 0 {
                return false;
            }
            let entry = AuditEntry {
                after: json!({"times": window.more}),
                ..window.last.clone()
            };
            counted.push((kind.tenant.clone(), entry));
            // Who goes on is counted on.
            window.since = now;
            window.more = 0;
            true
        });
        counted
    }
}

fn kind_of(tenant: &Tenant, entry: &AuditEntry) -> Kind {
    Kind {
        tenant: tenant.clone(),
        action: entry.action.clone(),
        subject: entry.subject.clone(),
        reason: entry.reason.clone(),
    }
}

/// Bounded, and without characters that a log or the database would mind.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(SHOWN_CHARS) {
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Notes what was counted, and deletes facts that are too old.
pub(crate) async fn run(state: Arc<State>) {
    let context = state.context.clone();
    let mut pruned: Option<Timestamp> = None;
    run_loop(context, "refusals", Doorbell::new(), WINDOW, || {
        let state = Arc::clone(&state);
        let now = state.context.clock.now();
        let is_due = pruned.is_none_or(|at| now.since(at) >= PRUNE_EVERY);
        if is_due {
            pruned = Some(now);
        }
        async move {
            let counted = state.refusals().end(state.context.clock.monotonic());
            let size = counted.len();
            for (tenant, entry) in counted {
                state.write_refused(&tenant, entry).await;
            }
            let pruned = if is_due { prune(&state, now).await } else { Ok(()) };
            PassReport {
                plan_size: size,
                error: pruned.err().map(|problem| problem.to_string()),
            }
        }
    })
    .await;
    let counted_last = state.refusals().end(Duration::MAX);
    for (tenant, entry) in counted_last {
        state.write_refused(&tenant, entry).await;
    }
}

async fn prune(state: &State, now: Timestamp) -> Result<(), mesh_types::Problem> {
    let kept = DAY * state.config.audit_days;
    let kept = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    let before = Timestamp::from_micros(now.as_micros().saturating_sub(kept));
    let mut tx = state.begin_for_all().await?;
    store::audit_chain::prune(&mut tx, before, PRUNE_ROWS)
        .await
        .map_err(failed("deleting old audit facts"))?;
    tx.commit().await.map_err(failed("deleting old audit facts"))
}

#[cfg(test)]
mod tests {
    use mesh_api::identity::AuditOutcome;
    use serde_json::Value;

    use super::*;

    fn refusal(subject: &str) -> AuditEntry {
        AuditEntry {
            actor: "anonymous".into(),
            action: "nats.connect".into(),
            subject: subject.into(),
            outcome: AuditOutcome::Refused,
            reason: "unknown".into(),
            before: Value::Null,
            after: Value::Null,
            request_id: None,
        }
    }

    #[test]
    fn the_same_refusal_is_noted_once_and_then_counted() {
        let mut refusals = Refusals::default();
        let tenant = Tenant::default();
        let at = Duration::from_millis;
        assert!(refusals.take(&tenant, refusal("a"), at(0)).is_some());
        assert!(refusals.take(&tenant, refusal("b"), at(1)).is_some());
        for time in 2..=500 {
            assert!(refusals.take(&tenant, refusal("a"), at(time)).is_none());
        }
        assert!(refusals.end(at(999)).is_empty());
        let counted = refusals.end(at(1_001));
        assert_eq!(counted.len(), 1);
        assert_eq!(
            (counted[0].1.subject.as_str(), &counted[0].1.after),
            ("a", &json!({"times": 499}))
        );
        assert!(refusals.end(at(2_100)).is_empty() && refusals.windows.is_empty());
        assert!(refusals.take(&tenant, refusal("a"), at(2_200)).is_some());
    }

    #[test]
    fn a_stranger_of_many_names_writes_few_rows() {
        let mut refusals = Refusals::default();
        let tenant = Tenant::default();
        let noted = (0..10_000).filter(|name| {
            refusals
                .take(&tenant, refusal(&format!("name {name}")), Duration::ZERO)
                .is_some()
        });
        assert_eq!(noted.count(), KINDS_MAX + 1);
        let counted = refusals.end(WINDOW);
        assert_eq!(counted.len(), 1);
        let expected = 10_000 - KINDS_MAX - 1;
        assert_eq!(
            (counted[0].1.subject.as_str(), &counted[0].1.after),
            ("*", &json!({"times": expected}))
        );
    }

    #[test]
    fn what_a_stranger_calls_himself_is_bounded() {
        let mut refusals = Refusals::default();
        let name = format!("a\0{}", "b".repeat(10_000));
        let (_, noted) = refusals
            .take(&Tenant::default(), refusal(&name), Duration::ZERO)
            .unwrap();
        assert!(
            noted.subject.starts_with("a\\0b") && noted.subject.len() < 200,
            "{}",
            noted.subject
        );
    }
}
