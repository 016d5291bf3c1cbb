//! mesh-testkit: being written.
