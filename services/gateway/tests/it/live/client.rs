//! A client of `/api/v1/ws` that checks the protocol while it reads.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Client {
    pub(super) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of the last message that had one.
    pub(super) cursor: Option<String>,
}

impl Client {
    pub(super) async fn open(address: std::net::SocketAddr) -> Self {
        Self::try_open(address, "", &[]).await.unwrap()
    }

    pub(super) async fn try_open(
        address: std::net::SocketAddr,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{address}/api/v1/ws{query}")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket, cursor: None })
    }

    /// Connects and subscribes.
    pub(super) async fn subscribed(address: std::net::SocketAddr, topics: &[&str], after: Option<&str>) -> Self {
        let mut client = Self::open(address).await;
        client.say(&json!({"subscribe": topics, "after": after})).await;
        client
    }

    /// As [`Self::subscribed`], and what is told before `live` is.
    pub(super) async fn caught_up(
        address: std::net::SocketAddr,
        topics: &[&str],
        after: Option<&str>,
    ) -> (Self, Vec<Value>) {
        let mut client = Self::subscribed(address, topics, after).await;
        let mut told = Vec::new();
        loop {
            let message = client.next().await;
            if message["live"] == true {
                return (client, told);
            }
            told.push(message);
        }
    }

    pub(super) async fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// As [`Self::say`]; a peer that is gone is found by the next read.
    pub(super) async fn say_if_open(&mut self, message: &Value) {
        let _ = self.socket.send(Message::text(message.to_string())).await;
    }

    /// The next message if one comes in time and the connection is open.
    pub(super) async fn step_within(&mut self, patience: Duration) -> Option<Value> {
        tokio::time::timeout(patience, self.step()).await.ok()?.ok()
    }

    /// The next message; pings are answered on the way.
    pub(super) async fn next(&mut self) -> Value {
        match self.step().await {
            Ok(message) => message,
            Err(end) => panic!("it ended: {end:?}"),
        }
    }

    /// The next message, or the close code.
    pub(super) async fn step(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match message.expect("something comes in time") {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(text.as_str()).unwrap();
                    if let Some(cursor) = message["cursor"].as_str() {
                        self.cursor = Some(cursor.to_owned());
                    }
                    return Ok(message);
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    pub(super) async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let message = self.next().await;
            if message["live"] != true {
                taken.push(message);
            }
        }
        taken
    }

    /// Until it ends; the close code.
    pub(super) async fn end(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.step().await {
                return code;
            }
        }
    }
}
