//! A client that speaks NATS's own protocol line by line, and so sees each refusal of the server.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Raw {
    stream: BufReader<TcpStream>,
    subscriptions: u32,
}

impl Raw {
    /// Connects; the error is the server's.
    pub(crate) async fn connect(url: &str, user: &str, password: &str) -> Result<Self, String> {
        let address: SocketAddr = url.trim_start_matches("nats://").parse().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut raw = Self {
            stream: BufReader::new(stream),
            subscriptions: 0,
        };
        assert!(raw.line().await.unwrap().starts_with("INFO "));
        let connect = json!({"verbose": false, "pedantic": false, "user": user, "pass": password, "name": "raw",
            "lang": "test", "version": "1", "protocol": 1, "headers": true, "no_responders": true});
        raw.send(format!("CONNECT {connect}\r\n").as_bytes()).await;
        let refused = raw.pong().await?;
        assert_eq!(refused, Vec::<String>::new());
        Ok(raw)
    }

    /// What the server says against it.
    pub(crate) async fn publish(&mut self, subject: &str, body: &str) -> Vec<String> {
        let message = format!("PUB {subject} {}\r\n{body}\r\n", body.len());
        self.send(message.as_bytes()).await;
        self.pong().await.unwrap()
    }

    /// As [`Self::publish`], with a line of one's own: `SUBJECT REPLY BYTES`.
    pub(crate) async fn publish_line(&mut self, line: &str, body: &str) -> Vec<String> {
        let message = format!("PUB {line}\r\n{body}\r\n");
        self.send(message.as_bytes()).await;
        self.pong().await.unwrap()
    }

    /// What the server says against it.
    pub(crate) async fn subscribe(&mut self, subject: &str) -> Vec<String> {
        self.subscriptions += 1;
        let message = format!("SUB {subject} {}\r\n", self.subscriptions);
        self.send(message.as_bytes()).await;
        self.pong().await.unwrap()
    }

    /// One question and the body of its answer.
    pub(crate) async fn request(&mut self, subject: &str, inbox: &str, body: &str) -> String {
        assert!(self.subscribe(inbox).await.is_empty());
        let message = format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len());
        self.send(message.as_bytes()).await;
        self.next().await.1
    }

    /// The next message: its subject and body.
    pub(crate) async fn next(&mut self) -> (String, String) {
        loop {
            let line = self.line().await.unwrap();
            let sizes: Vec<usize> = line.split(' ').rev().map_while(|part| part.parse().ok()).collect();
            let (total, headers) = match line.split(' ').next() {
                Some("MSG") => (sizes[0], 0),
                Some("HMSG") => (sizes[0], sizes[1]),
                _ if line == "PING" => continue,
                _ => panic!("{line}"),
            };
            let mut bytes = vec![0; total + 2];
            self.stream.read_exact(&mut bytes).await.unwrap();
            let subject = line.split(' ').nth(1).unwrap().to_owned();
            return (subject, String::from_utf8(bytes[headers..total].to_vec()).unwrap());
        }
    }

    /// Waits until the server ends the connection; what it said last.
    pub(crate) async fn ended(&mut self) -> String {
        let mut last = String::new();
        while let Some(line) = self.line().await {
            last = line;
        }
        last
    }

    /// Errors up to the answer of a ping; the connection's end is an error.
    async fn pong(&mut self) -> Result<Vec<String>, String> {
        self.send(b"PING\r\n").await;
        let mut errors = Vec::new();
        loop {
            match self.line().await {
                None => return Err(errors.pop().unwrap_or_else(|| "the connection ended".into())),
                Some(line) if line == "PONG" => return Ok(errors),
                Some(line) if line.starts_with("-ERR") => errors.push(line),
                Some(_) => {}
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The server may have ended the connection; the next read tells.
        let _ = self.stream.get_mut().write_all(bytes).await;
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        match read.expect("the server says something in time") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }
}
