//! messaging: being written.
