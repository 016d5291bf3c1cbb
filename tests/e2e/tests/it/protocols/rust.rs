//! The official Rust client of the Model Context Protocol.

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, ReadResourceRequestParams};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Value, json};

use super::Stage;

#[tokio::test]
async fn rmcps_client_calls_agents_and_reads_what_they_know() {
    let stage = Stage::shared().await;
    let url = format!("{}/mcp", stage.mesh.http().base());
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(stage.key.clone());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let transport = StreamableHttpClientTransport::with_client(client, config);
    let client = ().serve(transport).await.expect("it connects");
    let echo = stage.agents[0].1.clone();
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == echo.as_str()), "{tools:?}");
    let Value::Object(arguments) = json!({"text": "over rmcp"}) else {
        unreachable!("an object");
    };
    let call = CallToolRequestParams::new(echo).with_arguments(arguments);
    let result = client.call_tool(call).await.unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, "over rmcp");
    let resources = client.list_all_resources().await.unwrap();
    let document = resources.iter().find(|resource| resource.name == "rain.md");
    let uri = document.expect("the document").uri.clone();
    let read = client.read_resource(ReadResourceRequestParams::new(uri)).await.unwrap();
    assert!(json!(read.contents[0])["text"].as_str().unwrap().contains("umbrella"));
    client.cancel().await.unwrap();
}
