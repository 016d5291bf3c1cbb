//! The clients: as little WebSocket as reading pushes takes, so that the machine is the servers' to use. Each push says
//! its number, by which its latency is known.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::bench::stopwatch::Latencies;

/// Where clients connect, and what they say first.
pub(super) type Protocol = (&'static str, &'static str);
pub(super) const GATEWAY: Protocol = ("/api/v1/ws", r#"{"subscribe":["agents"]}"#);
pub(super) const BARE: Protocol = ("/", "{}");

/// What every push says before its number.
const NUMBER: &[u8] = b"\"generation\":";
/// Handshakes at the same time.
const HANDSHAKES: usize = 64;
const READ_BYTES: usize = 4_096;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the clients of one level heard.
pub(super) struct Measured {
    pub(super) latencies: Latencies,
    pub(super) expected: u64,
}

#[derive(Default)]
struct Shared {
    /// When each number was sent.
    sent: RwLock<Vec<(u64, Instant)>>,
    /// Clients that heard the number that is waited for.
    arrived: AtomicU64,
    awaited: AtomicU64,
    /// The first text of all.
    template: Mutex<Option<String>>,
}

/// Number and time of what one client heard, in order.
type Heard = Arc<Mutex<Vec<(u64, Instant)>>>;

pub(super) struct Crowd {
    shared: Arc<Shared>,
    heard: Vec<Heard>,
    reading: JoinSet<()>,
}

impl Crowd {
    pub(super) async fn connect(address: SocketAddr, protocol: Protocol, count: u32) -> anyhow::Result<Self> {
        let streams: Vec<TcpStream> = futures::stream::iter(0..count)
            .map(|_| open(address, protocol, None))
            .buffer_unordered(HANDSHAKES)
            .try_collect()
            .await?;
        let shared = Arc::new(Shared::default());
        let (mut heard, mut reading) = (Vec::new(), JoinSet::new());
        for stream in streams {
            let ours = Heard::default();
            heard.push(Arc::clone(&ours));
            reading.spawn(read(stream, Arc::clone(&shared), ours));
        }
        Ok(Self { shared, heard, reading })
    }

    pub(super) fn sent(&self, number: u64, at: Instant) {
        let mut sent = self.shared.sent.write().unwrap_or_else(PoisonError::into_inner);
        sent.push((number, at));
        self.shared.arrived.store(0, Ordering::SeqCst);
        self.shared.awaited.store(number, Ordering::SeqCst);
    }

    /// Waits until every client has heard a number.
    pub(super) async fn heard(&mut self, number: u64, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let has = |heard: &Heard| {
                let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.last().is_some_and(|(last, _)| *last >= number)
            };
            let missing = self.heard.iter().filter(|heard| !has(heard)).count();
            if missing == 0 {
                return Ok(());
            }
            if let Some(ended) = self.reading.try_join_next() {
                ended?;
                bail!("a client was cut off");
            }
            if Instant::now() > deadline {
                bail!(
                    "{missing} of {} clients did not hear push {number} within {patience:?}",
                    self.heard.len()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The text of a push, once every client has it.
    pub(super) async fn template(&mut self, number: u64) -> anyhow::Result<String> {
        self.heard(number, Duration::from_secs(30)).await?;
        let template = self.shared.template.lock().unwrap_or_else(PoisonError::into_inner);
        template.clone().context("no client kept the text of a push")
    }

    /// Of the numbers from the first to the last: each client must have heard each once and in order to count.
    pub(super) fn measured(&self, first: u64, last: u64) -> Measured {
        let sent = self.shared.sent.read().unwrap_or_else(PoisonError::into_inner);
        let mut latencies = Latencies::new();
        for heard in &self.heard {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let mut expected = first;
            for (number, at) in heard.iter().filter(|(number, _)| (first..=last).contains(number)) {
                let was_sent = sent.iter().find(|(sent, _)| sent == number);
                if let Some((_, was_sent)) = was_sent.filter(|_| *number == expected) {
                    latencies.record(at.saturating_duration_since(*was_sent));
                    expected += 1;
                }
            }
        }
        Measured {
            latencies,
            expected: (last + 1 - first) * self.heard.len() as u64,
        }
    }
}

/// Connects, asks for the upgrade and subscribes; a small receive buffer makes one that does not read notice soon.
pub(super) async fn open(
    address: SocketAddr,
    (path, first): Protocol,
    receive_buffer: Option<u32>,
) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let mut stream = socket.connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows is a frame.
        answer.push(stream.read_u8().await.context("the upgrade was not answered")?);
        if answer.len() > 8_192 {
            bail!("the answer to the upgrade is too long");
        }
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        bail!(
            "the upgrade was refused: {}",
            String::from_utf8_lossy(&answer).lines().next().unwrap_or_default()
        );
    }
    stream.write_all(&masked(0x81, first.as_bytes())).await?;
    Ok(stream)
}

/// A client's frame of at most 125 bytes; the mask is all zeros, which leaves the bytes as they are.
pub(super) fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len().min(125)).unwrap_or(125);
    let mut frame = vec![first_byte, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(payload.get(..usize::from(length)).unwrap_or_default());
    frame
}

async fn read(mut stream: TcpStream, shared: Arc<Shared>, heard: Heard) {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let at = Instant::now();
        let mut used = 0;
        while let Some((kind, payload, end)) = frame(&buffer, used) {
            match kind {
                0x1 => take(payload, at, &shared, &heard),
                0x8 => return,
                // A ping, answered by the same.
                0x9 if stream.write_all(&masked(0x8a, payload)).await.is_err() => return,
                _ => {}
            }
            used = end;
        }
        buffer.drain(..used);
    }
}

