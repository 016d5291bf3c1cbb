//! Ports of the loopback address.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

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

/// A port nobody listens on now. Someone may take it before it is used: be ready to ask again.
///
/// # Errors
/// When the system has no port left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
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
}
