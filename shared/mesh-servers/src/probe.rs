//! Whether a server answers, by the first bytes of its own protocol; no client library.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
const INFO_BYTES_MAX: u64 = 64 * 1024;

fn connect(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The status and body of a GET; HTTP/1.0, so that the body needs no decoding.
pub(crate) fn http_get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = connect(port)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(no_http)?, body.to_owned()))
}

/// What a NATS server says of itself first: the JSON after `INFO`.
pub(crate) fn nats_info(port: u16) -> io::Result<serde_json::Value> {
    let stream = connect(port)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(INFO_BYTES_MAX)).read_until(b'\n', &mut line)?;
    let json = line.strip_prefix(b"INFO ").ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_slice(json)?)
}

/// Whether Postgres takes connections: it asks who we are, rather than refusing while it starts
/// or recovers.
pub(crate) fn postgres_accepts(port: u16, user: &str, database: &str) -> io::Result<bool> {
    const PROTOCOL_3_0: u32 = 196_608;
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    for word in ["user", user, "database", database] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let mut stream = connect(port)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&body)?;
    // The whole message, or closing would reset the connection and make the server log it.
    let mut message = [0; 1024];
    let length = stream.read(&mut message)?;
    match message[..length].first() {
        Some(kind) => Ok(*kind == b'R'),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one connection with those bytes.
    fn answering(bytes: &'static [u8]) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(bytes).unwrap();
            // The client's request must be read, or closing would reset the connection.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        port
    }

    #[test]
    fn http_gives_status_and_body() {
        let port = answering(b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{\"status\":\"no\"}");
        assert_eq!(
            http_get(port, "/healthz").unwrap(),
            (503, "{\"status\":\"no\"}".to_owned())
        );
        assert!(http_get(answering(b"SSH-2.0"), "/").is_err());
    }

    #[test]
    fn nats_is_known_by_its_banner() {
        let info = nats_info(answering(b"INFO {\"version\":\"2.15.1\"}\r\n")).unwrap();
        assert_eq!(info["version"], "2.15.1");
        assert!(nats_info(answering(b"+OK\r\n")).is_err());
    }

    #[test]
    fn postgres_accepts_when_it_asks_for_the_password() {
        assert!(postgres_accepts(answering(b"R\0\0\0\x17"), "mesh", "mesh").unwrap());
        assert!(!postgres_accepts(answering(b"E\0\0\0\x17"), "mesh", "mesh").unwrap());
        assert!(postgres_accepts(answering(b""), "mesh", "mesh").is_err());
    }
}
