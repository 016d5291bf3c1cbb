//! The pure core: what is open, what a command does to it, who runs next. No I/O, no clock, no locks.

pub(crate) mod append;
pub(crate) mod decide;
pub(crate) mod mail;
pub(crate) mod open;
pub(crate) mod packed;
pub(crate) mod pauses;
pub(crate) mod ready;
pub(crate) mod sessions;
pub(crate) mod steer;
pub(crate) mod summary;

pub(crate) use decide::Decision;
pub(crate) use open::{After, EndRow, Fork, Holder, Links, Meta, OpenRow, Parent, RunState, StoredInput, Waits};
