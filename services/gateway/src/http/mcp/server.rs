//! What the SDK asks of a server, answered for one caller.

use mesh_api::Caller;
use mesh_api::registry::{AgentGet, AgentRequest};
use mesh_types::{AgentName, Problem};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, InitializeResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;

use super::{resources, tools};
use crate::http::followed::published;
use crate::http::problem::Failure;
use crate::state::App;

const INSTRUCTIONS: &str = "Each tool is an agent of the mesh: call it with a text, or with the payload that it takes. \
                            Resources are what agents remember (mesh://memories/…) and the documents that they \
                            consult (mesh://documents/…).";

#[derive(Clone)]
pub(super) struct Server {
    pub(super) app: App,
    pub(super) caller: Caller,
}

impl Server {
    pub(super) fn new(app: App, caller: Caller) -> Self {
        Self { app, caller }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> InitializeResult {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        let mut info = InitializeResult::new(capabilities).with_instructions(INSTRUCTIONS);
        info.server_info = Implementation::new("agent-mesh", env!("CARGO_PKG_VERSION"));
        info
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let agents = published(&self.app, &self.caller).await.map_err(refused)?;
        Ok(ListToolsResult::with_all_items(
            agents.iter().map(tools::tool).collect(),
        ))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let unknown = |_| ErrorData::invalid_params(format!("there is no tool `{}`", shown(&request.name)), None);
        let agent: AgentName = request.name.parse().map_err(unknown)?;
        let asked = AgentRequest { agent: agent.clone() };
        self.app.call::<AgentGet>(&self.caller, &asked).await.map_err(refused)?;
        let arguments = request.arguments.unwrap_or_default();
        let called = tools::call(self, agent, arguments, &context).await;
        // What went wrong is the tool's result: the model that called is to read it.
        Ok(called.unwrap_or_else(|Failure(problem)| failed(&problem)).into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let after = request.and_then(|request| request.cursor);
        resources::list(self, after).await.map_err(refused)
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let read = resources::read(self, &request.uri).await.map_err(refused)?;
        let not_found = || ErrorData::resource_not_found(format!("there is no {}", shown(&request.uri)), None);
        read.map(Into::into).ok_or_else(not_found)
    }
}

fn failed(problem: &Problem) -> CallToolResult {
    CallToolResult::structured_error(json!(problem))
}

/// A problem as an error of JSON-RPC; the problem is its data.
pub(super) fn refused(Failure(problem): Failure) -> ErrorData {
    let message = problem.to_string();
    let data = Some(json!(problem));
    match problem.status {
        404 => ErrorData::resource_not_found(message, data),
        400..=499 => ErrorData::invalid_params(message, data),
        _ => ErrorData::internal_error(message, data),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}
