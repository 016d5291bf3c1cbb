//! The fence on a real Postgres: takeovers, repeats, lost shards, poison, cut connections.

mod fence;
mod harness;
mod outcome;
mod proxy;
mod timers;
