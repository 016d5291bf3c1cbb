//! What agents reach outside of the mesh: HTTP and MCP tools, scripts, agent command lines, remote agents.
//! Everything that comes back is hostile input: bounded in size and time, never trusted.

mod config;
mod process;
mod toolbox;

pub use config::ToolsConfig;
pub use toolbox::Toolbox;
