//! Integration tests of memory: a real nats-server and a fresh database per test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod consolidation;
mod dedupe;
mod embedders;
mod erase;
mod events;
mod expiry;
mod isolation;
mod kept;
mod kept_store;
mod knowledge;
mod knowledge_files;
mod life;
mod local;
mod pdf_file;
mod pending;
mod reembed;
mod relevance;
mod remote;
mod roads;
mod rows;
mod search;
mod search_ranking;
mod search_recall;
mod setup;
mod stores;
