//! A node against a real nats-server and a mesh that answers what this test says.

mod joining;
mod outages;
mod running;
mod support;
