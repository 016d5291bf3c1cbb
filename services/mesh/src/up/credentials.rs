//! Credentials of a mesh that demands them: made at its first start and kept below MESH_HOME, readable by its owner only.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use mesh_api::identity::{CredentialVerify, KeyCreate, KeyRequest, VerifyRequest};
use mesh_bus::permissions;
use mesh_runtime::{Context, Secret};
use mesh_servers::{NatsPermissions, NatsSubjects, NatsUser, NatsUsers, write_private};
use mesh_types::{Code, Tenant};
use serde::{Deserialize, Serialize};

use crate::failure::advised;
use crate::services::Configs;

const FILE: &str = "credentials.json";
const KEY_FILE: &str = "api-key";
/// Owner of the first key, who may make keys for everybody.
const ADMIN: &str = "admin";
const SERVICES_USER: &str = "mesh";
const SYSTEM_USER: &str = "mesh-system";
/// What nats-server waits for identity's answer; a database that restarts takes seconds.
const ANSWER_SECONDS: u32 = 5;
const KEY_DEADLINE: Duration = Duration::from_secs(10);

/// What the services of this home and its nats-server know of each other.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    nats_password: String,
    nats_system_password: String,
    /// Seed of the key that NATS users of nodes are signed with.
    nats_issuer_seed: String,
}

impl Credentials {
    /// Those of this home; made if there are none yet.
    pub(super) fn of_home(home: &Path) -> anyhow::Result<Self> {
        let path = home.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                let text = anyhow::anyhow!("{} is not readable as this version's", path.display());
                advised(
                    text,
                    "move it away: the next start makes new ones, and nodes keep theirs",
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = Self {
                    nats_password: identity::random_password().expose().clone(),
                    nats_system_password: identity::random_password().expose().clone(),
                    nats_issuer_seed: identity::nats_issuer_seed().expose().clone(),
                };
                write_private(&path, &serde_json::to_vec_pretty(&made)?)?;
                Ok(made)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// What nats-server is to demand.
    pub(super) fn users(&self) -> anyhow::Result<NatsUsers> {
        let seed = Secret::new(self.nats_issuer_seed.clone());
        let issuer = identity::nats_issuer_key(&seed).map_err(anyhow::Error::msg)?;
        Ok(NatsUsers {
            services: vec![nats_user(permissions::whole(), self.nats_password.clone())],
            system: nats_user(permissions::system(), self.nats_system_password.clone()),
            issuer,
            answer_seconds: ANSWER_SECONDS,
        })
    }

    /// The address of our nats-server as services use it; its password is made of letters that need no escape.
    pub(super) fn in_url(&self, url: &str) -> String {
        match url.split_once("://") {
            Some((scheme, place)) => format!("{scheme}://{SERVICES_USER}:{}@{place}", self.nats_password),
            None => url.to_owned(),
        }
    }

    /// Tells identity what it answers nats-server with.
    pub(super) fn configure(&self, configs: &mut Configs) {
        configs.identity.nats_issuer_seed = self.nats_issuer_seed.as_str().into();
        configs.identity.nats_system = format!("{SYSTEM_USER}:{}", self.nats_system_password).into();
    }
}

/// A user of the table, as nats-server's configuration takes it.
pub(crate) fn nats_user(user: permissions::User, password: String) -> NatsUser {
    let subjects = |rules: permissions::Rules| NatsSubjects {
        allow: rules.allow,
        deny: rules.deny,
    };
    NatsUser {
        name: user.user,
        password,
        permissions: NatsPermissions {
            publish: subjects(user.permissions.publish),
            subscribe: subjects(user.permissions.subscribe),
        },
    }
}

/// The key that the command line of this home uses.
pub(crate) fn api_key(home: &Path) -> Option<Secret<String>> {
    let text = std::fs::read_to_string(home.join(KEY_FILE)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text.to_owned()))
}

pub(super) fn api_key_path(home: &Path) -> PathBuf {
    home.join(KEY_FILE)
}

/// Sees to it that the home has a key that is good: its own of before, else a new one of the administrator.
pub(crate) async fn ensure_api_key(context: &Context, home: &Path) -> anyhow::Result<()> {
    let caller = context.caller(Tenant::default());
    if let Some(key) = api_key(home) {
        let request = VerifyRequest {
            credential: key.expose().clone(),
        };
        match context.bus.call::<CredentialVerify>(&caller, &request).await {
            Ok(_) => return Ok(()),
            // Of another database, revoked, or no key at all.
            Err(problem) if problem.is(Code::Unauthorized) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    let request = KeyRequest {
        owner: ADMIN.into(),
        name: "of the command line".into(),
        expires_in_seconds: None,
        tenant: None,
        role: Some(mesh_api::Role::Owner),
        scopes: Vec::new(),
    };
    let made = context
        .bus
        .call_within::<KeyCreate>(&caller, &request, KEY_DEADLINE)
        .await?;
    write_private(&api_key_path(home), format!("{}\n", made.secret).as_bytes())?;
    tracing::info!(key = made.key.id, "the first API key is made");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn credentials_are_made_once_and_are_their_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let made = Credentials::of_home(folder.path()).unwrap();
        let mode = std::fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = Credentials::of_home(folder.path()).unwrap();
        assert_eq!(read.users().unwrap(), made.users().unwrap());
        assert!(made.users().unwrap().issuer.starts_with('A'));
        let other = tempfile::tempdir().unwrap();
        let other = Credentials::of_home(other.path()).unwrap();
        assert_ne!(other.nats_password, made.nats_password);
        assert_ne!(made.nats_password, made.nats_system_password);
        let url = made.in_url("nats://127.0.0.1:4222");
        assert_eq!(url, format!("nats://mesh:{}@127.0.0.1:4222", made.nats_password));
        assert_eq!(super::super::without_password(&url), "nats://mesh:***@127.0.0.1:4222");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{}").unwrap();
        assert!(Credentials::of_home(folder.path()).is_err());
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), b"{}");
    }
}
