//! What services ask of each other: one [`Endpoint`] type each. Wire types only; no I/O.

#[macro_use]
pub mod endpoint;

mod accept;
pub mod audit;
pub mod execution;
pub mod fleet;
pub mod heartbeat;
pub mod history;
pub mod identity;
pub mod inference;
pub mod journal;
pub mod knowledge;
pub mod live;
pub mod memory;
pub mod messaging;
pub mod node;
pub mod overview;
pub mod page;
pub mod reconciler;
pub mod registry;
pub mod road;
mod status;
pub mod steering;
pub mod tunnel;

pub use endpoint::{Access, Caller, Endpoint, Role, StreamEndpoint, UnknownRole};
pub use page::{Page, PageQuery};
