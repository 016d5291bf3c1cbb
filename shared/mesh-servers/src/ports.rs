//! Ports of the loopback address.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ServersError;

/// Refuses a port that someone listens on; `variable` is what the error tells to change.
///
/// # Errors
/// [`ServersError::PortBusy`]; another one for a port this user may not bind.
pub fn check_free(port: u16, variable: &'static str) -> Result<(), ServersError> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ServersError::PortBusy { port, variable }),
        Err(error) => {
            let address = PathBuf::from(format!("127.0.0.1:{port}"));
            Err(ServersError::io("listen on", &address)(error))
        }
    }
}

/// First of the ports that [`free_port`] gives; below those that systems hand out for connections (from 32,768 on Linux),
/// so that no connection takes one between choice and use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of loopback that nobody listens on, and that this process was not given before: whoever has one may stop its
/// server and start it again. Processes begin at random places, so another one rarely takes it before it is used.
///
/// # Errors
/// When none is left.
pub fn free_port() -> io::Result<u16> {
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU64::new(RandomState::new().hash_one("port") % u64::from(COUNT)));
    (0..COUNT)
        .map(|_| next.fetch_add(1, Ordering::Relaxed) % u64::from(COUNT))
        .map(|offset| FIRST + u16::try_from(offset).unwrap_or_default())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::AddrInUse,
                "no port of 127.0.0.1 from 20000 to 31999 is free",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_names_the_variable_to_change() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check_free(port, "MESH_NATS_PORT").unwrap_err().to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("MESH_NATS_PORT"),
            "{error}"
        );
        drop(listener);
        check_free(port, "MESH_NATS_PORT").unwrap();
    }
    #[test]
    fn no_port_is_given_twice() {
        let mut all: Vec<_> = (0..200).map(|_| free_port().unwrap()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
        assert!(all.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)));
    }
}
