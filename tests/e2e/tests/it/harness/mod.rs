//! What the tests share: a mesh of their own or the common one, a model that counts its calls, HTTP and waiting.

mod aside;
mod http;
mod launch;
mod mesh;
mod model;
mod servers;
mod wait;

pub(crate) use aside::Aside;
pub(crate) use http::{Answer, Http, items, kinds, send};
pub(crate) use launch::{Launch, Ran, kill_9};
pub(crate) use mesh::{Mesh, free_port};
pub(crate) use model::{FakeModel, Script};
pub(crate) use servers::{start_nats, start_postgres};
pub(crate) use wait::{unique, until};
