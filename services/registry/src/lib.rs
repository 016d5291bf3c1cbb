//! registry: being written.
