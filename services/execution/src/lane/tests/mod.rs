//! The fence on a real Postgres: takeovers, repeats, lost shards, poison, cut connections.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

mod fence;
mod harness;
mod outcome;
mod proxy;
mod sessions;
mod timers;
mod waits;
