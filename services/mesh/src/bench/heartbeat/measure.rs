//! One level: sends, waits until the service has taken all in, looks whether anything is missing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mesh_api::PageQuery;
use mesh_api::heartbeat::{Observed, ObservedAll, ObservedRequest};
use mesh_bus::Bus;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, Probe, Sent};
use super::ground::{Ground, caller};
use super::report::Level;
use crate::bench::processes::{ByProcess, difference};
use crate::bench::progress::Progress;
use crate::bench::report::rounded;
use crate::bench::stopwatch::Latencies;

/// Without any progress for so long, what is missing is lost.
const STUCK_AFTER: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PROBE_EVERY: Duration = Duration::from_millis(200);
const PROBE_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at the probe's answer.
const PROBE_PAUSE: Duration = Duration::from_millis(1);
/// Of the wanted rate; what is below was not sent, which says nothing of the service.
const SENT_SHARE_MIN: f64 = 0.95;
/// Longer than the service gathers before it writes.
const WRITTEN_AFTER: Duration = Duration::from_millis(2_500);

#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) name: &'static str,
    /// Heartbeats a second.
    pub(super) rate: f64,
    pub(super) time: Duration,
    /// Heartbeats of a node to each of its health reports.
    pub(super) health_every: Option<u64>,
}

/// What the service has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    beats: u64,
    rows: u64,
    presence: u64,
}

/// The first heartbeat of every node.
pub(super) async fn come(ground: &Ground, fleet: &mut Fleet, rate: f64) -> anyhow::Result<()> {
    let before = count(ground).await?;
    // A little longer, for the last ones.
    let time = Duration::from_secs_f64(fleet.nodes as f64 / rate * 1.05 + 0.1);
    let sent = fleet.send(rate, time, None).await?;
    taken_in(ground, before.beats + sent.beats).await?;
    tokio::time::sleep(WRITTEN_AFTER).await;
    match missing(&ground.bus, fleet).await? {
        0 => Ok(()),
        missing => bail!("{missing} of the nodes' first heartbeats are missing"),
    }
}

pub(super) async fn level(
    ground: &Ground,
    fleet: &mut Fleet,
    load: Load,
    ceiling: f64,
    progress: &Progress,
) -> anyhow::Result<Level> {
    let Load { name, rate, time, .. } = load;
    progress.phase(&format!("{name}: {rate:.0} heartbeats/s for {} s", time.as_secs()));
    let before = count(ground).await?;
    let memory = ground.processes.watch_memory();
    let cpu = ground.processes.cpu_seconds();
    let (sent, probed) = send(ground, fleet, load).await?;
    let cpu = difference(&cpu, &ground.processes.cpu_seconds());
    let sent_at = Instant::now();
    let sent_all = sent.beats + probed.count();
    let received = taken_in(ground, before.beats + sent_all).await? - before.beats;
    let caught_up = sent_at.elapsed();
    progress.phase(&format!("{name}: looking for the newest of {} nodes", fleet.nodes));
    tokio::time::sleep(WRITTEN_AFTER).await;
    let newest_missing = missing(&ground.bus, fleet).await?;
    let after = count(ground).await?;
    let per_second = sent.beats as f64 / sent.time.as_secs_f64();
    let is_sent = per_second >= rate * SENT_SHARE_MIN;
    let percent = |seconds: &f64| seconds / sent.time.as_secs_f64() * 100.0;
    Ok(Level {
        concurrency: fleet.nodes,
        per_second: rounded(per_second),
        p50_ms: probed.quantile_ms(0.5),
        p99_ms: probed.quantile_ms(0.99),
        ceiling_per_second: rounded(ceiling),
        ratio: rounded(per_second / ceiling),
        load: name,
        wanted_per_second: rounded(rate),
        held: is_sent && received == sent_all && newest_missing == 0,
        sent: sent_all,
        lost: sent_all.saturating_sub(received),
        newest_missing,
        seconds: rounded(sent.time.as_secs_f64()),
        caught_up_ms: rounded(caught_up.as_secs_f64() * 1_000.0),
        rows_written: after.rows - before.rows,
        presence_writes: after.presence - before.presence,
        cpu_percent: cpu
            .iter()
            .map(|(name, spent)| (*name, rounded(percent(spent))))
            .collect(),
        rss_mb: rounded_all(memory.most_mb()),
    })
}

