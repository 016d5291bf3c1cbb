//! Routes of nodes: what they say of themselves, who sees them, who may not touch them.

mod api;
mod fleet;
mod reports;
mod rights;
