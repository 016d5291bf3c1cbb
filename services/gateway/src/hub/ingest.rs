//! The ingest of a process: hears JOURNAL and EVENTS, reads from `execution` what JOURNAL lost, writes the tenants' logs.

mod task;

use std::collections::HashSet;

use bytes::Bytes;
use mesh_api::journal::Record;
use mesh_api::live::{FeedNote, SHARDS, ShardFeedPage, ShardMark};
use mesh_bus::Message;
use mesh_types::{AgentName, InvocationId, Tenant};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Hub;
use super::log::Entry;
use super::position::{Lane, Mark, Position};
use super::said::{Audience, Event, NodeSeen, Note, Push, UNSAID, of_event, of_note};
use super::shard::{Part, Shard, Taken};

pub(super) use task::run;

/// What a message of JOURNAL holds, as far as lists show it.
#[derive(Deserialize)]
struct Page<'a> {
    invocation: InvocationId,
    agent: AgentName,
    version: u32,
    #[serde(default)]
    session: Option<String>,
    places: Vec<(u64, u32)>,
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind {
    record: String,
}

/// One message of a pass that waits for the others.
type Waiting = (Tenant, Bytes);

/// An event with its number; `None` for what cannot be read.
type Heard = (u64, Option<(Event, Option<NodeSeen>)>);
/// Whose it is, and what is pushed of it.
type Pushed = (Tenant, Vec<Push>);

/// What is known while the ingest runs. Everything but `write` is pure.
struct Ingest {
    hub: Hub,
    position: Position,
    shards: Vec<Shard<Waiting>>,
}

impl Ingest {
    fn new(hub: Hub, position: Position) -> Self {
        let shards = position.shards.iter().map(|mark| Shard::new(mark.at)).collect();
        Self { hub, position, shards }
    }

    /// Takes a message of JOURNAL; `false` if something before it is missing.
    fn take_journal(&mut self, message: Message) -> bool {
        let Some((shard, part)) = part_of(&message) else {
            // A mark of a shard, or a message of an older version: the look finds what it told.
            return true;
        };
        let Some(tenant) = tenant_of(&message.subject) else {
            return true;
        };
        let Some(state) = self.shards.get_mut(usize::from(shard)) else {
            return true;
        };
        let from = state.next();
        match state.take(part, (tenant, message.payload)) {
            Taken::Nothing => true,
            Taken::Behind => false,
            Taken::Batches(messages, to) => {
                self.write(
                    |tenants| notes_of(&messages, tenants, from),
                    |notes, position, tenants| made_of_notes(shard, notes, Mark::whole(to), position, tenants),
                );
                true
            }
        }
    }

    /// Takes what was read of the feed. Whether a shard still lacks something that is committed.
    fn take_feed(&mut self, page: ShardFeedPage) -> bool {
        let mut is_behind = false;
        for found in page.pages {
            let Some(state) = self.shards.get_mut(usize::from(found.shard)) else {
                continue;
            };
            let from = state.next();
            state.read(found.to);
            let head = page.heads.iter().find(|head| head.shard == found.shard);
            is_behind |= state.is_behind() || head.is_some_and(|head| head.batch >= state.next());
            if found.to < from {
                continue;
            }
            let notes: Vec<FeedNote> = found.notes.into_iter().filter(|note| note.batch >= from).collect();
            let of_tenants = |tenants: &HashSet<Tenant>| {
                let ours = notes.iter().filter(|note| tenants.contains(&note.tenant));
                ours.map(|note| (note.tenant.clone(), note_of(note.clone()))).collect()
            };
            let (shard, to) = (found.shard, found.to);
            self.write(of_tenants, |notes, position, tenants| {
                made_of_notes(shard, notes, Mark::whole(to), position, tenants)
            });
        }
        is_behind
    }

    /// Takes events in their order, each with what is known of its node.
    fn take_events(&mut self, events: Vec<Heard>) {
        let said: Vec<(u64, Option<Pushed>)> = events
            .into_iter()
            .map(|(sequence, event)| {
                let said = event.map(|(event, node)| (event.tenant.clone(), of_event(event, node)));
                (sequence, said)
            })
            .collect();
        self.write(
            |_| (),
            |(), position, tenants| {
                let mut made = Vec::new();
                for (sequence, said) in &said {
                    if let Some((tenant, pushes)) = said {
                        let lane = (Lane::Events, *sequence, 0);
                        make(&mut made, lane, tenant, pushes.clone(), position, tenants);
                    }
                    position.raise(Lane::Events, Mark::whole(*sequence));
                }
                made
            },
        );
    }

