//! The edge on a real nats-server, with small services of the test's own behind it.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

mod around;
mod bad_input;
mod bad_names;
mod brain;
mod cases;
mod credentials;
mod cut_off;
mod events;
mod facts;
mod kept;
mod life;
mod made;
mod nats_proxy;
mod nodes;
mod reference;
mod routes;
mod steered;
mod steering;
mod support;
mod tunnel;
mod world;
