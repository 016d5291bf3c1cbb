//! The edge on a real nats-server, with small services of the test's own behind it.

mod bad_input;
mod events;
mod life;
mod reference;
mod routes;
mod support;
mod world;
