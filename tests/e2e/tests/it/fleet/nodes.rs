//! Node processes, started with an address and a join token only.

use std::path::Path;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Launch, free_port};

/// What every node of these tests is told besides: to speak often, so that the tests are short.
const HEARTBEAT_SECONDS: &str = "1";

/// One node; killed when dropped.
pub(super) struct Node {
    child: Child,
    pub(super) id: String,
}

/// How a node is started, the same again after its death.
#[derive(Clone)]
pub(super) struct Order {
    /// Pinned, so that the test knows it.
    pub(super) id: String,
    pub(super) url: String,
    pub(super) token: String,
    pub(super) slots: u32,
    /// Its label `of`; empty: none.
    pub(super) of: String,
    pub(super) mode: &'static str,
}

impl Node {
    pub(super) fn start(launch: &Launch, order: &Order, folder: &Path) -> Self {
        let log = folder.join(format!("{}.log", order.id));
        let home = folder.join(&order.id);
        std::fs::create_dir_all(&home).expect("a folder for the node");
        let (home, port) = (home.display().to_string(), free_port().to_string());
        let slots = order.slots.to_string();
        let label = format!("of={}", order.of);
        let mut arguments = vec!["node", "--slots", &slots];
        if !order.of.is_empty() {
            arguments.extend(["--label", &label]);
        }
        let child = launch.spawn(
            &arguments,
            &[
                ("MESH_HOME", &home),
                ("MESH_URL", &order.url),
                ("MESH_NODE_TOKEN", &order.token),
                ("AGENT_NODE_ID", &order.id),
                ("AGENT_NODE_MODE", order.mode),
                ("AGENT_NODE_HEARTBEAT_SECONDS", HEARTBEAT_SECONDS),
                ("MESH_NODE__LOCAL_PORT", &port),
            ],
            &log,
        );
        Self {
            child,
            id: order.id.clone(),
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are positive 32-bit numbers");
        kill(Pid::from_raw(pid), signal).expect("it lives");
    }

    pub(super) fn kill_9(&mut self) {
        self.child.kill().expect("it lives");
        self.child.wait().expect("it was killed");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
