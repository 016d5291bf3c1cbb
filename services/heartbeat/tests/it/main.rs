//! `heartbeat` against a real nats-server and a real Postgres.
