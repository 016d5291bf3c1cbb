//! memory: being written.
