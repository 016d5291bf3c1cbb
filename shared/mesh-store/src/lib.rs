//! mesh-store: being written.
