//! What `mesh doctor` looks at of a mesh that runs: NATS, PostgreSQL, the gateway.

use std::time::Duration;

use mesh_bus::{Bus, BusOptions, LazySync};
use mesh_runtime::ops::HealthBody;
use mesh_servers::HomeState;
use mesh_types::Timestamp;
use sqlx::Connection;

use super::rows::{self, Served};
use super::{Finding, PROBE_TIMEOUT, SKEW_MAX, causes, roads};
use crate::cli::Session;
use crate::cli::status::health_of;
use crate::output::now;
use crate::up::{lazy_sync, without_password};

/// Its owners are looked at twice.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(15);

/// Findings, and whether `execution` answers.
pub(super) async fn nats(session: &Session, state: Option<&HomeState>) -> (Vec<Finding>, Served) {
    let environment = &session.environment;
    let named = environment
        .nats_url
        .as_ref()
        .map(|url| (url.clone(), environment.nats_monitor_url.clone()));
    let Some((url, monitor_url)) = named.or_else(|| state.map(|state| (state.nats.clone(), state.monitor.clone())))
    else {
        return (Vec::new(), Served::No);
    };
    let shown = without_password(&url);
    let options = BusOptions {
        url,
        name: "mesh-doctor".into(),
        monitor_url,
        user: None,
    };
    let bus = match Bus::connect(options).await {
        Ok(bus) => bus,
        Err(error) => {
            let finding = Finding::wrong("NATS", causes(&error), "correct MESH_NATS_URL");
            return (vec![finding], Served::No);
        }
    };
    if !bus.wait_connected(PROBE_TIMEOUT).await {
        let next = "start it, or correct MESH_NATS_URL; mesh logs says more about our own";
        let finding = Finding::wrong("NATS", format!("no server answers at {shown}"), next);
        return (vec![finding], Served::No);
    }
    let mut findings = vec![match bus.check_server(LazySync::Refuse).await {
        Ok(facts) => Finding::ok("NATS", format!("{} at {shown}, syncs each message", facts.version)),
        Err(error) if lazy_sync(environment) == LazySync::Allow => Finding::warning(
            "NATS",
            causes(&error),
            "MESH_ALLOW_LAZY_SYNC accepts it: a power cut may lose what was accepted",
        ),
        Err(error) => Finding::wrong("NATS", causes(&error), "change the server's configuration as it says"),
    }];
    let (heard, served) = roads::look(&bus, environment.nats_replicas, state.is_some()).await;
    findings.extend(heard);
    (findings, served)
}

pub(super) async fn database(session: &Session, state: Option<&HomeState>, served: Served, pools: u32) -> Vec<Finding> {
    let named = session
        .environment
        .database_url
        .as_ref()
        .map(|url| url.expose().clone());
    let Some(url) = named.or_else(|| state.map(|state| state.database.clone())) else {
        return Vec::new();
    };
    let shown = without_password(&url);
    match tokio::time::timeout(DATABASE_TIMEOUT, look_at_database(&url, &shown, served, pools)).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => {
            let found = format!("{shown}: {error}");
            vec![Finding::wrong(
                "PostgreSQL",
                found,
                "start it, or correct MESH_DATABASE_URL; mesh logs says more about our own",
            )]
        }
        Err(_) => vec![Finding::wrong(
            "PostgreSQL",
            format!("{shown} does not answer"),
            "start it, or correct MESH_DATABASE_URL",
        )],
    }
}

async fn look_at_database(url: &str, shown: &str, served: Served, pools: u32) -> Result<Vec<Finding>, sqlx::Error> {
    const LOOK: &str = "SELECT current_setting('server_version'), current_setting('fsync'), clock_timestamp(),
        to_regclass('public._sqlx_migrations') IS NOT NULL";
    const SCHEMA: &str = "SELECT coalesce(max(version), 0) FROM public._sqlx_migrations WHERE success";
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let (version, fsync, there, is_migrated): (String, String, chrono::DateTime<chrono::Utc>, bool) =
        sqlx::query_as(LOOK).fetch_one(&mut connection).await?;
    let here = now();
    let schema: i64 = if is_migrated {
        sqlx::query_scalar(SCHEMA).fetch_one(&mut connection).await?
    } else {
        0
    };
    let wanted = mesh_store::schema_version();
    let mut findings = vec![match fsync.as_str() {
        "on" => Finding::ok("PostgreSQL", format!("{version} at {shown}, fsync on")),
        _ => Finding::wrong(
            "PostgreSQL",
            format!("{version} at {shown}, fsync {fsync}"),
            "a power cut may lose data: set fsync = on",
        ),
    }];
    findings.push(if schema >= wanted {
        Finding::ok("schema", format!("at {schema}"))
    } else {
        Finding::wrong(
            "schema",
            format!("at {schema}, wanted is {wanted}"),
            "mesh migrate brings it up to date",
        )
    });
    let there = Timestamp::from(there);
    let skew = there.since(here).max(here.since(there));
    if skew > SKEW_MAX {
        let found = format!("the database's differs by {:.1} s", skew.as_secs_f64());
        findings.push(Finding::warning("clock", found, "let both machines keep time by NTP"));
    }
    if schema >= wanted {
        findings.extend(rows::look(&mut connection, served, pools).await?);
    }
    Ok(findings)
}

pub(super) async fn gateway(session: &Session, state: Option<&HomeState>) -> anyhow::Result<Finding> {
    let client = session.client()?;
    let shown = client.base().to_owned();
    let Ok((status, health)) = client.probe::<HealthBody>("/health", PROBE_TIMEOUT).await else {
        return Ok(match state {
            None => Finding::warning("gateway", format!("no mesh answers at {shown}"), "mesh up starts one"),
            Some(_) => Finding::wrong(
                "gateway",
                format!("it does not answer at {shown}"),
                "mesh logs gateway says why; mesh restart",
            ),
        });
    };
    if status == 200 {
        return Ok(Finding::ok(
            "gateway",
            format!("{} at {shown}, healthy", health.version),
        ));
    }
    let failing = health_of(&shown).await?.unwrap_or_default();
    Ok(Finding::wrong(
        "gateway",
        format!("not healthy at {shown}: {}", failing.join(", ")),
        "mesh logs says why",
    ))
}
