//! The started mesh, from outside: the built `mesh` program with real servers, asked by HTTP, NATS and its own
//! command line. The harness kills everything it started, also when a test panics.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod harness;

mod bad_http;
mod bad_nats;
mod boundaries;
mod cli;
mod degraded;
mod depth;
mod events;
mod fleet;
mod keys;
mod lifecycle;
mod massacre;
mod nodes;
mod outlives;
mod pages;
mod readme;
mod serve;
mod trial;
mod unrecorded;
