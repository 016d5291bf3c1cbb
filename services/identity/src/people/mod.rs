//! What holds for people and their sign-ins; pure, apart from the doors to the stored state.

pub(crate) mod access;
pub(crate) mod attempts;
pub(crate) mod keyring;
pub(crate) mod password;
pub(crate) mod rotation;
pub(crate) mod sessions;
