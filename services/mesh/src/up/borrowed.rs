//! The servers of a home for one command, such as a backup, while no mesh runs there.

use mesh_runtime::Secret;
use mesh_servers::HomeLock;

use crate::cli::{Session, misconfigured};
use crate::services::Configs;

use super::credentials::Credentials;
use super::progress::Report;
use super::servers::Servers;

/// Both reachable until this is dropped, which stops them and gives the home back.
#[derive(Debug)]
pub(crate) struct Borrowed {
    servers: Servers,
    _lock: HomeLock,
}

impl Borrowed {
    /// As `mesh up` starts them, with the same credentials.
    pub(crate) async fn start(session: &Session, report: &Report) -> anyhow::Result<Self> {
        let configs = Configs::load(&session.loader()?).map_err(misconfigured)?;
        let home = session.home().to_owned();
        let lock = crate::cli::blocking(move || HomeLock::acquire(&home)).await?;
        let environment = &session.environment;
        let credentials = match configs.gateway.require_credentials && environment.nats_url.is_none() {
            true => Some(Credentials::of_home(lock.home())?),
            false => None,
        };
        let servers = Servers::start(lock.home().to_owned(), environment, credentials.as_ref(), report).await?;
        Ok(Self { servers, _lock: lock })
    }

    pub(crate) fn nats_url(&self) -> &str {
        &self.servers.nats_url
    }

    pub(crate) fn monitor_url(&self) -> Option<&str> {
        self.servers.monitor_url.as_deref()
    }

    pub(crate) fn database_url(&self) -> &Secret<String> {
        &self.servers.database_url
    }
}
