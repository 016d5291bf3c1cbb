//! What a command starts with: environment, output, and the mesh that is meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mesh_runtime::config::{Environment, process_environment};
use mesh_runtime::{ConfigError, Loader, Secret};
use mesh_servers::HomeState;
use mesh_types::Tenant;

use crate::client::Client;
use crate::failure::advised;
use crate::output::Output;
use crate::up::api_key;

/// One run of the command line.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) output: Output,
    pub(crate) environment: Environment,
    env: BTreeMap<String, String>,
    config_file: Option<PathBuf>,
    url: Option<String>,
    tenant: Option<Tenant>,
}

impl Session {
    pub(crate) fn new(
        output: Output,
        url: Option<String>,
        tenant: Option<Tenant>,
        config_file: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let env = process_environment();
        let environment = Environment::read(&env).map_err(misconfigured)?;
        let is_set = |name: &str| env.get(name).is_some_and(|value| !value.is_empty());
        let tenant = tenant.or_else(|| is_set("MESH_TENANT").then(|| environment.tenant.clone()));
        let config_file = config_file.or_else(|| environment.config_file.clone());
        Ok(Self {
            output,
            url,
            tenant,
            environment,
            env,
            config_file,
        })
    }

    /// The tenant, if one was named; the gateway takes `default` otherwise.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The address that was named on the command line.
    pub(crate) fn named_url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    pub(crate) fn home(&self) -> &Path {
        &self.environment.home
    }

    pub(crate) fn config_file(&self) -> Option<&Path> {
        self.config_file.as_deref()
    }

    /// File and environment, for those commands that need the services' configuration.
    pub(crate) fn loader(&self) -> anyhow::Result<Loader> {
        Loader::new(self.config_file.as_deref(), &self.env).map_err(misconfigured)
    }

    /// The mesh that runs in this home.
    pub(crate) fn running(&self) -> anyhow::Result<Option<Running>> {
        let Some(pid) = mesh_servers::running(self.home())? else {
            return Ok(None);
        };
        let state = HomeState::read(self.home())?.filter(|state| state.pid == pid);
        Ok(Some(Running { pid, state }))
    }

    /// The gateway that was named, or that runs here, or that would by default.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let ours = || -> anyhow::Result<String> {
            Ok(match self.running()?.and_then(|running| running.state) {
                Some(state) => state.http,
                None => format!("http://127.0.0.1:{}", self.environment.http_port),
            })
        };
        let url = match self.url.clone().or_else(|| self.environment.url.clone()) {
            Some(url) => url,
            None => ours()?,
        };
        let client = Client::new(&url, self.tenant.clone())?;
        Ok(match self.credential(&url, ours) {
            Some(key) => client.with_key(key),
            None => client,
        })
    }

    /// MESH_API_KEY, else what `mesh up` left in the home; that one is shown to the mesh of this home only.
    fn credential(&self, url: &str, ours: impl Fn() -> anyhow::Result<String>) -> Option<Secret<String>> {
        if let Some(key) = &self.environment.api_key {
            return Some(key.clone());
        }
        let key = api_key(self.home())?;
        let is_ours = ours().is_ok_and(|ours| ours.trim_end_matches('/') == url.trim_end_matches('/'));
        is_ours.then_some(key)
    }
}

/// A mesh process with a home.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    /// `None` while it starts.
    pub(crate) state: Option<HomeState>,
}

pub(crate) fn misconfigured(error: ConfigError) -> anyhow::Error {
    advised(
        error,
        "correct it; mesh config lists every key and variable with its value",
    )
}

/// Synchronous work of other crates, off the runtime's thread.
pub(crate) async fn blocking<T, E, F>(work: F) -> anyhow::Result<T>
where
    T: Send + 'static,
    E: Into<anyhow::Error> + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work)
        .await
        .context("the work was cut off")?;
    done.map_err(Into::into)
}
