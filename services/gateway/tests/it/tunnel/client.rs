//! Clients of a tunnel: a WebSocket and an event stream.

use std::time::Duration;

use eventsource_stream::{Event, Eventsource};
use futures::{SinkExt, Stream, StreamExt};
use mesh_types::NodeId;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::stage::{Stage, tunnel_path};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stage {
    /// Opens a WebSocket; what is refused answers its status and body.
    pub(crate) async fn socket_at(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, (u16, Value)> {
        let url = format!("ws://{}{path}", self.address);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let body = serde_json::from_slice(body).unwrap_or(Value::Null);
                Err((response.status().as_u16(), body))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn socket(&self, node: &NodeId) -> Socket {
        self.socket_at(&tunnel_path(node, "ws"), &[]).await.unwrap()
    }

    /// Follows a tunnel's events.
    pub(crate) async fn events(
        &self,
        node: &NodeId,
        query: &str,
        last: Option<&str>,
    ) -> impl Stream<Item = Event> + Unpin + use<> {
        let mut request = self.get(&tunnel_path(node, &format!("events{query}")));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let events = response.bytes_stream().eventsource();
        Box::pin(events.map(|event| event.unwrap()))
    }
}

impl Socket {
    pub(crate) async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next frame; `None` when it was closed, then with the frame that closed it.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next())
                .await
                .expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Frames until one of that name, which is the last.
    pub(crate) async fn until(&mut self, name: &str) -> Vec<Value> {
        let mut frames: Vec<Value> = Vec::new();
        while frames.last().is_none_or(|frame| frame["frame"] != name) {
            frames.push(self.next().await.unwrap());
        }
        frames
    }

    /// Reads to the close frame.
    pub(crate) async fn closed(&mut self) -> (Vec<Value>, u16, String) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Ok(frame) => frames.push(frame),
                Err(frame) => {
                    let frame = frame.expect("closed with a reason");
                    return (frames, frame.code.into(), frame.reason.to_string());
                }
            }
        }
    }
}

/// All text of the tokens.
pub(crate) fn text_of(frames: &[Value]) -> String {
    frames
        .iter()
        .filter(|frame| frame["frame"] == "token")
        .filter_map(|frame| frame["text"].as_str())
        .collect()
}
