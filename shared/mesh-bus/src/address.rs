//! Where the server listens, for what stands between it and others: names and ports, never credentials.

use crate::Bus;

/// Port of NATS where an address names none.
const PORT: u16 = 4222;

/// One server of the bus's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// `nats`, `tls`, `ws` or `wss`.
    pub scheme: String,
}

impl Bus {
    /// The servers that this bus was told to connect to, in their order.
    #[must_use]
    pub fn server_addresses(&self) -> Vec<ServerAddress> {
        let url = &self.options().url;
        url.split(',').filter_map(|one| read(one.trim())).collect()
    }
}

/// `scheme://user:password@host:port/path`, where all but the host may be left out.
fn read(url: &str) -> Option<ServerAddress> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => place
            .split_once(':')
            .map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
    (!host.is_empty()).then(|| ServerAddress {
        host: host.to_owned(),
        port,
        scheme: scheme.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_found_and_credentials_left_out() {
        let cases = [
            ("nats://127.0.0.1:4223", ("127.0.0.1", 4223, "nats")),
            ("nats://mesh:p%40ss@nats.example:1", ("nats.example", 1, "nats")),
            ("nats://mesh:a@b@nats.example", ("nats.example", 4222, "nats")),
            ("localhost", ("localhost", 4222, "nats")),
            ("tls://[::1]:5/x", ("::1", 5, "tls")),
            ("ws://h:80/api?x=a@b", ("h", 80, "ws")),
        ];
        for (url, (host, port, scheme)) in cases {
            let (host, scheme) = (host.to_owned(), scheme.to_owned());
            assert_eq!(read(url), Some(ServerAddress { host, port, scheme }), "{url}");
        }
        for wrong in ["", "nats://", "nats://h:99999", "nats://h:x", "nats://[::1:5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
