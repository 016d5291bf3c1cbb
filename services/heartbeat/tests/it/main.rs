//! `heartbeat` against a nats-server and a Postgres of its own.

mod forged;
mod health;
mod life;
mod modes;
mod outages;
mod reports;
mod setup;