/// The frame that begins there: its kind, its payload and where it ends; `None` while it is not all there.
fn frame(buffer: &[u8], start: usize) -> Option<(u8, &[u8], usize)> {
    let rest = buffer.get(start..)?;
    let (kind, length) = (*rest.first()? & 0x0f, *rest.get(1)? & 0x7f);
    let (head, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?))),
        127 => (
            10,
            usize::try_from(u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?)).ok()?,
        ),
        short => (2, usize::from(short)),
    };
    let payload = rest.get(head..head + length)?;
    Some((kind, payload, start + head + length))
}

fn take(payload: &[u8], at: Instant, shared: &Shared, heard: &Heard) {
    let Some(number) = number_in(payload) else { return };
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if heard.is_empty() {
        let mut template = shared.template.lock().unwrap_or_else(PoisonError::into_inner);
        template.get_or_insert_with(|| String::from_utf8_lossy(payload).into_owned());
    }
    heard.push((number, at));
    if shared.awaited.load(Ordering::Relaxed) == number {
        shared.arrived.fetch_add(1, Ordering::Relaxed);
    }
}

fn number_in(payload: &[u8]) -> Option<u64> {
    let place = payload.windows(NUMBER.len()).position(|window| window == NUMBER)?;
    let digits = payload.get(place + NUMBER.len()..)?;
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// The text with another number.
pub(super) fn numbered(template: &str, number: u64) -> String {
    let marker = String::from_utf8_lossy(NUMBER);
    let Some((before, after)) = template.split_once(marker.as_ref()) else {
        return template.to_owned();
    };
    let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}{marker}{number}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_come() {
        let mut bytes = vec![0x81, 3];
        bytes.extend_from_slice(b"abc");
        bytes.extend_from_slice(&[0x81, 126, 1, 0]);
        bytes.extend_from_slice(&[b'x'; 256]);
        let (kind, payload, end) = frame(&bytes, 0).unwrap();
        assert_eq!((kind, payload, end), (1, &b"abc"[..], 5));
        assert_eq!(frame(&bytes, 5).unwrap().1.len(), 256);
        assert!(frame(&bytes[..100], 5).is_none() && frame(&bytes, bytes.len()).is_none());
        assert_eq!(masked(0x81, b"hi"), [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }

    #[test]
    fn a_push_says_its_number() {
        let text = r#"{"data":{"agent":"a","generation":12,"id":"x"}}"#;
        assert_eq!(number_in(text.as_bytes()), Some(12));
        assert_eq!(
            numbered(text, 999),
            r#"{"data":{"agent":"a","generation":999,"id":"x"}}"#
        );
        assert_eq!(number_in(b"{}"), None);
    }
}
