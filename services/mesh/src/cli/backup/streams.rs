//! What only NATS holds, copied out of JetStream and into it as its own snapshots: sequences, times and the positions of
//! the durable consumers stay, for ids and cursors are made of them.

use anyhow::Context as _;
use mesh_bus::topology::{self, Bucket, StreamName};
use mesh_bus::{Bus, BusError};
use serde_json::json;

use super::archive::{Archive, Packing, Writer, piece};
use super::bar::Bar;
use super::manifest::Stream;

/// Copied, in this order: a message goes from INVOCATIONS to DEAD_LETTERS, and is in both copies rather than in neither.
pub(super) const KEPT: [&str; 4] = [
    StreamName::Invocations.as_str(),
    StreamName::DeadLetters.as_str(),
    StreamName::Events.as_str(),
    Bucket::Pushes.stream(),
];

/// Made again from PostgreSQL, or by those who beat: JOURNAL by the relay, AGENTS by `registry`, ASSIGNMENTS by
/// `reconciler`, PRESENCE by `heartbeat`; TOKENS are superseded by their records.
const REBUILT: [&str; 5] = [
    StreamName::Journal.as_str(),
    StreamName::Tokens.as_str(),
    Bucket::Agents.stream(),
    Bucket::Presence.stream(),
    Bucket::Assignments.stream(),
];

/// Bytes of one message of a restore.
const CHUNK_BYTES: usize = 256 * 1024;

/// Messages that would be lost if these streams were replaced, by stream; those of none are left out.
pub(super) async fn held(bus: &Bus) -> Result<Vec<(String, u64)>, BusError> {
    let mut held = Vec::new();
    for name in KEPT {
        let info = bus.stream_info(name).await?;
        let messages = info.and_then(|info| info["state"]["messages"].as_u64());
        held.extend(
            messages
                .filter(|count| *count > 0)
                .map(|count| (name.to_owned(), count)),
        );
    }
    Ok(held)
}

pub(super) async fn copy_out(bus: &Bus, archive: &mut Writer, bar: &Bar) -> anyhow::Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for name in KEPT {
        bar.step(name);
        let copied = copy_one_out(bus, name, archive, bar).await;
        streams.extend(copied.with_context(|| format!("cannot copy the stream {name}"))?);
    }
    Ok(streams)
}

async fn copy_one_out(bus: &Bus, name: &str, archive: &mut Writer, bar: &Bar) -> anyhow::Result<Option<Stream>> {
    let Some(mut snapshot) = bus.snapshot_stream(name).await? else {
        return Ok(None);
    };
    let mut parts = archive.parts(&format!("nats/{name}"), Packing::AsTheyAre);
    while let Some(bytes) = snapshot.next().await? {
        bar.advance(bytes.len() as u64);
        parts.write(&bytes)?;
    }
    Ok(Some(Stream {
        name: name.to_owned(),
        config: snapshot.config,
        state: snapshot.state,
        parts: parts.finish()?,
    }))
}

/// Puts the streams of the archive in place of what is there; all others begin empty, as the topology says them.
pub(super) async fn copy_in(bus: &Bus, archive: &Archive, replicas: u32, bar: &Bar) -> anyhow::Result<()> {
    for name in KEPT.into_iter().chain(REBUILT) {
        bus.make_room_for(name).await?;
    }
    for stream in &archive.manifest.streams {
        bar.step(&stream.name);
        let copied = copy_one_in(bus, archive, stream, replicas, bar).await;
        copied.with_context(|| format!("cannot put the stream {} back", stream.name))?;
    }
    bus.apply_topology(&topology::replicated(replicas)).await?;
    Ok(())
}

async fn copy_one_in(bus: &Bus, archive: &Archive, stream: &Stream, replicas: u32, bar: &Bar) -> anyhow::Result<()> {
    let mut config = stream.config.clone();
    // Of these servers, not of those it comes from.
    config["num_replicas"] = json!(replicas);
    let restore = bus.restore_stream(&config, &stream.state).await?;
    for part in &stream.parts {
        let mut content = archive.unpacked(part)?;
        while let Some(bytes) = piece(&mut content, CHUNK_BYTES)? {
            bar.advance(bytes.len() as u64);
            restore.send(bytes.into()).await?;
        }
    }
    let state = restore.finish().await?;
    let found = state["messages"].as_u64().unwrap_or(0);
    // Some may have come of age since.
    anyhow::ensure!(
        found <= stream.messages() && (found > 0 || stream.messages() == 0 || stream.config["max_age"] != 0),
        "it has {found} messages and should have {}",
        stream.messages()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_either_kept_or_made_again() {
        let mut known: Vec<_> = KEPT.into_iter().chain(REBUILT).collect();
        known.sort_unstable();
        let topology = topology::standard();
        let all = topology.streams.iter().chain(&topology.buckets);
        let mut all: Vec<_> = all.map(|stream| stream.name.as_str()).collect();
        all.sort_unstable();
        assert_eq!(
            known, all,
            "a new stream: is it in a backup, or made again from what is?"
        );
    }
}