/// Sends, and meanwhile looks how soon a heartbeat is in the answers.
async fn send(ground: &Ground, fleet: &mut Fleet, load: Load) -> anyhow::Result<(Sent, Latencies)> {
    let over = CancellationToken::new();
    let probe = Probe::new(fleet)?;
    let mut probing = JoinSet::new();
    probing.spawn(latencies(ground.bus.clone(), probe, over.clone()));
    let sent = fleet.send(load.rate, load.time, load.health_every).await?;
    over.cancel();
    let probed = probing.join_next().await.context("the probe is gone")???;
    Ok((sent, probed))
}

async fn latencies(bus: Bus, mut probe: Probe, over: CancellationToken) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new();
    let request = ObservedRequest {
        nodes: probe.id().cloned().into_iter().collect(),
    };
    while !over.is_cancelled() {
        let (subject, body, seq) = probe.next();
        let said = Instant::now();
        bus.publish(&subject, body).await?;
        loop {
            let seen = bus.call::<Observed>(&caller(), &request).await?;
            let newest = seen.first().and_then(|node| node.heartbeat.as_ref());
            if newest.is_some_and(|newest| newest.seq >= seq) || said.elapsed() >= PROBE_DEADLINE {
                break;
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
        latencies.record(said.elapsed());
        tokio::time::sleep(PROBE_EVERY).await;
    }
    Ok(latencies)
}

/// Waits until the service has counted so many heartbeats, or until it gets no further; answers how many.
async fn taken_in(ground: &Ground, wanted: u64) -> anyhow::Result<u64> {
    let mut counted = count(ground).await?.beats;
    let mut moved = Instant::now();
    while counted < wanted && moved.elapsed() < STUCK_AFTER {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = count(ground).await?.beats;
        if now > counted {
            (counted, moved) = (now, Instant::now());
        }
    }
    Ok(counted)
}

async fn count(ground: &Ground) -> anyhow::Result<Counted> {
    let text = ground.metrics().await?;
    Ok(Counted {
        beats: sum(&text, "mesh_node_reports_total", r#"kind="heartbeat""#),
        rows: sum(&text, "mesh_node_rows_written_total", "kind="),
        presence: sum(&text, "mesh_presence_writes_total", "kind="),
    })
}

/// Of all series of that name with that label.
fn sum(text: &str, name: &str, label: &str) -> u64 {
    let series = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.map(|value| value as u64).sum()
}

/// How many nodes' newest heartbeats are not in the answers.
async fn missing(bus: &Bus, fleet: &Fleet) -> anyhow::Result<u64> {
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut after = None;
    loop {
        let query = PageQuery {
            limit: Some(500),
            after,
        };
        let page = bus.call::<ObservedAll>(&caller(), &query).await?;
        for node in page.items {
            let seq = node.heartbeat.map_or(0, |heartbeat| heartbeat.seq);
            seen.insert(node.node_id.to_string(), seq);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let is_missing = |(name, seq): &(&str, u64)| *seq > 0 && seen.get(*name) != Some(seq);
    Ok(fleet.newest().filter(is_missing).count() as u64)
}

fn rounded_all(values: ByProcess) -> ByProcess {
    values.into_iter().map(|(name, value)| (name, rounded(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let text = "# HELP x\nx_total{kind=\"a\",outcome=\"taken\"} 2\nx_total{kind=\"a\",outcome=\"late\"} 3\n\
                    x_total{kind=\"b\"} 7\ny_total{kind=\"a\"} 9\n";
        assert_eq!(sum(text, "x_total", "kind=\"a\""), 5);
        assert_eq!(sum(text, "x_total", "kind="), 12);
    }
}
