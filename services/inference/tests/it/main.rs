//! Integration tests of inference: a real nats-server, and a fake provider that speaks the real wire.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on may panic, and its tasks end with it"
)]

mod calls;
mod fake_openai;
mod roads;
mod setup;
mod streams;
