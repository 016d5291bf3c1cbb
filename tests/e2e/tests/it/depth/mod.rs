//! Durable execution in depth, as a sceptical user tries it: tools, approvals, children, sessions, pauses, limits,
//! streams. One mesh for all tests that leave others alone.

mod agents;
mod approvals;
mod cancel;
mod children;
mod field;
mod limits;
mod outside;
mod pauses;
mod runtimes;
mod scripts;
mod sessions;
mod sse;
mod streams;
mod tools;
mod waits;

use agents::{llm, with};
use field::{Field, of_kind, text};
use outside::Entry;
