//! What agents reach outside of the mesh: HTTP and MCP tools, scripts, agent command lines, remote agents.
//! Everything that comes back is hostile input: bounded in size and time, never trusted.

mod config;
mod failure;
mod fetch;
mod guard;
mod http_tool;
mod mcp;
mod post;
mod process;
mod remote;
mod sse;
#[cfg(test)]
mod test_support;
mod toolbox;
mod traced;
mod web;

pub use config::ToolsConfig;
pub use fetch::{Fetched, check_networks, fetch};
pub use post::{check_url, post};
pub use process::{can_run, drivers_here};
pub use toolbox::Toolbox;
