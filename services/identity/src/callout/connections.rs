//! Which connections somebody has, as far as this process let them in. Bounded; a connection that is not known here
//! ends when its time is over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The newest connections of one name; a node has one, and a second one for a moment, a key one for each program.
const OF_ONE_MAX: usize = 64;
const NAMES_MAX: usize = 200_000;

/// One connection of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The server's id (`N…`).
    pub(crate) server: String,
    /// The connection's number there.
    pub(crate) client: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    of: Mutex<HashMap<String, VecDeque<Connection>>>,
}

impl Connections {
    pub(crate) fn note(&self, id: &str, connection: Connection) {
        let mut of = self.of();
        if of.len() >= NAMES_MAX && !of.contains_key(id) {
            return;
        }
        let known = of.entry(id.to_owned()).or_default();
        known.push_back(connection);
        if known.len() > OF_ONE_MAX {
            known.pop_front();
        }
    }

    pub(crate) fn take(&self, id: &str) -> Vec<Connection> {
        self.of().remove(id).unwrap_or_default().into()
    }

    fn of(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Connection>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_connections_of_a_name_are_known_once() {
        let connections = Connections::default();
        for client in 0..66 {
            let server = "N1".to_owned();
            connections.note("kitchen", Connection { server, client });
        }
        let clients: Vec<_> = connections.take("kitchen").iter().map(|one| one.client).collect();
        assert_eq!(clients, (2..66).collect::<Vec<_>>());
        assert!(connections.take("kitchen").is_empty());
    }
}
