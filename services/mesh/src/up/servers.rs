//! The two servers below the services: those that were named, else started here, both at once.

use std::path::{Path, PathBuf};

use mesh_runtime::Secret;
use mesh_runtime::config::Environment;
use mesh_servers::{NatsOptions, NatsServer, NatsTool, Postgres, PostgresOptions, PostgresTool};

use super::credentials::Credentials;
use super::keeper::Keeper;
use super::progress::Report;

/// Both reachable, those of ours kept running until this is dropped.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) nats_url: String,
    pub(super) monitor_url: Option<String>,
    pub(super) database_url: Secret<String>,
    /// NATS first: services may go on accepting for the moment between the two stops otherwise.
    _keepers: Vec<Keeper>,
}

pub(crate) fn nats_dir(home: &Path) -> PathBuf {
    home.join("nats")
}

pub(crate) fn postgres_dir(home: &Path) -> PathBuf {
    home.join("postgres")
}

impl Servers {
    /// `credentials` are what our nats-server demands; `None`: nothing. One that was named has its own configuration.
    pub(super) async fn start(
        home: PathBuf,
        environment: &Environment,
        credentials: Option<&Credentials>,
        report: &Report,
    ) -> anyhow::Result<Self> {
        let (nats, database) = tokio::try_join!(
            start_nats(&home, environment, credentials, report.clone()),
            start_postgres(&home, environment, report.clone())
        )?;
        let (nats_keeper, nats_url, monitor_url) = nats;
        let (database_keeper, database_url) = database;
        let keepers = [nats_keeper, database_keeper].into_iter().flatten().collect();
        Ok(Self {
            nats_url,
            monitor_url,
            database_url,
            _keepers: keepers,
        })
    }
}

async fn start_nats(
    home: &Path,
    environment: &Environment,
    credentials: Option<&Credentials>,
    mut report: Report,
) -> anyhow::Result<(Option<Keeper>, String, Option<String>)> {
    if let Some(url) = &environment.nats_url {
        return Ok((None, url.clone(), environment.nats_monitor_url.clone()));
    }
    let options = NatsOptions {
        port: environment.nats_port,
        users: credentials.map(Credentials::users).transpose()?,
        ..NatsOptions::new(nats_dir(home))
    };
    let start = move || {
        let tool = NatsTool::resolve(&mut report)?;
        report.say("starting nats-server");
        NatsServer::start(&tool, options)
    };
    let (keeper, (url, monitor)) = Keeper::start(start, |server| (server.url(), server.monitor_url())).await?;
    let url = credentials.map_or(url.clone(), |credentials| credentials.in_url(&url));
    Ok((Some(keeper), url, Some(monitor)))
}

async fn start_postgres(
    home: &Path,
    environment: &Environment,
    mut report: Report,
) -> anyhow::Result<(Option<Keeper>, Secret<String>)> {
    if let Some(url) = &environment.database_url {
        return Ok((None, url.clone()));
    }
    let options = PostgresOptions {
        port: environment.postgres_port,
        ..PostgresOptions::new(postgres_dir(home))
    };
    let start = move || {
        let tool = PostgresTool::resolve(&mut report)?;
        report.say("starting PostgreSQL");
        Postgres::start(&tool, options)
    };
    let (keeper, url) = Keeper::start(start, Postgres::url).await?;
    Ok((Some(keeper), url.into()))
}
