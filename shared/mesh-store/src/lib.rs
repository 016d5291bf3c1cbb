//! The store: pool with one role per service, embedded migrations, tenants in transactions, ids as `uuid`, the outbox.
//! No service's own SQL lives here.

mod error;
mod id;
mod migrate;
mod outbox;
mod pool;
mod role;
mod tenant;

pub use error::{StoreError, constraint, is_transient, to_problem};
pub use id::IdExt;
pub use migrate::{MigrationReport, migrate, migrate_to, schema_version, schemas};
pub use outbox::{Outbox, Pending, RelayReport};
pub use pool::{Check, StoreOptions, connect, probe, usage, wait_ready};
pub use role::Role;
pub use tenant::{every_tenant_tx, tenant_tx};
