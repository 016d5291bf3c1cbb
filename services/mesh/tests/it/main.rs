//! The built program, driven as a person does: help, errors, and whole meshes on free ports in homes of their own.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only functions marked as tests, not their helpers"
)]

mod config;
mod help;
mod life;
mod memories;
mod nodes;
mod objects;
mod remembering;
mod serve;
mod steering;
mod support;
