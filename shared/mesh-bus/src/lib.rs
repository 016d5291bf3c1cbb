//! mesh-bus: being written.
