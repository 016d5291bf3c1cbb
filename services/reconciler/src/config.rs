//! Configuration of `reconciler`.

use mesh_runtime::{DatabaseConfig, Validate};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub database: DatabaseConfig,
}

impl Validate for Config {}
