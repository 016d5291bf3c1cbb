//! `postgresql.conf`, written whole at every start: durable, loopback only, small when idle.

use std::fmt::Write;
use std::path::Path;

use crate::account::Account;
use crate::{ServersError, files};

use super::PostgresOptions;

/// For every server.
const COMMON: [(&str, &str); 25] = [
    ("listen_addresses", "127.0.0.1"),
    // No socket file: its path would have to be short and open to us.
    ("unix_socket_directories", ""),
    ("max_connections", "100"),
    ("shared_buffers", "64MB"),
    ("work_mem", "4MB"),
    ("maintenance_work_mem", "64MB"),
    ("wal_buffers", "4MB"),
    ("wal_compression", "off"),
    ("min_wal_size", "80MB"),
    ("max_wal_size", "1GB"),
    ("checkpoint_timeout", "15min"),
    ("io_method", "sync"),
    ("max_parallel_workers_per_gather", "0"),
    ("max_logical_replication_workers", "0"),
    ("random_page_cost", "1.1"),
    // Statements are short: compiling them costs more than it gives.
    ("jit", "off"),
    ("password_encryption", "scram-sha-256"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("datestyle", "iso, mdy"),
    ("lc_messages", "C"),
    ("default_text_search_config", "pg_catalog.english"),
    ("log_line_prefix", "%m [%p] %u@%d "),
    ("log_checkpoints", "off"),
    ("logging_collector", "off"),
];

const DURABLE: [(&str, &str); 3] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
];

/// Commits still reach the system's memory before they are answered: a killed server loses
/// nothing, only a crashed machine does.
const FAST: [(&str, &str); 4] = [
    ("fsync", "off"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
];

/// The file's text.
pub(super) fn render(options: &PostgresOptions, port: u16) -> String {
    let given = options
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let durability = if options.fast_for_tests {
        &FAST[..]
    } else {
        &DURABLE[..]
    };
    let port = port.to_string();
    let all = COMMON.into_iter().chain(durability.iter().copied()).chain(given);
    let mut text = "# Written by mesh-servers at every start: changes here are lost.\n".to_owned();
    for (name, value) in all.chain([("port", port.as_str())]) {
        // The last of two lines for one setting counts.
        writeln!(text, "{name} = '{}'", value.replace('\'', "''")).expect("a String takes everything");
    }
    text
}

/// Writes the file, for the account that runs the server.
pub(super) fn write(data: &Path, text: &str, account: Option<&Account>) -> Result<(), ServersError> {
    let path = data.join("postgresql.conf");
    files::write_private(&path, text.as_bytes())?;
    account.map_or(Ok(()), |account| account.own(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_durable_unless_told_otherwise() {
        let mut options = PostgresOptions::new("/somewhere");
        let text = render(&options, 5433);
        assert!(text.contains("fsync = 'on'\n") && text.contains("synchronous_commit = 'on'\n"));
        assert!(text.contains("listen_addresses = '127.0.0.1'\n") && text.ends_with("port = '5433'\n"));
        options.fast_for_tests = true;
        assert!(render(&options, 5433).contains("fsync = 'off'\n"));
    }

    #[test]
    fn a_given_setting_has_the_last_word_and_stays_in_its_quotes() {
        let mut options = PostgresOptions::new("/somewhere");
        options.settings = vec![("jit".into(), "on'; fsync = 'off".into())];
        let text = render(&options, 1);
        assert!(
            text.find("jit = 'off'") < text.find("jit = 'on''; fsync = ''off'"),
            "{text}"
        );
    }
}
