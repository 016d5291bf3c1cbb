//! `execution` on a real nats-server and a fresh Postgres database per test, its neighbours as fakes on the real bus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod calls;
mod checks;
mod fake_node;
mod feed;
mod figures;
mod fleet;
mod forks;
mod history;
mod intake;
mod isolation;
mod mesh;
mod moments;
mod nodes;
mod older;
mod outages;
mod people;
mod poison;
mod process;
mod reads;
mod repeats;
mod sharing;
mod steering;
mod tickets;
mod travel;
mod world;
