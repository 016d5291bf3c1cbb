//! As much of the NATS protocol as one caller needs: who it is, a request, its answer. The words are those of
//! https://docs.nats.io/reference/reference-protocols/nats-protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Who connects, as the context of the `nats` program says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) inbox_prefix: String,
}

impl Identity {
    pub(super) fn of_context(text: &str) -> anyhow::Result<Self> {
        let field = |name: &str| {
            let (_, rest) = text
                .split_once(&format!("\"{name}\": \""))
                .with_context(|| format!("no {name}"))?;
            let (value, _) = rest.split_once('"').with_context(|| format!("no end of {name}"))?;
            Ok::<_, anyhow::Error>(value.to_owned())
        };
        Ok(Self {
            user: field("user")?,
            password: field("password")?,
            inbox_prefix: field("inbox_prefix")?,
        })
    }
}

/// One connection that asks one thing at a time.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    inbox: String,
    asked: u64,
}

impl Client {
    pub(super) fn connect(port: u16, identity: &Identity) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, CONNECT_DEADLINE)?;
        stream.set_read_timeout(Some(CONNECT_DEADLINE * 3))?;
        stream.set_write_timeout(Some(CONNECT_DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream: BufReader::new(stream),
            inbox: format!("{}.compose-test", identity.inbox_prefix),
            asked: 0,
        };
        let info = client.line()?;
        if !info.starts_with("INFO ") {
            bail!("port {port} is no nats-server: {info}");
        }
        let Identity { user, password, .. } = identity;
        client.write(&format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1,\"headers\":true,\
             \"no_responders\":true,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\nSUB {}.* 1\r\nPING\r\n",
            client.inbox
        ))?;
        loop {
            match client.line()?.as_str() {
                "PONG" => return Ok(client),
                error if error.starts_with("-ERR") => bail!("the nats-server refuses: {error}"),
                _ => {}
            }
        }
    }

    /// The first answer; an error when nobody listens, or within `deadline` nobody answers.
    pub(super) fn request(&mut self, subject: &str, body: &str, deadline: Duration) -> anyhow::Result<String> {
        self.asked += 1;
        let reply = format!("{}.{}", self.inbox, self.asked);
        self.stream.get_ref().set_read_timeout(Some(deadline))?;
        self.write(&format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()))?;
        loop {
            let line = self.line()?;
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => self.write("PONG\r\n")?,
                ["MSG", to, _, .., size] if to == reply => return self.body(0, size),
                ["HMSG", to, _, .., head, size] if to == reply => {
                    let answer = self.body(head.parse()?, size)?;
                    if answer.is_empty() {
                        bail!("nobody listens at {subject}");
                    }
                    return Ok(answer);
                }
                // Of an earlier request that was given up.
                ["MSG", .., size] | ["HMSG", .., size] => drop(self.body(0, size)?),
                ["-ERR", ..] => bail!("the nats-server refuses: {line}"),
                _ => {}
            }
        }
    }

    fn body(&mut self, head: usize, size: &str) -> anyhow::Result<String> {
        let size: usize = size.parse()?;
        if size > ANSWER_BYTES_MAX || head > size {
            bail!("an answer of {size} bytes");
        }
        let mut bytes = vec![0; size + 2];
        self.stream.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[head..size]).into_owned())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the connection is closed");
        }
        Ok(line.trim_end().to_owned())
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_context_says_who_connects() {
        let text = "{\n  \"inbox_prefix\": \"_INBOX.key_1\",\n  \"password\": \"mak_x\",\n  \"user\": \"key_1\"\n}";
        let identity = Identity::of_context(text).unwrap();
        assert_eq!((identity.user.as_str(), identity.password.as_str()), ("key_1", "mak_x"));
        assert!(Identity::of_context("{}").is_err());
    }

    #[test]
    fn an_answer_is_told_from_others_and_from_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"INFO {}\r\nPONG\r\n").unwrap();
            stream
                .write_all(b"PING\r\nMSG _INBOX.k.compose-test.9 1 2\r\nno\r\n")
                .unwrap();
            stream.write_all(b"MSG _INBOX.k.compose-test.1 1 3\r\nyes\r\n").unwrap();
            stream
                .write_all(b"HMSG _INBOX.k.compose-test.2 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
                .unwrap();
            let mut told = String::new();
            stream.read_to_string(&mut told).unwrap();
            told
        });
        let identity = Identity {
            user: "k".into(),
            password: "p".into(),
            inbox_prefix: "_INBOX.k".into(),
        };
        let mut client = Client::connect(port, &identity).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(client.request("a.b", "{}", second).unwrap(), "yes");
        assert!(
            client
                .request("a.b", "{}", second)
                .unwrap_err()
                .to_string()
                .contains("nobody")
        );
        drop(client);
        let told = served.join().unwrap();
        assert!(
            told.contains("\"user\":\"k\"") && told.contains("PUB a.b _INBOX.k.compose-test.1 2\r\n{}\r\n"),
            "{told}"
        );
    }
}
