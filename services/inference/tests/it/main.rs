//! Integration tests of inference: a real nats-server, and a fake provider that speaks the real wire.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on may panic, and its tasks end with it"
)]

mod anthropic;
mod cache;
mod calls;
mod embeddings;
mod fake;
mod fake_openai;
mod governance;
mod governed;
mod ollama;
mod roads;
mod setup;
mod streams;
mod usage;
