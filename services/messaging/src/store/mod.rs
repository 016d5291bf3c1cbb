//! All SQL of `messaging`. Every statement runs in a transaction of its tenant.

pub(crate) mod channels;
pub(crate) mod messages;
