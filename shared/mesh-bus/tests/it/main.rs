//! The bus against a real nats-server, one per test.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on may panic, and its tasks end with it"
)]

mod access;
mod calls;
mod confined;
mod consuming;
mod kv;
mod leaving;
mod limits;
mod observing;
mod permissions;
mod publishing;
mod reading_back;
mod reconnecting;
mod servers;
mod services;
mod snapshots;
mod support;
mod topology;
