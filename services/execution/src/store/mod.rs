//! All SQL of schema `execution`.

pub(crate) mod approvals;
pub(crate) mod body;
pub(crate) mod chain;
pub(crate) mod dead_letters;
pub(crate) mod feed;
pub(crate) mod housekeeping;
pub(crate) mod ledger;
pub(crate) mod live;
pub(crate) mod load;
pub(crate) mod mail;
pub(crate) mod moments;
pub(crate) mod nodes;
pub(crate) mod overview;
pub(crate) mod pauses;
pub(crate) mod prune;
pub(crate) mod read;
pub(crate) mod rows;
pub(crate) mod shards;
pub(crate) mod source;
mod statement;
pub(crate) mod summary;
pub(crate) mod write;
