//! Push notification configurations: who is told of a task, and where. They live in the bucket A2A_PUSH and nowhere
//! else: a task may outlive every process of the gateway, any of them may have to tell, the edge has no database, and
//! a bucket can say that exactly one of them writes (by revision). The newest 7 days are kept.

mod deliver;
mod entry;
mod keep;
mod seal;
mod turns;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use a2a::types::{
    DeleteTaskPushNotificationConfigRequest, GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest, ListTaskPushNotificationConfigsResponse, TaskPushNotificationConfig,
};
use mesh_api::Caller;
use mesh_api::execution::Invocation;
use mesh_api::identity::{EdgeSecret, EdgeSecretRequest};
use mesh_runtime::{Context, Doorbell};
use mesh_types::Tenant;
use tokio::sync::OnceCell;

use super::rpc::{Asked, Refused};
use crate::config::Config;
use crate::http::problem::Failure;
use crate::http::shares::Shares;
use crate::state::App;
use keep::{all_of, put, remove};
use seal::Sealer;

/// Configurations of one task.
const CONFIGS_MAX: usize = 8;
/// Configurations of one tenant at a time: an eighth of what the bucket holds, were each as long as it may be. Counted
/// by each process when it looks through the bucket, so a few more may come in between.
const TENANT_CONFIGS_MAX: usize = 512;
/// Longest texts of a configuration, in bytes.
const URL_BYTES_MAX: usize = 2_048;
const SECRET_BYTES_MAX: usize = 4_096;
/// The id of a configuration that names none.
const UNNAMED: &str = "default";
/// Tasks that one process tells of at a time; others wait.
const TOLD_MAX: usize = 256;

/// What a process of the gateway needs to tell of tasks.
pub(crate) struct Pushes {
    /// Rung when there is something new to tell.
    bell: Doorbell,
    /// Private networks that may be told.
    networks: Vec<String>,
    /// This process, in the leases that it takes.
    holder: String,
    places: Shares,
    /// Somebody waits for a place: who has nothing to tell gives up its own.
    is_awaited: AtomicBool,
    /// Configurations of each tenant, as far as this process knows.
    counts: Mutex<HashMap<Tenant, usize>>,
    sealer: OnceCell<Sealer>,
    tasks: mesh_runtime::Tasks,
}

