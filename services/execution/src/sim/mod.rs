//! The simulation: the real owner's core (`lane`, `core`), the real agent loop and the real plans of the steward run on
//! one thread in virtual time, around models of Postgres and NATS that delay, lose, repeat and reorder; processes and
//! nodes die and freeze at any await. All chance comes from one seed, so that a seed that breaks a rule breaks it again.

pub(crate) mod bugs;
mod check;
mod clients;
mod clock;
mod columns;
mod database;
mod faults;
mod group;
mod hands;
mod hosted;
mod inbox;
mod ledger;
mod node;
mod operators;
mod outside;
mod postman;
mod process;
mod reads;
mod registry;
mod rng;
mod route;
mod run;
mod steward;
mod tests;
mod world;
