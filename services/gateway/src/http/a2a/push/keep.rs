//! Configurations in their bucket: what is written, by whom and with a fact of the audit, and what is read of a task.

use a2a::types::TaskPushNotificationConfig;
use axum::http::Uri;
use mesh_api::execution::Invocation;
use mesh_api::identity::{AuditEntry, AuditOutcome};
use mesh_bus::{Bucket, BusError};
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::entry::{Entry, key_of, prefix_of};
use super::{id_of, sealer};
use crate::http::a2a::rpc::{Asked, Refused};
use crate::http::credentials::{note, note_refused};

/// Seals and writes it. Answers it as it is kept, with the secrets that the caller brought.
pub(super) async fn put(
    asked: &Asked,
    invocation: &Invocation,
    mut config: TaskPushNotificationConfig,
    told: String,
) -> Result<TaskPushNotificationConfig, Refused> {
    let Asked { app, caller, .. } = asked;
    let id = id_of(&config).to_owned();
    let key = key_of(&caller.tenant, invocation.id, &id)?;
    let after = json!({
        "receiver": receiver(&config.url),
        "scheme": config.authentication.as_ref().map(|authentication| &authentication.scheme),
    });
    config.id = Some(id.clone());
    config.task_id = invocation.id.to_string();
    config.tenant = None;
    let sealed = (sealer(app).await?, key.as_str());
    let entry = Entry::new(invocation, &config, told, sealed, app.clock.now())?;
    let bytes = entry.to_bytes();
    audited(
        asked,
        "push.create",
        invocation,
        &id,
        after,
        app.bus.kv_put(Bucket::Pushes, &key, bytes),
    )
    .await?;
    *app.push.counts().entry(caller.tenant.clone()).or_default() += 1;
    app.push.bell.ring();
    Ok(config)
}

/// Also where there is none.
pub(super) async fn remove(asked: &Asked, invocation: &Invocation, id: &str) -> Result<(), Refused> {
    let Asked { app, caller, .. } = asked;
    let key = key_of(&caller.tenant, invocation.id, id)?;
    let deleted = app.bus.kv_delete(Bucket::Pushes, &key);
    audited(asked, "push.delete", invocation, id, Value::Null, deleted).await
}

/// A write with its fact. The fact comes first, as a bucket and the audit cannot be written as one: a write without a
/// fact is worse than a fact whose write failed, which a second fact says.
async fn audited<T>(
    asked: &Asked,
    action: &str,
    invocation: &Invocation,
    id: &str,
    after: Value,
    write: impl Future<Output = Result<T, BusError>>,
) -> Result<(), Refused> {
    let Asked { app, caller, .. } = asked;
    let subject = format!("{}/{id}", invocation.id);
    let entry = AuditEntry {
        actor: caller.actor.clone(),
        action: action.to_owned(),
        subject: subject.clone(),
        outcome: AuditOutcome::Done,
        reason: String::new(),
        before: Value::Null,
        after,
        request_id: caller.request_id.map(|id| id.to_string()),
    };
    note(app, caller, &entry).await.map_err(|problem| {
        tracing::warn!(%problem, action, subject, "a write is refused, as the audit does not take its fact");
        Problem::new(
            Code::Unavailable,
            "the audit is not available at the moment; nothing was changed",
        )
    })?;
    let Err(error) = write.await else { return Ok(()) };
    let refused = no_bucket(&error);
    note_refused(
        app,
        caller,
        action,
        &subject,
        "it could not be kept: nothing was changed",
    )
    .await;
    Err(refused)
}

/// Where a receiver is, without what may be a secret: who signs in by the URL, and what it asks for.
fn receiver(url: &str) -> String {
    let uri: Uri = url.parse().unwrap_or_default();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{}://{}{port}{}",
        uri.scheme_str().unwrap_or_default(),
        uri.host().unwrap_or_default(),
        uri.path()
    )
}

/// All of one task, by id.
pub(super) async fn all_of(asked: &Asked, invocation: &Invocation) -> Result<Vec<TaskPushNotificationConfig>, Refused> {
    let Asked { app, caller, .. } = asked;
    let sealer = sealer(app).await?;
    let prefix = prefix_of(&caller.tenant, invocation.id);
    let all = app.bus.kv_list(Bucket::Pushes).await;
    let all = all.map_err(|error| no_bucket(&error))?;
    let own = all.into_iter().filter(|kept| kept.key.starts_with(&prefix));
    let mut configs: Vec<TaskPushNotificationConfig> = own
        .filter_map(|kept| Entry::read(&kept.value?)?.config((sealer, &kept.key)))
        .collect();
    configs.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(configs)
}

fn no_bucket(error: &BusError) -> Refused {
    tracing::warn!(%error, "push configurations cannot be kept");
    Refused(a2a::A2AError::internal(
        "push notification configurations are not available at the moment",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_shows_where_a_receiver_is_and_no_secret_of_its_url() {
        assert_eq!(
            receiver("https://ann:pass@hooks.example:8443/told/7?token=secret"),
            "https://hooks.example:8443/told/7"
        );
        assert_eq!(receiver("http://[::1]/x"), "http://[::1]/x");
    }
}
