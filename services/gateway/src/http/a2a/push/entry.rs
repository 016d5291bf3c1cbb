//! One configuration as the bucket keeps it: with how far its receiver was told, and which process tells it.

use std::time::Duration;

use a2a::types::TaskPushNotificationConfig;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use mesh_api::execution::Invocation;
use mesh_types::{InvocationId, Problem, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use super::seal::Sealer;
use crate::http::a2a::rpc::Refused;

/// Longest id of a configuration, in bytes.
const ID_BYTES_MAX: usize = 100;
/// How long a process tells undisturbed after it said that it does.
pub(super) const LEASE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) tenant: Tenant,
    pub(super) invocation: InvocationId,
    /// Where it is told, with which credentials: a [`TaskPushNotificationConfig`] as `seal` keeps it.
    receiver: String,
    /// Up to where the receiver was told, as text of a cursor.
    pub(super) told: String,
    pub(super) created_at: Timestamp,
    /// Since when it cannot be told.
    #[serde(default)]
    pub(super) failing_since: Option<Timestamp>,
    #[serde(default)]
    pub(super) lease: Option<Lease>,
    /// When the last process that told it gave its place to another.
    #[serde(default)]
    turn_ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Lease {
    holder: String,
    until: Timestamp,
}

impl Entry {
    /// Of a task that is told of after a cursor.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub(super) fn new(
        invocation: &Invocation,
        config: &TaskPushNotificationConfig,
        told: String,
        (sealer, key): (&Sealer, &str),
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let config = serde_json::to_vec(config).expect("texts always serialise");
        Ok(Self {
            tenant: invocation.tenant.clone(),
            invocation: invocation.id,
            receiver: sealer.seal(key, config)?,
            told,
            created_at: now,
            failing_since: None,
            lease: None,
            turn_ended_at: None,
        })
    }

    /// `None`: of another installation, or changed by somebody.
    pub(super) fn config(&self, (sealer, key): (&Sealer, &str)) -> Option<TaskPushNotificationConfig> {
        serde_json::from_slice(&sealer.open(key, &self.receiver)?).ok()
    }

    /// `None`: nothing that this version wrote.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("texts and times always serialise")
            .into()
    }

    /// Whether nobody tells it at the moment.
    pub(super) fn is_free(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.until <= now)
    }

    /// Since when it waits for a place.
    pub(super) fn waits_since(&self) -> Timestamp {
        self.turn_ended_at.unwrap_or(self.created_at)
    }

    /// Others come first now.
    pub(super) fn end_turn(&mut self, now: Timestamp) {
        (self.lease, self.turn_ended_at) = (None, Some(now));
    }

    pub(super) fn take(&mut self, holder: &str, now: Timestamp) {
        self.lease = Some(Lease {
            holder: holder.to_owned(),
            until: now.plus(LEASE),
        });
    }
}

/// `<tenant>.<invocation>.<id>`, the id in an alphabet that keys have.
pub(super) fn key_of(tenant: &Tenant, invocation: InvocationId, id: &str) -> Result<String, Refused> {
    if !(1..=ID_BYTES_MAX).contains(&id.len()) {
        return Err(Refused::invalid(&format!("id must have 1 to {ID_BYTES_MAX} bytes")));
    }
    Ok(format!(
        "{}{}",
        prefix_of(tenant, invocation),
        URL_SAFE_NO_PAD.encode(id)
    ))
}

pub(super) fn prefix_of(tenant: &Tenant, invocation: InvocationId) -> String {
    format!("{tenant}.{invocation}.")
}

#[cfg(test)]
mod tests {
    use mesh_types::Id;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_told_by_one_until_its_lease_ends() {
        let invocation = json!({"id": InvocationId::from_u128(7), "tenant": "default", "agent": "sofia",
            "version": 1, "state": "running", "entrypoint": "a2a", "priority": 5, "payload": {}, "usage": {},
            "attempt": 1, "created_at": "2026-01-02T03:04:05Z", "cursor": 3});
        let config = json!({"url": "https://a.example/", "taskId": "x", "id": "one", "token": "the-secret"});
        let config: TaskPushNotificationConfig = serde_json::from_value(config).unwrap();
        let now = Timestamp::from_millis(1_000);
        let sealer = Sealer::new(&"07".repeat(32)).unwrap();
        let key = "default.inv.one";
        let invocation = serde_json::from_value(invocation).unwrap();
        let mut entry = Entry::new(&invocation, &config, "3".to_owned(), (&sealer, key), now).unwrap();
        let kept = String::from_utf8(entry.to_bytes().to_vec()).unwrap();
        assert!(!kept.contains("the-secret") && !kept.contains("a.example"), "{kept}");
        assert_eq!(entry.config((&sealer, key)), Some(config));
        assert_eq!(entry.config((&sealer, "default.inv.two")), None);
        assert!(entry.is_free(now) && entry.waits_since() == now);
        entry.take("me", now);
        assert!(!entry.is_free(now));
        assert!(entry.is_free(now.plus(LEASE)));
        entry.end_turn(now.plus(LEASE / 2));
        assert!(entry.is_free(now) && entry.waits_since() == now.plus(LEASE / 2));
        assert_eq!(Entry::read(&entry.to_bytes()), Some(entry));
        assert_eq!(Entry::read(b"{}"), None);
    }

    #[test]
    fn a_key_holds_every_id() {
        let key = key_of(&Tenant::default(), InvocationId::from_u128(7), "a.b *").unwrap();
        assert!(key.starts_with("default.inv_") && key.split('.').count() == 3, "{key}");
        assert!(key_of(&Tenant::default(), InvocationId::from_u128(7), "").is_err());
    }
}
