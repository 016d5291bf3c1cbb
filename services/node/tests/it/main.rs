//! A node against a real nats-server and a mesh that answers what this test says.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on may panic, and its tasks end with it"
)]

mod gateway;
mod joining;
mod local;
mod outages;
mod running;
mod support;
