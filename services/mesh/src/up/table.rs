//! What a person sees when the mesh is up: where it is, and what to do next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_runtime::config::{Environment, process_environment};
use mesh_servers::HomeState;
use serde_json::json;

use crate::output::{Output, Table, took};

use super::credentials::api_key_path;

/// How this mesh is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    CtrlC,
    Down,
}

pub(super) fn print(state: &HomeState, home: &Path, since: Duration, stop: Stop, output: Output) -> anyhow::Result<()> {
    let key = key_file(state, home)?;
    let value = json!({
        "pid": state.pid, "http": state.http, "nats": state.nats, "database": state.database, "home": home,
        "api_key": key,
    });
    output.show(&value, || {
        output.line(&output.bold(&format!("Agent Mesh is up in {} (process {})", took(since), state.pid)))?;
        let mut table = Table::new(output, &["WHAT", "WHERE"]);
        table.row(["Web, API".to_owned(), state.http.clone()]);
        table.row(["API, to read and try".to_owned(), format!("{}/docs", state.http)]);
        table.row(["NATS".to_owned(), without_password(&state.nats)]);
        table.row(["PostgreSQL".to_owned(), without_password(&state.database)]);
        table.row(["Data, log".to_owned(), home.display().to_string()]);
        if let Some(key) = &key {
            table.row(["API key".to_owned(), key.display().to_string()]);
        }
        table.print()?;
        let how = match stop {
            Stop::CtrlC => "Ctrl-C stops it; in another terminal try",
            Stop::Down => "mesh down stops it; try",
        };
        output.line(&format!("{how}: mesh invoke sofia \"hello\""))
    })
}

/// Where the key is that this mesh demands; one that an earlier start left means nothing where nothing is demanded.
fn key_file(state: &HomeState, home: &Path) -> anyhow::Result<Option<PathBuf>> {
    let environment = Environment::read(&process_environment())?;
    let is_ours = environment.nats_url.is_none();
    let are_demanded = environment.requires_credentials || (is_ours && has_user(&state.nats));
    let path = api_key_path(home);
    Ok((are_demanded && path.is_file()).then_some(path))
}

/// A nats-server of ours has users where credentials are demanded, only there.
fn has_user(url: &str) -> bool {
    without_user(url) != url
}

/// The address as it may be shown.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!(
                "{scheme}://{user}:***@{host}{}",
                path.split('?').next().unwrap_or_default()
            )
        }
        None => url.to_owned(),
    }
}

/// The address alone.
pub(crate) fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_shown_where_it_is_demanded_only() {
        let home = tempfile::tempdir().unwrap();
        let state = |nats: &str| HomeState {
            pid: 1,
            http: "http://127.0.0.1:8000".into(),
            nats: nats.into(),
            database: "postgres://127.0.0.1/mesh".into(),
            monitor: None,
        };
        let (open, closed) = (state("nats://127.0.0.1:4222"), state("nats://mesh:p@127.0.0.1:4222"));
        assert_eq!(key_file(&closed, home.path()).unwrap(), None);
        let path = home.path().join("api-key");
        std::fs::write(&path, "mak_x\n").unwrap();
        assert_eq!(key_file(&closed, home.path()).unwrap(), Some(path));
        assert_eq!(key_file(&open, home.path()).unwrap(), None);
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = without_password("postgres://mesh:p@ss@127.0.0.1:5433/mesh?password=x");
        assert_eq!(shown, "postgres://mesh:***@127.0.0.1:5433/mesh");
        assert_eq!(
            without_password("postgres://127.0.0.1/mesh"),
            "postgres://127.0.0.1/mesh"
        );
    }
}
