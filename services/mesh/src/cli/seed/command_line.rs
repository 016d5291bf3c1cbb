//! What programs of this machine sign in with: the API key of `mesh`, and a context of the `nats` program
//! (https://github.com/nats-io/natscli: `$XDG_CONFIG_HOME/nats/context/<name>.json`, `context.txt` names the chosen one).

use std::path::Path;

use anyhow::Context as _;
use mesh_runtime::Context;
use serde_json::json;

use super::{SeedArgs, is_good};
use crate::cli::setup::{Belongs, Open, own, put};
use crate::up::ensure_api_key;

/// Name of the context.
const NAME: &str = "mesh";

/// An API key, as NATS wants it.
pub(super) struct Key {
    /// `key_…`: the user's name there.
    id: String,
    secret: String,
}

/// The key below `FOLDER/cli`; made where there is none, or none that is good.
pub(super) async fn key(context: &Context, args: &SeedArgs) -> anyhow::Result<Key> {
    let folder = args.folder.join("cli");
    ensure_api_key(context, &folder).await?;
    let path = folder.join("api-key");
    let secret = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let secret = secret.trim().to_owned();
    let principal = is_good(context, &secret).await?;
    let id = principal.context("the key that was just made is not good")?.id;
    own(&path, &Belongs::to(args.uid), 0o400)?;
    Ok(Key { id, secret })
}

/// Writes key and context for whoever uses this machine.
pub(super) async fn write_home(args: &SeedArgs, key: &Key) -> anyhow::Result<()> {
    let Some(home) = &args.home else {
        return Ok(());
    };
    let owner = match &args.owner_of {
        Some(path) => Belongs::as_of(path)?,
        None => Belongs::to_who_runs(),
    };
    let nats = home.join("nats");
    for folder in [home.clone(), nats.clone(), nats.join("context")] {
        make(&folder, &owner)?;
    }
    let context = context(&args.nats, key);
    let text = serde_json::to_vec_pretty(&context)?;
    put(&nats.join(format!("context/{NAME}.json")), &text, &owner, Open::Person)?;
    put(&nats.join("context.txt"), NAME.as_bytes(), &owner, Open::Person)?;
    put(
        &home.join("api-key"),
        format!("{}\n", key.secret).as_bytes(),
        &owner,
        Open::Person,
    )?;
    Ok(())
}

/// Answers come below an inbox of the key's own: nobody hears another's.
fn context(url: &str, key: &Key) -> serde_json::Value {
    json!({
        "description": "Agent Mesh of this machine",
        "url": url,
        "user": key.id,
        "password": key.secret,
        "inbox_prefix": format!("_INBOX.{}", key.id),
    })
}

fn make(folder: &Path, owner: &Belongs) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if Belongs::as_of(folder)? != *owner {
        own(folder, owner, 0o755)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_names_who_connects_and_where_answers_come() {
        let key = Key {
            id: "key_1".into(),
            secret: "mak_x".into(),
        };
        let context = context("nats://127.0.0.1:4222", &key);
        assert_eq!(context["user"], "key_1");
        assert_eq!(context["password"], "mak_x");
        assert_eq!(context["inbox_prefix"], "_INBOX.key_1");
    }
}
