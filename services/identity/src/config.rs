//! Configuration of `identity`.

use mesh_runtime::{DatabaseConfig, Secret, Validate};
use serde::{Deserialize, Serialize};

use crate::callout::Issuer;
use crate::people::keyring::ACCESS_MAX;
use crate::providers::{self, Provider};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub database: DatabaseConfig,
    /// Nobody joins without a credential (`MESH_REQUIRE_CREDENTIALS`).
    pub require_credentials: bool,
    /// Seed (`SA…`) of the account key that NATS users are signed with; empty: nats-server does not ask here.
    pub nats_issuer_seed: Secret<String>,
    /// Account of nats-server that nodes are let into.
    pub nats_account: String,
    /// User and password (`user:password`) of nats-server's system account, to cut off who was revoked; empty: those
    /// go when their time is over.
    pub nats_system: Secret<String>,
    /// How long a NATS connection of a node lasts until its credential is looked at again, in seconds.
    pub connection_seconds: u64,
    /// Where nodes may speak NATS, told to those that join; empty: where they asked.
    pub nats_url: String,
    /// Days that audit facts are kept.
    pub audit_days: u32,
    /// How long an access token of a person is good, in seconds.
    pub access_seconds: u64,
    /// How long somebody stays signed in, in days.
    pub session_days: u32,
    /// Where browsers find this mesh, such as https://mesh.example.org: other providers send them back there.
    pub public_url: String,
    /// Other providers that people sign in by.
    pub providers: Vec<Provider>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: DatabaseConfig::default(),
            require_credentials: false,
            nats_issuer_seed: Secret::default(),
            nats_account: "$G".into(),
            nats_system: Secret::default(),
            connection_seconds: 3_600,
            nats_url: String::new(),
            audit_days: 400,
            access_seconds: 600,
            session_days: 30,
            public_url: String::new(),
            providers: Vec::new(),
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        if !self.nats_issuer_seed.is_empty() {
            Issuer::new(&self.nats_issuer_seed, &self.nats_account)?;
        }
        if !self.nats_system.is_empty() && !self.nats_system.expose().contains(':') {
            return Err("`nats_system` must be of the form user:password".into());
        }
        if !(5..=86_400).contains(&self.connection_seconds) {
            return Err("`connection_seconds` must lie between 5 and 86400".into());
        }
        if self.audit_days == 0 {
            return Err("`audit_days` must be at least 1".into());
        }
        let access_max = ACCESS_MAX.as_secs();
        if !(1..=access_max).contains(&self.access_seconds) {
            return Err(format!("`access_seconds` must lie between 1 and {access_max}"));
        }
        if !(1..=400).contains(&self.session_days) {
            return Err("`session_days` must lie between 1 and 400".into());
        }
        if !self.public_url.is_empty() && !providers::http::is_safe(&self.public_url) {
            return Err("`public_url` must be an https address".into());
        }
        for (place, provider) in self.providers.iter().enumerate() {
            provider.validate()?;
            if self.providers[..place].iter().any(|other| other.id == provider.id) {
                return Err(format!("`providers`: `{}` stands twice", provider.id));
            }
        }
        Ok(())
    }
}
