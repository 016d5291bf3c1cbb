//! What a person sees when the mesh is up: where it is, and what to do next.

use std::path::Path;
use std::time::Duration;

use mesh_servers::HomeState;
use serde_json::json;

use crate::output::{Output, Table, took};

/// How this mesh is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    CtrlC,
    Down,
}

pub(super) fn print(state: &HomeState, home: &Path, since: Duration, stop: Stop, output: Output) -> anyhow::Result<()> {
    let value = json!({
        "pid": state.pid, "http": state.http, "nats": state.nats, "database": state.database, "home": home,
    });
    output.show(&value, || {
        output.line(&output.bold(&format!("Agent Mesh is up in {} (process {})", took(since), state.pid)))?;
        let mut table = Table::new(output, &["WHAT", "WHERE"]);
        table.row(["Web, API".to_owned(), state.http.clone()]);
        table.row(["API, to read and try".to_owned(), format!("{}/docs", state.http)]);
        table.row(["NATS".to_owned(), without_password(&state.nats)]);
        table.row(["PostgreSQL".to_owned(), without_password(&state.database)]);
        table.row(["Data, log".to_owned(), home.display().to_string()]);
        table.print()?;
        let how = match stop {
            Stop::CtrlC => "Ctrl-C stops it; in another terminal try",
            Stop::Down => "mesh down stops it; try",
        };
        output.line(&format!("{how}: mesh invoke sofia \"hello\""))
    })
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
    fn a_password_is_not_shown() {
        let shown = without_password("postgres://mesh:p@ss@127.0.0.1:5433/mesh?password=x");
        assert_eq!(shown, "postgres://mesh:***@127.0.0.1:5433/mesh");
        assert_eq!(
            without_password("postgres://127.0.0.1/mesh"),
            "postgres://127.0.0.1/mesh"
        );
    }
}
