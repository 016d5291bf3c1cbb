//! A worker node: claims by requests that may be lost, keeps its leases alive, appends until it is answered.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_types::InvocationId;
use mesh_worker::Finished;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::SimClock;
use super::group::Group;
use super::hands::{Hands, Place};
use super::hosted;
use super::process::Process;
use super::world::Sim;
use crate::core::Holder;
use crate::directory::Owner;
use crate::lane::command::{Alive, Append, AppendAnswer, Appended, Claim, Command, Granted, LaneHandle, NODE_LEASE};
use crate::shards::ShardId;

const SLOTS: usize = 8;
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// No effect starts later than so much before the end of the lease.
const LEASE_SPARE: Duration = Duration::from_secs(1);

pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) group: Arc<Group>,
    pub(super) clock: Arc<SimClock>,
    requests: AtomicU64,
    held: Mutex<BTreeMap<InvocationId, Held>>,
}

struct Held {
    epoch: u32,
    shard: ShardId,
    /// Sending of the last request about it that was answered.
    answered: Instant,
    cancel: CancellationToken,
}

/// Shards of one lane, with its process.
type Owned = (Arc<Process>, Vec<ShardId>);

type Answer = Result<Appended, AppendAnswer>;

pub(super) fn start(sim: &Arc<Sim>, name: &str) -> Arc<Node> {
    let offset = i64::try_from(sim.below(2_000_000)).unwrap_or(0) - 1_000_000;
    let node = Arc::new(Node {
        name: name.into(),
        incarnation: sim.next_incarnation(),
        group: Group::new(),
        clock: SimClock::new(sim.started, offset),
        requests: AtomicU64::new(0),
        held: Mutex::default(),
    });
    sim.event("start", u128::from(node.incarnation), || name.to_owned());
    sim.nodes().insert(Arc::clone(&node.name), Arc::clone(&node));
    node.group.spawn(claims(Arc::clone(sim), Arc::clone(&node)));
    node.group.spawn(alives(Arc::clone(sim), Arc::clone(&node)));
    node
}

impl Node {
    pub(super) fn holder(&self) -> Holder {
        Holder {
            node: Arc::clone(&self.name),
            incarnation: self.incarnation,
        }
    }

