//! The started mesh, from outside.
