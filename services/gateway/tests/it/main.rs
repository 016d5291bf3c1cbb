//! The edge on a real nats-server, with small services of the test's own behind it.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

mod a2a_push;
mod around;
mod auth;
mod bad_input;
mod bad_names;
mod brain;
mod cases;
mod credentials;
mod cut_off;
mod events;
mod facts;
mod guarded;
mod kept;
mod life;
mod limits;
mod live;
mod made;
mod memories;
mod nats_proxy;
mod nodes;
mod reference;
mod remembered;
mod revoked;
mod routes;
mod shares;
mod steered;
mod steering;
mod support;
mod tunnel;
mod ui;
mod world;
