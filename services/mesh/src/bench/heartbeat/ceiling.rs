//! The ceiling: what a subscriber of the same subjects hears that only counts, as many as can be sent.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_types::subject::Filter;
use tokio::task::JoinSet;

use super::fleet::Fleet;
use super::ground::Ground;
use crate::bench::place;

/// Nodes that send; how many they are does not matter to who only counts.
const NODES: u64 = 1_000;
/// More than can be sent.
const RATE: f64 = 100_000_000.0;
/// Silence after which what has not come does not come.
const SILENCE: Duration = Duration::from_secs(1);

/// Heartbeats a second, on a server of their own: the heartbeat service hears none of them.
pub(super) async fn measure(ground: &Ground, time: Duration) -> anyhow::Result<f64> {
    let alone = ground.alone().await?;
    let bus = place::connect(&alone.url, None).await?;
    let mut heard = bus.subscribe(&Filter::Heartbeats).await?;
    let mut counting = JoinSet::new();
    counting.spawn(async move {
        let began = Instant::now();
        let (mut count, mut last) = (0_u64, began);
        while let Ok(Some(_)) = tokio::time::timeout(SILENCE, heard.next()).await {
            count += 1;
            last = Instant::now();
        }
        count as f64 / (last - began).as_secs_f64()
    });
    let mut fleet = Fleet::connect(&alone.url, NODES).await?;
    fleet.send(RATE, time, None).await?;
    let counted = counting.join_next().await;
    alone.stop().await?;
    Ok(counted.context("the subscriber that counts is gone")??)
}