impl Pushes {
    pub(crate) fn new(config: &Config, context: &Context) -> Self {
        let holder: mesh_types::RequestId = context.ids.next();
        Self {
            bell: Doorbell::new(),
            networks: config.push_private_networks.clone(),
            holder: holder.to_string(),
            places: Shares::new("push notifications", TOLD_MAX, config.require_credentials),
            is_awaited: AtomicBool::new(false),
            counts: Mutex::default(),
            sealer: OnceCell::new(),
            tasks: context.tasks.clone(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Tenant, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(in crate::http) use deliver::start;

/// What receivers are sealed with; asked for once.
async fn sealer(app: &App) -> Result<&Sealer, Failure> {
    let asked = async {
        let edge = Caller::service("gateway", Tenant::default());
        let request = EdgeSecretRequest {
            purpose: "a2a-push".to_owned(),
        };
        let held = app.call::<EdgeSecret>(&edge, &request).await?;
        Sealer::new(&held.secret).map_err(Failure)
    };
    app.push.sealer.get_or_try_init(|| asked).await
}

/// Whether that can be told, and kept for the tenant.
///
/// # Errors
/// Names what is wrong; a private address that is not allowed is refused at once.
pub(super) async fn check(app: &App, tenant: &Tenant, config: &TaskPushNotificationConfig) -> Result<(), Refused> {
    if config.url.len() > URL_BYTES_MAX {
        return Err(Refused::invalid(&format!("url has more than {URL_BYTES_MAX} bytes")));
    }
    let authentication = config.authentication.as_ref();
    let credentials = authentication.and_then(|authentication| authentication.credentials.as_deref());
    for secret in [config.token.as_deref(), credentials].into_iter().flatten() {
        let is_header = secret.len() <= SECRET_BYTES_MAX && secret.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !is_header {
            return Err(Refused::invalid("token and credentials must be visible ASCII"));
        }
    }
    if let Some(scheme) = authentication.map(|authentication| authentication.scheme.as_str())
        && !(!scheme.is_empty() && scheme.len() <= 64 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    {
        return Err(Refused::invalid("authentication.scheme must be a word such as Bearer"));
    }
    mesh_tools::check_url(&config.url, &app.push.networks)
        .map_err(|problem| Refused::invalid(&format!("url: {}", problem.detail)))?;
    let count = app.push.counts().get(tenant).copied().unwrap_or_default();
    if count >= TENANT_CONFIGS_MAX {
        return Err(Refused::invalid(&format!(
            "your tenant has {count} push notification configurations, which is as many as it may: delete some, or come \
             again when some of their tasks have ended"
        )));
    }
    sealer(app).await?;
    Ok(())
}

/// Takes a configuration; one of the same id is replaced.
pub(super) async fn create(
    asked: &Asked,
    config: TaskPushNotificationConfig,
) -> Result<TaskPushNotificationConfig, Refused> {
    check(&asked.app, &asked.caller.tenant, &config).await?;
    let invocation = asked.invocation(&config.task_id).await?;
    if invocation.state.is_ended() {
        return Err(Refused::unsupported(
            "the task has ended: there is nothing more to tell",
        ));
    }
    let known = all_of(asked, &invocation).await?;
    let is_new = known.iter().all(|one| one.id.as_deref() != Some(id_of(&config)));
    if known.len() >= CONFIGS_MAX && is_new {
        return Err(Refused::invalid(&format!(
            "a task has at most {CONFIGS_MAX} configurations"
        )));
    }
    put(asked, &invocation, config, invocation.cursor.to_string()).await
}

/// Takes the configuration that came with the message of a task: all of it is told, also if it has ended meanwhile.
pub(super) async fn begin(
    asked: &Asked,
    invocation: &Invocation,
    config: TaskPushNotificationConfig,
) -> Result<(), Refused> {
    put(asked, invocation, config, "0".to_owned()).await.map(drop)
}

fn id_of(config: &TaskPushNotificationConfig) -> &str {
    config.id.as_deref().filter(|id| !id.is_empty()).unwrap_or(UNNAMED)
}

pub(super) async fn get(
    asked: &Asked,
    request: &GetTaskPushNotificationConfigRequest,
) -> Result<TaskPushNotificationConfig, Refused> {
    let invocation = asked.invocation(&request.task_id).await?;
    let found = all_of(asked, &invocation).await?;
    let found = found.into_iter().find(|config| config.id.as_ref() == Some(&request.id));
    found.map(shown).ok_or_else(|| {
        let words = "the task has no such push notification configuration";
        Refused(a2a::A2AError::new(a2a::errors::error_code::TASK_NOT_FOUND, words))
    })
}

pub(super) async fn list(
    asked: &Asked,
    request: &ListTaskPushNotificationConfigsRequest,
) -> Result<ListTaskPushNotificationConfigsResponse, Refused> {
    let invocation = asked.invocation(&request.task_id).await?;
    let found = all_of(asked, &invocation).await?;
    Ok(ListTaskPushNotificationConfigsResponse {
        configs: found.into_iter().map(shown).collect(),
        next_page_token: None,
    })
}

/// Without its secrets: whoever reads it need not be who brought them.
fn shown(mut config: TaskPushNotificationConfig) -> TaskPushNotificationConfig {
    config.token = None;
    if let Some(authentication) = &mut config.authentication {
        authentication.credentials = None;
    }
    config
}

/// Also where there is none.
pub(super) async fn delete(asked: &Asked, request: &DeleteTaskPushNotificationConfigRequest) -> Result<(), Refused> {
    let invocation = asked.invocation(&request.task_id).await?;
    remove(asked, &invocation, &request.id).await
}
