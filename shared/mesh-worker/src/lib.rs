//! mesh-worker: being written.
