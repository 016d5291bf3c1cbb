//! The readers of each tenant with the log that they read, and whom a push wakes. No I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::task::AtomicWaker;
use mesh_types::Tenant;

use super::log::{Entry, Log};
use super::position::Position;
use super::topic::Topic;

/// How long a tenant's log outlives its last reader, who may come back.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// What a reader's task is told besides pushes; bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag(u32);

impl Flag {
    pub(crate) const PING: Self = Self(1);
    /// It is blocked: it looks whether it is too far behind.
    pub(crate) const BEHIND: Self = Self(2);
    /// The order began anew: what it has cannot be continued.
    pub(crate) const RESET: Self = Self(4);
    /// It looks whether its credential is still good.
    pub(crate) const CHECK: Self = Self(8);
    /// The process stops.
    pub(crate) const STOP: Self = Self(16);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What the hub knows of a reader; shared with the reader's task.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    pub(crate) id: u64,
    pub(crate) waker: AtomicWaker,
    flags: AtomicU32,
    /// Number of the next entry that it reads.
    pub(crate) at: AtomicU64,
    /// What it was given cannot be written: its peer does not read.
    pub(crate) is_blocked: AtomicBool,
}

impl Handle {
    pub(crate) fn new(id: u64) -> Arc<Self> {
        Arc::new(Self { id, ..Self::default() })
    }

    pub(crate) fn tell(&self, flag: Flag) {
        self.flags.fetch_or(flag.0, Ordering::AcqRel);
        self.waker.wake();
    }

    /// What was told since the last time.
    pub(crate) fn take_flags(&self) -> Flag {
        // Most times nothing was, and a load is cheaper than an exchange.
        if self.flags.load(Ordering::Acquire) == 0 {
            return Flag(0);
        }
        Flag(self.flags.swap(0, Ordering::AcqRel))
    }
}

pub(crate) struct Room {
    pub(crate) log: Log,
    seats: HashMap<u64, Arc<Handle>>,
    topics: HashMap<Topic, Vec<Arc<Handle>>>,
    empty_since: Option<Duration>,
}

#[derive(Default)]
pub(crate) struct Rooms {
    /// How far the ingest is; `None` while it does not run.
    pub(crate) position: Option<Position>,
    rooms: HashMap<Tenant, Room>,
    /// Grows when a tenant comes: what was made without it is made again.
    pub(crate) version: u64,
}

impl Rooms {
    pub(crate) fn tenants(&self) -> HashSet<Tenant> {
        self.rooms.keys().cloned().collect()
    }

    pub(crate) fn room(&mut self, tenant: &Tenant) -> Option<&mut Room> {
        self.rooms.get_mut(tenant)
    }

    /// The tenant's room, new if there was none; `None` while the ingest does not run.
    pub(crate) fn enter(&mut self, tenant: &Tenant) -> Option<(&mut Room, Position)> {
        let position = self.position.clone()?;
        if !self.rooms.contains_key(tenant) {
            self.version += 1;
            let room = Room {
                log: Log::new(position.clone()),
                seats: HashMap::new(),
                topics: HashMap::new(),
                empty_since: None,
            };
            self.rooms.insert(tenant.clone(), room);
        }
        let room = self.rooms.get_mut(tenant)?;
        Some((room, position))
    }

    pub(crate) fn leave(&mut self, tenant: &Tenant, seat: u64, topics: &[Topic]) {
        if let Some(room) = self.rooms.get_mut(tenant) {
            room.seats.remove(&seat);
            topics.iter().for_each(|topic| room.unsubscribe(seat, topic));
        }
    }

    /// Writes what was made for this version, in order, and wakes those it is for.
    pub(crate) fn append(&mut self, entries: Vec<(Tenant, Entry)>, position: Position) {
        let mut touched: HashMap<Tenant, (HashSet<Topic>, bool)> = HashMap::new();
        for (tenant, entry) in entries {
            let Some(room) = self.rooms.get_mut(&tenant) else {
                continue;
            };
            let topic = entry.topic.clone();
            let is_chunk_full = room.log.append(entry);
            let (topics, any_full) = touched.entry(tenant).or_default();
            topics.insert(topic);
            *any_full |= is_chunk_full;
        }
        self.position = Some(position);
        for (tenant, (topics, is_chunk_full)) in touched {
            let Some(room) = self.rooms.get(&tenant) else { continue };
            if is_chunk_full {
                // Those who hear of nothing move on, too, so that they keep nothing old alive.
                room.seats.values().for_each(|seat| seat.waker.wake());
                continue;
            }
            for topic in topics {
                let seats = room.topics.get(&topic);
                seats.into_iter().flatten().for_each(|seat| seat.waker.wake());
            }
        }
    }

    /// Begins anew at a position that does not continue the last.
    pub(crate) fn restart(&mut self, position: Position) {
        for room in self.rooms.values_mut() {
            room.log = Log::new(position.clone());
            room.seats.values().for_each(|seat| seat.tell(Flag::RESET));
        }
        self.position = Some(position);
    }

    /// Drops tenants whom nobody reads any more; whether any is left.
    pub(crate) fn sweep(&mut self, now: Duration) -> bool {
        self.rooms.retain(|_, room| {
            if !room.seats.is_empty() {
                room.empty_since = None;
                return true;
            }
            now.saturating_sub(*room.empty_since.get_or_insert(now)) < IDLE_MAX
        });
        !self.rooms.is_empty()
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = (&Room, &Arc<Handle>)> {
        self.rooms
            .values()
            .flat_map(|room| room.seats.values().map(move |seat| (room, seat)))
    }

    /// Every reader has to come again.
    pub(crate) fn close(&mut self) {
        self.position = None;
        self.rooms.clear();
    }
}

impl Room {
    pub(crate) fn seat(&mut self, handle: &Arc<Handle>) {
        self.seats.insert(handle.id, Arc::clone(handle));
    }

    pub(crate) fn subscribe(&mut self, handle: &Arc<Handle>, topic: &Topic) {
        let seats = self.topics.entry(topic.clone()).or_default();
        seats.push(Arc::clone(handle));
    }

    pub(crate) fn unsubscribe(&mut self, seat: u64, topic: &Topic) {
        if let Some(seats) = self.topics.get_mut(topic) {
            if let Some(place) = seats.iter().position(|one| one.id == seat) {
                seats.swap_remove(place);
            }
            if seats.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}
