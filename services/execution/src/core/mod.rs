//! The pure core: what is open, what a command does to it, who runs next. No I/O, no clock, no locks.

pub(crate) mod decide;
pub(crate) mod open;
pub(crate) mod ready;
pub(crate) mod summary;

pub(crate) use decide::Decision;
pub(crate) use open::{After, EndRow, Holder, Meta, OpenRow, RunState, StoredInput};
