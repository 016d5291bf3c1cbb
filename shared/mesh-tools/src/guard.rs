//! Which addresses tools may reach. The name is resolved here and nowhere else, so that the address that is checked is
//! the address that is connected to: an answer of DNS that changes between the two has no gap to slip through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The address, or the host, that a tool may not reach. Travels through reqwest as the cause of its error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("`{0}` is a private address")]
    Address(IpAddr),
    #[error("`{0}` leads to private addresses only")]
    Host(String),
    #[error("`{0}` is no URL of http or https with a host")]
    Url(String),
    #[error("the host `{0}` is not on the tool's list")]
    NotListed(String),
}

/// Addresses of the public internet, and those of `private_networks`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard {
    allowed: Arc<[IpNet]>,
}

impl Guard {
    /// `loopback`, networks such as `10.1.0.0/16`, and single addresses.
    pub(crate) fn new(private_networks: &[String]) -> Result<Self, String> {
        let mut allowed = Vec::new();
        for network in private_networks {
            if network == "loopback" {
                allowed.push(IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)));
                allowed.push(IpNet::from(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)));
            } else {
                let parsed = network.parse().or_else(|_| network.parse::<IpAddr>().map(IpNet::from));
                allowed.push(parsed.map_err(|_| {
                    format!("`{network}` is no network: write `loopback`, or an address and bits, such as 10.1.0.0/16")
                })?);
            }
        }
        Ok(Self {
            allowed: allowed.into(),
        })
    }

    /// Before each request: hosts that are literal addresses never pass a resolver. The URL parser has brought all of
    /// their forms (octal, hexadecimal, one number, mapped) to one.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Url(shown(url)));
        }
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            Some(Host::Domain(_)) => Ok(()),
            None => Err(Refused::Url(shown(url))),
        }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        if self.permits(address) {
            return Ok(());
        }
        Err(Refused::Address(address))
    }

    fn permits(&self, address: IpAddr) -> bool {
        let is_listed = |address: IpAddr| self.allowed.iter().any(|network| network.contains(&address));
        let reached = match address {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => carried(address).map_or(IpAddr::V6(address), IpAddr::V4),
        };
        is_public(reached) || is_listed(reached) || is_listed(address)
    }
}

/// A URL without credentials, query and fragment, for people.
pub(crate) fn shown(url: &Url) -> String {
    let authority = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{authority}:{port}", url.scheme()),
        None => format!("{}://{authority}", url.scheme()),
    }
}

/// The IPv4 address that a mapped (RFC 4291) or translated (NAT64, RFC 6052) one leads to.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let last = || Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(last()),
        _ => None,
    }
}

/// Networks that are not the public internet (IANA's special-purpose registries), and metadata services with public
/// addresses: Azure's answers at 168.63.129.16. The others are link-local, shared or unique local.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Within 2000::/3, which is all of IPv6 that is public: Teredo and other protocol blocks, documentation, 6to4.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4
            .iter()
            .any(|(network, bits)| Ipv4Net::new_assert(*network, *bits).contains(&address)),
        IpAddr::V6(address) => {
            address.segments()[0] & 0xe000 == 0x2000
                && !NOT_PUBLIC_V6
                    .iter()
                    .any(|(network, bits)| Ipv6Net::new_assert(*network, *bits).contains(&address))
        }
    }
}

/// Asks for the addresses of a name, afresh each time.
pub(crate) trait Lookup: Send + Sync + 'static {
    fn lookup(&self, host: String) -> impl Future<Output = std::io::Result<Vec<IpAddr>>> + Send;
}

/// The system's resolver.
pub(crate) struct System;

impl Lookup for System {
    async fn lookup(&self, host: String) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// What reqwest connects by: only addresses that the guard permits come out.
pub(crate) struct GuardedResolver<L> {
    pub(crate) guard: Guard,
    pub(crate) lookup: Arc<L>,
}

impl<L: Lookup> Resolve for GuardedResolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, lookup) = (self.guard.clone(), Arc::clone(&self.lookup));
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = lookup.lookup(host.clone()).await?;
            let found_any = !found.is_empty();
            let permitted: Vec<_> = found.into_iter().filter(|address| guard.permits(*address)).collect();
            if permitted.is_empty() && found_any {
                return Err(Refused::Host(host).into());
            }
            // Port 0: reqwest puts in the URL's.
            let addresses = permitted.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(guard: &Guard, url: &str) -> Result<(), Refused> {
        guard.check(&url.parse().unwrap())
    }

    #[test]
    fn no_spelling_of_a_private_address_passes() {
        let guard = Guard::default();
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "①②⑦.⓪.⓪.①",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[2001:db8::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[100::1]",
        ] {
            let refused = verdict(&guard, &format!("http://{host}/"));
            assert!(matches!(refused, Err(Refused::Address(_))), "{host}: {refused:?}");
        }
        for url in [
            "ftp://example.org/",
            "file:///etc/passwd",
            "data:text/plain,x",
            "unix:/run/x.sock",
        ] {
            assert!(matches!(verdict(&guard, url), Err(Refused::Url(_))), "{url}");
        }
    }

    #[test]
    fn the_public_internet_is_open() {
        let guard = Guard::default();
        for host in [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "[2606:4700::1111]",
            "[2a00:1450::1]",
            "[::ffff:8.8.8.8]",
            "[64:ff9b::8.8.8.8]",
            "example.org",
        ] {
            assert_eq!(verdict(&guard, &format!("https://{host}/")), Ok(()), "{host}");
        }
    }

    #[test]
    fn only_the_listed_networks_are_opened() {
        let networks = ["loopback".to_owned(), "10.1.0.0/16".to_owned(), "fd00::1".to_owned()];
        let guard = Guard::new(&networks).unwrap();
        for host in [
            "127.0.0.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "10.1.2.3",
            "[64:ff9b::10.1.2.3]",
            "[fd00::1]",
        ] {
            assert_eq!(verdict(&guard, &format!("http://{host}/")), Ok(()), "{host}");
        }
        for host in ["10.2.0.1", "[fd00::2]", "169.254.169.254", "0.0.0.0"] {
            assert!(verdict(&guard, &format!("http://{host}/")).is_err(), "{host}");
        }
        for wrong in ["local", "10.0.0.0/33", "", "example.org"] {
            let refused = Guard::new(&[wrong.to_owned()]).unwrap_err();
            assert!(refused.contains("10.1.0.0/16"), "{wrong}");
        }
    }

    struct Fixed(Vec<IpAddr>);

    impl Lookup for Fixed {
        async fn lookup(&self, _host: String) -> std::io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_permitted_are_tried() {
        let (public, private) = (IpAddr::from([8, 8, 8, 8]), IpAddr::from([10, 0, 0, 1]));
        let resolve = |found: Vec<IpAddr>| {
            let resolver = GuardedResolver {
                guard: Guard::default(),
                lookup: Arc::new(Fixed(found)),
            };
            resolver.resolve("a.example".parse().unwrap())
        };
        let tried: Vec<_> = resolve(vec![private, public]).await.unwrap().collect();
        assert_eq!(tried, [SocketAddr::new(public, 0)]);
        let refused = resolve(vec![private]).await.err().unwrap();
        assert_eq!(
            refused.downcast_ref::<Refused>(),
            Some(&Refused::Host("a.example".into()))
        );
    }
}