    /// Makes entries for the tenants that are read and writes them; again if a tenant has come meanwhile.
    fn write<N>(
        &mut self,
        parse: impl Fn(&HashSet<Tenant>) -> N,
        make: impl Fn(N, &mut Position, &HashSet<Tenant>) -> Vec<(Tenant, Entry)>,
    ) {
        loop {
            let (tenants, version) = {
                let rooms = self.hub.rooms();
                (rooms.tenants(), rooms.version)
            };
            let mut position = self.position.clone();
            let entries = make(parse(&tenants), &mut position, &tenants);
            let mut rooms = self.hub.rooms();
            if rooms.version != version {
                continue;
            }
            rooms.append(entries, position.clone());
            self.position = position;
            return;
        }
    }

    /// Where each shard's feed is to be read on from.
    fn marks(&self) -> Vec<ShardMark> {
        let marks = (0..SHARDS).zip(&self.shards).map(|(shard, state)| ShardMark {
            shard,
            after: state.next().saturating_sub(1),
        });
        marks.collect()
    }

    /// Messages may have been lost.
    fn lost(&mut self) {
        self.shards.iter_mut().for_each(Shard::lost);
    }
}

/// Entries of a shard's notes, in order.
fn made_of_notes(
    shard: u16,
    notes: Vec<(Tenant, Note)>,
    end: Mark,
    position: &mut Position,
    tenants: &HashSet<Tenant>,
) -> Vec<(Tenant, Entry)> {
    let mut made = Vec::new();
    for (tenant, note) in notes {
        let place = (Lane::Shard(shard), note.batch, note.ordinal + 1);
        make(&mut made, place, &tenant, of_note(&note), position, tenants);
    }
    position.raise(Lane::Shard(shard), end);
    made
}

/// Entries of one record's or event's pushes, for every tenant that hears of them.
fn make(
    made: &mut Vec<(Tenant, Entry)>,
    (lane, at, ordinal): (Lane, u64, u32),
    tenant: &Tenant,
    pushes: Vec<Push>,
    position: &mut Position,
    tenants: &HashSet<Tenant>,
) {
    for (part, push) in (1..).zip(pushes) {
        let mark = Mark { at, ordinal, part };
        position.raise(lane, mark);
        let hear = |other: &&Tenant| match &push.audience {
            // A node may be shared with another tenant.
            Audience::Node(seen) => seen.tenant == **other || seen.sharing.tenants.contains(*other),
            _ => *other == tenant,
        };
        let mut hearers: Vec<&Tenant> = tenants.iter().filter(hear).collect();
        let Some(last) = hearers.pop() else { continue };
        let cursor = position.to_string();
        for other in hearers {
            made.push((other.clone(), Entry::new(lane, mark, push.clone(), &cursor)));
        }
        made.push((last.clone(), Entry::new(lane, mark, push, &cursor)));
    }
}

fn note_of(note: FeedNote) -> Note {
    Note {
        batch: note.batch,
        ordinal: note.ordinal,
        invocation: note.invocation,
        agent: note.agent,
        version: note.version,
        session: note.session,
        record: note.record,
    }
}

/// What is told of the messages of a pass, in order of (batch, ordinal).
fn notes_of(messages: &[Waiting], tenants: &HashSet<Tenant>, from: u64) -> Vec<(Tenant, Note)> {
    let mut notes = Vec::new();
    for (tenant, payload) in messages.iter().filter(|(tenant, _)| tenants.contains(tenant)) {
        let page: Page<'_> = match serde_json::from_slice(payload) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, %tenant, "a message of JOURNAL cannot be read; its pushes are left out");
                continue;
            }
        };
        for ((batch, ordinal), raw) in page.places.iter().copied().zip(&page.records) {
            let kind: Option<Kind> = serde_json::from_str(raw.get()).ok();
            let is_said = kind.is_some_and(|kind| !UNSAID.contains(&kind.record.as_str()));
            let record: Option<Record> = is_said.then(|| serde_json::from_str(raw.get()).ok()).flatten();
            if let Some(record) = record.filter(|_| batch >= from) {
                let note = Note {
                    batch,
                    ordinal,
                    invocation: page.invocation,
                    agent: page.agent.clone(),
                    version: page.version,
                    session: page.session.clone(),
                    record,
                };
                notes.push((tenant.clone(), note));
            }
        }
    }
    notes.sort_by_key(|(_, note)| (note.batch, note.ordinal));
    notes
}

/// Which part of which shard's pass a message is (EXECUTION §9).
fn part_of(message: &Message) -> Option<(u16, Part)> {
    let header = |name| message.headers.get(name);
    let (number, of) = header("Mesh-Part")?.split_once('/')?;
    let part = Part {
        from: header("Mesh-From-Batch")?.parse().ok()?,
        to: header("Mesh-To-Batch")?.parse().ok()?,
        number: number.parse().ok()?,
        of: of.parse().ok()?,
    };
    Some((header("Mesh-Shard")?.parse().ok()?, part))
}

/// The tenant in `mesh.journal.<tenant>.<invocation>`.
fn tenant_of(subject: &str) -> Option<Tenant> {
    subject.split('.').nth(2)?.parse().ok()
}
