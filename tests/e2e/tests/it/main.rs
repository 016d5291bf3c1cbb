//! The started mesh, from outside: the built `mesh` program with real servers, asked by HTTP, NATS and its own
//! command line. The harness kills everything it started, also when a test panics.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod harness;

mod audit;
mod backup;
mod bad_http;
mod bad_nats;
mod boundaries;
mod cli;
mod cuts;
mod degraded;
mod depth;
mod described;
mod events;
mod fleet;
mod fuzz;
mod grafana;
mod helm;
mod keys;
mod lifecycle;
mod massacre;
mod matrix;
mod memories;
mod memory_kill;
mod metrics;
mod nodes;
mod outlives;
mod pages;
mod protocols;
mod readme;
mod remembering;
mod serve;
mod support;
mod traces;
mod trial;
mod unrecorded;
mod users;
