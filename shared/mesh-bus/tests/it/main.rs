//! The bus against a real nats-server, one per test.

mod calls;
mod consuming;
mod kv;
mod limits;
mod publishing;
mod reconnecting;
mod servers;
mod services;
mod support;
mod topology;
