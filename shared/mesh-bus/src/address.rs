//! Where the server listens, for what stands between it and others: names and ports, never credentials.

use crate::{Bus, BusOptions};

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

/// Takes user and password out of an address: it is shown in errors, and the client reads them from elsewhere. What is
/// named beside the address counts first.
pub(crate) fn split_user(options: BusOptions) -> BusOptions {
    let mut found = None;
    let urls = options.url.split(',').map(|url| {
        let url = url.trim();
        let Some((scheme, rest)) = url.split_once("://") else {
            return url.to_owned();
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        match authority
            .rsplit_once('@')
            .map(|(user, place)| (user.split_once(':'), place))
        {
            Some((Some((user, password)), place)) => {
                found.get_or_insert_with(|| (decoded(user), decoded(password)));
                format!("{scheme}://{place}{path}")
            }
            _ => url.to_owned(),
        }
    });
    let url = urls.collect::<Vec<_>>().join(",");
    BusOptions {
        url,
        user: options.user.or(found),
        ..options
    }
}

/// `%40` is `@`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
    fn user_and_password_leave_the_address() {
        let split = |url: &str, user: Option<(&str, &str)>| {
            let options = split_user(BusOptions {
                url: url.into(),
                name: String::new(),
                monitor_url: None,
                user: user.map(|(user, password)| (user.into(), password.into())),
            });
            (
                options.url,
                options.user.map(|(user, password)| format!("{user} {password}")),
            )
        };
        let of = |url: &str| split(url, None);
        assert_eq!(of("nats://a:1"), ("nats://a:1".into(), None));
        let expected = ("nats://a:1,nats://b:2".to_owned(), Some("mesh p@s%".to_owned()));
        assert_eq!(of("nats://mesh:p%40s%25@a:1, nats://mesh:other@b:2"), expected);
        assert_eq!(of("nats://a:b@c@h:1").1.as_deref(), Some("a b@c"));
        let named = split("nats://mesh:x@a:1", Some(("kitchen", "y")));
        assert_eq!(named, ("nats://a:1".into(), Some("kitchen y".into())));
    }

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
