//! The edge on a real nats-server, with small services of the test's own behind it.

mod around;
mod bad_input;
mod bad_names;
mod cases;
mod events;
mod kept;
mod life;
mod made;
mod reference;
mod routes;
mod support;
mod world;