    pub(super) fn kill(&self, sim: &Sim, why: &str) {
        if !self.group.is_dead() {
            sim.event("kill", u128::from(self.incarnation), || format!("{} {why}", self.name));
            self.group.kill();
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<InvocationId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an effect may start; for ever, if the lease is not renewed.
    pub(super) async fn lease(&self, id: InvocationId) {
        loop {
            let until = self
                .held()
                .get(&id)
                .map(|held| held.answered + NODE_LEASE - LEASE_SPARE);
            match until {
                Some(until) if Instant::now() < until => return,
                Some(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                None => std::future::pending().await,
            }
        }
    }

    /// `None`: no answer, so that it is sent again.
    pub(super) async fn append(
        &self,
        sim: &Sim,
        shard: ShardId,
        append: Append,
        answered: oneshot::Receiver<Answer>,
    ) -> Option<Answer> {
        let sent = Instant::now();
        let id = append.id;
        let owner = owner_of(sim, shard).await?;
        owner.lane(shard).send(Command::Append(append)).ok()?;
        let answer = tokio::time::timeout(REQUEST_DEADLINE, answered).await.ok()?.ok()?;
        if !sim.hop().await {
            return None;
        }
        if let Some(held) = self.held().get_mut(&id) {
            held.answered = held.answered.max(sent);
        }
        Some(answer)
    }
}

/// The process that owns the shard and says so itself, by way of the network.
async fn owner_of(sim: &Sim, shard: ShardId) -> Option<Arc<Process>> {
    let name = sim.database().shards[usize::from(shard)].owner.clone();
    let owner = sim.process(&name)?;
    if !sim.hop().await || owner.directory.owner(shard) != Owner::Here {
        return None;
    }
    Some(owner)
}

async fn claims(sim: Arc<Sim>, node: Arc<Node>) {
    loop {
        sim.pause(150, 450).await;
        let free = SLOTS.saturating_sub(node.held().len());
        let Some(process) = sim.some_process().filter(|_| free > 0) else {
            continue;
        };
        let with_work = |lane: &&LaneHandle| lane.gauges.placed.load(Ordering::Relaxed) > 0;
        let Some(lane) = process.lanes.iter().find(with_work).cloned() else {
            continue;
        };
        let number = node.requests.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("{}/{}/{number}", node.name, node.incarnation);
        // Without an answer the same request is sent again.
        for _ in 0..3 {
            let sent = Instant::now();
            if let Some(grants) = claim(&sim, &node, &lane, &request_id, free).await {
                grants.into_iter().for_each(|grant| run(&sim, &node, grant, sent));
                break;
            }
        }
    }
}

async fn claim(sim: &Sim, node: &Node, lane: &LaneHandle, request_id: &str, free: usize) -> Option<Vec<Granted>> {
    if !sim.hop().await {
        return None;
    }
    let (answer, answered) = oneshot::channel();
    let claim = Claim {
        holder: node.holder(),
        request_id: request_id.to_owned(),
        free,
        assigned: sim.registry.placed(),
        running: HashMap::new(),
        others: None,
        answer,
    };
    lane.send(Command::Claim(claim)).ok()?;
    let grants = tokio::time::timeout(REQUEST_DEADLINE, answered).await.ok()?.ok()?;
    sim.hop().await.then_some(grants)
}

fn run(sim: &Arc<Sim>, node: &Arc<Node>, granted: Granted, sent: Instant) {
    let Granted { meta, epoch, .. } = granted;
    let cancel = CancellationToken::new();
    let held = Held {
        epoch,
        shard: meta.shard,
        answered: sent,
        cancel: cancel.clone(),
    };
    {
        let mut all = node.held();
        if all.get(&meta.id).is_some_and(|held| held.epoch >= epoch) {
            return;
        }
        if let Some(older) = all.insert(meta.id, held) {
            older.cancel.cancel();
        }
    }
    let (sim, worker) = (Arc::clone(sim), Arc::clone(node));
    node.group.spawn(async move {
        let journal = sim.database().journal(meta.id, 0);
        let source = hosted::source(&sim, &meta);
        let hands = Hands {
            sim: Arc::clone(&sim),
            place: Place::Node(Arc::clone(&worker)),
            meta: Arc::clone(&meta),
            epoch,
            seq: AtomicU32::new(u32::try_from(journal.len()).unwrap_or(0)),
        };
        let grant = hosted::grant(&sim, &meta, None, epoch, (journal, source));
        if let Finished::Refused(problem) = mesh_worker::run_invocation(grant, &hands, cancel).await {
            hosted::give_up(&hands, *problem).await;
        }
        let mut all = worker.held();
        if all.get(&meta.id).is_some_and(|held| held.epoch == epoch) {
            all.remove(&meta.id);
        }
    });
}

/// Every third of the lease, each owner hears all that is held of it.
async fn alives(sim: Arc<Sim>, node: Arc<Node>) {
    loop {
        tokio::time::sleep(NODE_LEASE / 3).await;
        let shards: Vec<ShardId> = {
            let held = node.held();
            let mut shards: Vec<_> = held.values().map(|held| held.shard).collect();
            shards.sort_unstable();
            shards.dedup();
            shards
        };
        let mut lanes: BTreeMap<(Arc<str>, usize), Owned> = BTreeMap::new();
        for shard in shards {
            if let Some(owner) = owner_of(&sim, shard).await {
                let lane = usize::from(shard) % owner.lanes.len();
                let place = (Arc::clone(&owner.name), lane);
                lanes.entry(place).or_insert_with(|| (owner, Vec::new())).1.push(shard);
            }
        }
        for ((_, lane), (owner, shards)) in lanes {
            alive(&sim, &node, &owner.lanes[lane], &shards).await;
        }
    }
}

async fn alive(sim: &Sim, node: &Node, lane: &LaneHandle, shards: &[ShardId]) {
    let sent = Instant::now();
    let held: HashMap<InvocationId, u32> = {
        let all = node.held();
        let of_lane = all.iter().filter(|(_, held)| shards.contains(&held.shard));
        of_lane.map(|(id, held)| (*id, held.epoch)).collect()
    };
    let named: Vec<(InvocationId, u32)> = held.iter().map(|(id, epoch)| (*id, *epoch)).collect();
    let (answer, answered) = oneshot::channel();
    let alive = Alive {
        holder: node.holder(),
        asked: held.keys().copied().collect(),
        held,
        answer,
    };
    if lane.send(Command::Alive(alive)).is_err() {
        return;
    }
    let Ok(Ok(stop)) = tokio::time::timeout(REQUEST_DEADLINE, answered).await else {
        return;
    };
    if !sim.hop().await {
        return;
    }
    let mut all = node.held();
    for (id, epoch) in named {
        if let Some(held) = all.get_mut(&id).filter(|held| held.epoch == epoch) {
            if stop.contains(&id) {
                held.cancel.cancel();
            } else {
                held.answered = held.answered.max(sent);
            }
        }
    }
}
