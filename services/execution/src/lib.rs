//! execution: being written.
