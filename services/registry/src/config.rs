//! Configuration of `registry`.

use mesh_runtime::{DatabaseConfig, Validate};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub database: DatabaseConfig,
    /// Whether a tenant named for the first time is created, as the demo configuration wants it.
    pub auto_create_tenants: bool,
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        if self.database.connections == 0 {
            return Err("`database.connections` must be at least 1".into());
        }
        Ok(())
    }
}
