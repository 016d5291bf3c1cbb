//! What goes wrong by itself: processes and nodes die, freeze, drain, lose the database; clocks jump; owners are robbed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::node;
use super::process::{self, Process};
use super::world::Sim;
use crate::lane::command::Command;
use crate::shards::SHARDS;

pub(super) const PROCESSES: [&str; 3] = ["exec-a", "exec-b", "exec-c"];
pub(super) const NODES: [&str; 2] = ["node-a", "node-b"];

/// One thing after the other until faults are over.
pub(super) async fn run(sim: Arc<Sim>) {
    let most = 300 + sim.below(5_000);
    // Some kinds, not others.
    let kinds: Vec<u64> = (0..10).filter(|_| sim.chance(550)).collect();
    loop {
        sim.pause(most / 4, most).await;
        if sim.is_calm() {
            return;
        }
        let at = usize::try_from(sim.below(kinds.len() as u64)).unwrap_or(0);
        let Some(kind) = kinds.get(at) else { return };
        let Some(process) = sim.some_process() else { continue };
        match kind {
            0 => process.kill(&sim, "by chance"),
            1 => freeze(&sim, &process),
            2 => cut_off(&sim, &process),
            3 => drain(&sim, &process),
            4 => jump(&sim, &process),
            5 => rob(&sim, &process),
            6 => kill_node(&sim),
            7 => outage(&sim),
            8 => lose_node(&sim),
            _ => freeze_node(&sim),
        }
    }
}

/// The dead come back, under their own names.
pub(super) async fn revive(sim: Arc<Sim>) {
    loop {
        sim.pause(100, 900).await;
        for name in PROCESSES {
            if sim.process(name).is_none() && (sim.is_calm() || sim.chance(300)) {
                process::start(&sim, name);
            }
        }
        for name in NODES {
            let is_dead = sim.nodes().get(name).is_none_or(|node| node.group.is_dead());
            if is_dead && (sim.is_calm() || sim.chance(300)) {
                node::start(&sim, name);
            }
        }
    }
}

fn freeze(sim: &Arc<Sim>, process: &Arc<Process>) {
    let length = sim.millis(100, 9_000);
    sim.event("freeze", u128::from(process.incarnation), || {
        format!("{} {length:?}", process.name)
    });
    process.group.freeze();
    let process = Arc::clone(process);
    sim.outside.spawn(async move {
        tokio::time::sleep(length).await;
        process.group.thaw();
    });
}

fn cut_off(sim: &Arc<Sim>, process: &Arc<Process>) {
    let length = sim.millis(100, 9_000);
    sim.event("cut off", u128::from(process.incarnation), || {
        format!("{} {length:?}", process.name)
    });
    process.is_cut_off.store(true, Ordering::Relaxed);
    let process = Arc::clone(process);
    sim.outside.spawn(async move {
        tokio::time::sleep(length).await;
        process.is_cut_off.store(false, Ordering::Relaxed);
    });
}

/// The database is away for all of them.
fn outage(sim: &Arc<Sim>) {
    let all: Vec<_> = sim.processes().values().cloned().collect();
    all.iter().for_each(|process| cut_off(sim, process));
}

/// As at a SIGTERM: nothing new is claimed, then all shards are given back, then the process ends.
fn drain(sim: &Arc<Sim>, process: &Arc<Process>) {
    sim.event("drain", u128::from(process.incarnation), || process.name.to_string());
    process.draining.cancel();
    let (sim, process) = (Arc::clone(sim), Arc::clone(process));
    let outside = Arc::clone(&sim.outside);
    outside.spawn(async move {
        sim.pause(50, 2_000).await;
        process.stop.cancel();
        sim.pause(500, 6_000).await;
        process.kill(&sim, "drained");
    });
}

fn jump(sim: &Sim, process: &Process) {
    let micros = i64::try_from(sim.below(10_000_000)).unwrap_or(0) - 5_000_000;
    sim.event("clock", u128::from(process.incarnation), || {
        format!("{} {micros}", process.name)
    });
    process.clock.jump(micros);
}

/// Takes a shard from its living owner: two believe that they own it.
fn rob(sim: &Sim, process: &Process) {
    let shard = usize::try_from(sim.below(SHARDS.into())).unwrap_or(0);
    let mut database = sim.database();
    let seen = database.shards[shard].clone();
    database.take(&seen, &process.name);
    drop(database);
    sim.event("rob", shard as u128, || format!("{} takes {shard}", process.name));
    process.directory.ring();
}

fn kill_node(sim: &Sim) {
    let node = sim
        .nodes()
        .get(NODES[usize::try_from(sim.below(2)).unwrap_or(0)])
        .cloned();
    if let Some(node) = node {
        node.kill(sim, "by chance");
    }
}

/// Its presence runs out although it lives, as some owners hear and others do not.
fn lose_node(sim: &Sim) {
    let node = sim
        .nodes()
        .get(NODES[usize::try_from(sim.below(2)).unwrap_or(0)])
        .cloned();
    let Some(node) = node else { return };
    sim.event("lost", u128::from(node.incarnation), || node.name.to_string());
    let processes: Vec<_> = sim.processes().values().cloned().collect();
    for process in processes.iter().filter(|_| sim.chance(700)) {
        for lane in &process.lanes {
            // A lane that ended has nothing to lose.
            let _ = lane.send(Command::NodeLost(node.holder()));
        }
    }
}

fn freeze_node(sim: &Arc<Sim>) {
    let node = sim
        .nodes()
        .get(NODES[usize::try_from(sim.below(2)).unwrap_or(0)])
        .cloned();
    let Some(node) = node else { return };
    let length = sim.millis(100, 25_000);
    sim.event("freeze", u128::from(node.incarnation), || {
        format!("{} {length:?}", node.name)
    });
    node.group.freeze();
    sim.outside.spawn(async move {
        tokio::time::sleep(length).await;
        node.group.thaw();
    });
}

/// Faults are over: everybody lives, thaws, and reaches everybody.
pub(super) fn end(sim: &Sim) {
    sim.calm();
    sim.event("calm", 0, String::new);
    for process in sim.processes().values() {
        process.is_cut_off.store(false, Ordering::Relaxed);
        process.group.thaw();
    }
    for node in sim.nodes().values() {
        node.group.thaw();
    }
}

/// Longest time that anything of the active part takes.
pub(super) const ACTIVE: Duration = Duration::from_secs(30);
