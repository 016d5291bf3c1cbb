//! Integration tests of inference: a real nats-server, and a fake provider that speaks the real wire.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod calls;
mod fake_openai;
mod setup;
