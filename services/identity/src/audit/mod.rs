//! The audit: facts of all services in one place, chained by hash.

pub(crate) mod chain;
pub(crate) mod intake;
pub(crate) mod link;
