//! What `mesh doctor` hears on NATS: the streams, the services and their versions, the server's clock.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_bus::{Bus, ServiceStats, StreamName, TopologyError, topology};
use mesh_types::Timestamp;

use super::rows::Served;
use super::{Finding, SKEW_MAX};
use crate::output::now;
use crate::services::Service;

/// How long services may take to say that they are there.
const LISTEN: Duration = Duration::from_millis(700);

/// Its findings, and whether `execution` answers.
pub(super) async fn look(bus: &Bus, replicas: u32, runs: bool) -> (Vec<Finding>, Served) {
    let mut findings = vec![streams(bus.verify_topology(&topology::replicated(replicas)).await)];
    findings.extend(clock(bus).await);
    let heard = bus.discover(LISTEN).await.unwrap_or_default();
    let served = match heard.iter().any(|service| service.name == Service::Execution.name()) {
        true => Served::Yes,
        false => Served::No,
    };
    findings.extend(services(&heard, env!("CARGO_PKG_VERSION"), runs));
    (findings, served)
}

fn streams(verified: Result<(), TopologyError>) -> Finding {
    let next = "mesh migrate creates what is missing and changes what may be changed";
    match verified {
        Ok(()) => Finding::ok("streams", "as declared"),
        Err(TopologyError::Drift(drift)) => Finding::wrong("streams", drift.join("; "), next),
        Err(error) => Finding::wrong("streams", super::causes(&error), next),
    }
}

/// The server says its time with what it says of a stream.
async fn clock(bus: &Bus) -> Option<Finding> {
    let info = bus.stream_info(StreamName::Events.as_str()).await.ok()??;
    let there: Timestamp = info["ts"].as_str()?.parse().ok()?;
    differs(there, now())
}

fn differs(there: Timestamp, here: Timestamp) -> Option<Finding> {
    let skew = there.since(here).max(here.since(there));
    (skew > SKEW_MAX).then(|| {
        let found = format!("that of nats-server differs by {:.1} s", skew.as_secs_f64());
        Finding::warning("clock", found, "let both machines keep time by NTP")
    })
}

/// Services that do not answer, and such of another version. Nothing where no mesh is expected to run.
fn services(heard: &[ServiceStats], ours: &str, runs: bool) -> Option<Finding> {
    let on_bus = Service::ALL.into_iter().filter(|service| service.answers_on_bus());
    let names: BTreeSet<_> = heard.iter().map(|service| service.name.as_str()).collect();
    let (there, missing): (Vec<_>, Vec<_>) = on_bus.map(Service::name).partition(|name| names.contains(name));
    if !runs && there.is_empty() {
        return None;
    }
    if !missing.is_empty() {
        let found = format!("no answer from {}", missing.join(", "));
        return Some(Finding::wrong(
            "services",
            found,
            "mesh logs says why; start what is not started",
        ));
    }
    let is_other = |service: &&ServiceStats| there.contains(&service.name.as_str()) && service.version != ours;
    let others: BTreeSet<_> = heard
        .iter()
        .filter(is_other)
        .map(|one| format!("{} {}", one.name, one.version))
        .collect();
    if !others.is_empty() {
        let others: Vec<_> = others.into_iter().collect();
        let found = format!("this is mesh {ours}, and there are {}", others.join(", "));
        return Some(Finding::warning("services", found, "bring all of them to one version"));
    }
    Some(Finding::ok(
        "services",
        format!("{} answer, all of version {ours}", there.len()),
    ))
}

#[cfg(test)]
mod tests {
    use mesh_bus::BusOptions;
    use mesh_testkit::TestNats;

    use super::super::Verdict;
    use super::*;

    fn heard(names: &[&str], version: &str) -> Vec<ServiceStats> {
        let one = |name: &&str| {
            let json = format!(
                r#"{{"name": "{name}", "id": "1", "version": "{version}", "started": "2026-11-21T12:00:00Z"}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        names.iter().map(one).collect()
    }

    fn all() -> Vec<&'static str> {
        let on_bus = Service::ALL.into_iter().filter(|service| service.answers_on_bus());
        on_bus.map(Service::name).collect()
    }

    #[test]
    fn a_missing_service_is_wrong_and_one_of_another_version_doubtful() {
        assert!(services(&[], "1.0.0", false).is_none());
        assert_eq!(services(&[], "1.0.0", true).unwrap().verdict, Verdict::Wrong);
        assert_eq!(
            services(&heard(&all(), "1.0.0"), "1.0.0", true).unwrap().verdict,
            Verdict::Ok
        );
        let some = services(&heard(&all()[1..], "1.0.0"), "1.0.0", false).unwrap();
        assert!(
            some.verdict == Verdict::Wrong && some.found.contains("registry"),
            "{some:?}"
        );
        let mut mixed = heard(&all(), "1.0.0");
        mixed.extend(heard(&["memory"], "0.9.0"));
        let mixed = services(&mixed, "1.0.0", true).unwrap();
        assert!(
            mixed.verdict == Verdict::Warning && mixed.found.contains("memory 0.9.0"),
            "{mixed:?}"
        );
    }

    #[test]
    fn a_clock_that_differs_is_told() {
        let here = Timestamp::from_millis(100_000);
        assert!(differs(here.plus(Duration::from_millis(1_500)), here).is_none());
        assert!(
            differs(here.plus(Duration::from_secs(5)), here)
                .unwrap()
                .found
                .contains("5.0 s")
        );
    }

    #[tokio::test]
    async fn streams_that_are_missing_or_differ_are_wrong_on_a_real_server() {
        let nats = TestNats::start().await;
        let bus = Bus::connect(BusOptions {
            url: nats.url().to_owned(),
            name: "test".to_owned(),
            monitor_url: None,
            user: None,
        })
        .await
        .unwrap();
        assert!(bus.wait_connected(Duration::from_secs(10)).await);
        let verdict = async || look(&bus, 1, false).await.0[0].verdict;
        assert_eq!(verdict().await, Verdict::Wrong);
        let mut declared = topology::standard();
        bus.apply_topology(&declared).await.unwrap();
        assert_eq!(verdict().await, Verdict::Ok);
        declared.streams[0].max_msgs = 5;
        bus.apply_topology(&declared).await.unwrap();
        assert_eq!(verdict().await, Verdict::Wrong);
    }
}
