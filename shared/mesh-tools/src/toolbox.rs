//! One entry for every kind of call.

use std::sync::Arc;

use mesh_types::tool::{ToolCall, ToolReply};
use mesh_types::{Code, Problem};

use crate::config::ToolsConfig;

/// Cheap to clone; holds connections and servers that are kept between calls.
#[derive(Debug, Clone)]
pub struct Toolbox {
    _config: Arc<ToolsConfig>,
}

impl Toolbox {
    pub fn new(config: ToolsConfig) -> Self {
        Self {
            _config: Arc::new(config),
        }
    }

    /// One try, within `call.timeout`; dropping it stops what it started.
    #[expect(clippy::unused_async, reason = "not there yet")]
    pub async fn call(&self, _call: ToolCall, _on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        Err(Problem::new(Code::NotImplemented, "tools are not there yet"))
    }
}
