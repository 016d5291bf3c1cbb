//! The real servers: first start, restart, kill, what a killed mesh leaves behind, and root's
//! closed home.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only functions marked as tests, not their helpers"
)]

mod home;
mod nats;
mod postgres;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use mesh_servers::{Quiet, Tools};

/// The programs, resolved once per test process.
pub(crate) fn tools() -> &'static Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    TOOLS.get_or_init(|| Tools::resolve(&mut Quiet).unwrap())
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "still waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A port that stays taken as long as the listener lives.
pub(crate) fn busy_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Whether a process with that id runs; one that has ended and was not reaped does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let text = std::fs::read(format!("/proc/{pid}/cmdline"));
    text.is_ok_and(|line| !line.is_empty())
}

#[test]
fn the_weights_are_fetched_once_and_found_again() {
    let weights = mesh_servers::EmbedderWeights::resolve(&mut Quiet).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        assert!(weights.folder.join(name).is_file(), "{name}");
    }
    assert_eq!(mesh_servers::EmbedderWeights::resolve(&mut Quiet).unwrap(), weights);
}

#[test]
fn both_servers_are_found_and_new_enough() {
    let tools = tools();
    assert!(
        tools.nats.version >= mesh_servers::Version::new(2, 15, 1),
        "{}",
        tools.nats.version
    );
    assert!(tools.postgres.version.major >= 18, "{}", tools.postgres.version);
    assert_eq!(&Tools::resolve(&mut Quiet).unwrap(), tools);
}
