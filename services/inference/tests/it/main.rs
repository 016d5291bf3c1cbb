//! Integration tests of inference: a real nats-server, and a fake provider that speaks the real wire.

mod calls;
mod fake_openai;
mod setup;
