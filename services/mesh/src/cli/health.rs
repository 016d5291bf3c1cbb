//! `mesh health`: whether a process of this machine or container is ready, for health checks of images without curl.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::Session;
use crate::failure::{Usage, advised};

/// Whether what listens on MESH_OPS_PORT here, or at an address, is ready
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HealthArgs {
    /// Address to ask [default: /readyz on MESH_OPS_PORT of this machine]
    #[arg(value_name = "URL")]
    address: Option<String>,
}

const EXAMPLES: &str = "Examples:
  mesh health
  mesh health http://127.0.0.1:8000/readyz

Exit codes: 0 ready, 1 not ready, 2 wrong use of the command line.";

const DEADLINE: Duration = Duration::from_secs(4);
/// What of an answer is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

pub(crate) fn run(args: HealthArgs, session: &Session) -> anyhow::Result<()> {
    let address = match (args.address, session.environment.ops_port) {
        (Some(address), _) => address,
        (None, Some(port)) => format!("http://127.0.0.1:{port}/readyz"),
        (None, None) => return Err(Usage("name an address, or set MESH_OPS_PORT".into()).into()),
    };
    let (status, body) = ask(&address)?;
    if status == 200 {
        return session.output.line(&body);
    }
    let error = anyhow::anyhow!("{address} answers {status}: {body}");
    Err(advised(error, "its log says why"))
}

/// One plain request. A client with pools and certificates would cost more than the answer, every few seconds.
fn ask(address: &str) -> anyhow::Result<(u16, String)> {
    let Some(rest) = address.strip_prefix("http://") else {
        return Err(Usage(format!("`{address}` is no http:// address")).into());
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let place = if authority.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let found = place.to_socket_addrs().ok().and_then(|mut found| found.next());
    let found = found.with_context(|| format!("`{authority}` is no address"))?;
    let mut stream =
        TcpStream::connect_timeout(&found, DEADLINE).with_context(|| format!("{authority} does not listen"))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    // Version 1.0: the answer ends with the connection.
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    read.with_context(|| format!("{authority} does not answer"))?;
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{authority} does not speak HTTP")
    };
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("{authority} does not speak HTTP"))?;
    Ok((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/readyz", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        (address, served)
    }

    #[test]
    fn the_status_and_the_reason_are_read() {
        let (address, served) = answering("HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{\"failing\":[\"x\"]}\n");
        assert_eq!(ask(&address).unwrap(), (503, "{\"failing\":[\"x\"]}".to_owned()));
        assert!(served.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\n"));
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        let (address, served) = answering("hello");
        assert!(ask(&address).is_err());
        served.join().unwrap();
        assert!(ask("https://127.0.0.1").is_err());
    }
}
