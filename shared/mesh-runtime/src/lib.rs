//! mesh-runtime: being written.
