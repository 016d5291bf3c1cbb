//! All SQL of the service. Rows of nodes belong to no tenant; what is told of them does.

pub(crate) mod beats;
pub(crate) mod healths;
pub(crate) mod life;
pub(crate) mod observed;
