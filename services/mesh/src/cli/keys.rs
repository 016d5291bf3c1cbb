//! `mesh keys`: API keys, listed, made, revoked.

use clap::{Args, Subcommand};
use mesh_api::Page;
use mesh_api::identity::{KeyCreated, KeyRequest, KeyView};
use mesh_types::agent::Span;
use mesh_types::{Timestamp, Token};
use serde_json::json;

use super::Session;
use super::get::nothing;
use super::users::RoleName;
use crate::client::Client;
use crate::output::{Mood, Output, Table, age, now};

/// List API keys: your own, or all of the tenant for its administrator
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    action: Option<KeysAction>,
    /// At most so many
    #[arg(short, long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum KeysAction {
    /// Make a key; its secret is shown this once
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Whom it stands for; `admin` sees and makes the keys of everybody in its tenant
        #[arg(long, value_name = "OWNER")]
        owner: Token,
        /// What it is for
        #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
        name: String,
        /// How long it is good, such as 90d or 12h [default: for ever]
        #[arg(long, value_name = "TIME")]
        expires: Option<Span>,
        /// What it may do, never more than you [default: developer, or what you are]
        #[arg(long, value_enum)]
        role: Option<RoleName>,
        /// Narrows the role: memories:read, agents:write and so on; may be repeated [default: all that the role may]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
    /// Revoke keys, or the secrets of nodes: they are refused within ten seconds
    #[command(
        after_help = "Examples:\n  mesh keys revoke key_01ARZ3NDEKTSV4RRFFQ69G5FAV\n  mesh keys revoke kitchen      the secret \
                      of a node that was stolen: it is cut off"
    )]
    Revoke {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<Token>,
    },
}

const EXAMPLES: &str = "Examples:
  mesh keys
  mesh keys create --owner ann --name laptop --expires 90d
  mesh keys revoke key_01ARZ3NDEKTSV4RRFFQ69G5FAV

Keys are demanded where the mesh runs with MESH_REQUIRE_CREDENTIALS=1; the command line takes its own from MESH_API_KEY,
else from MESH_HOME/api-key, which `mesh up` makes.";

const CREATE_EXAMPLES: &str = "Examples:
  mesh keys create --owner ann
  mesh keys create --owner ci --name pipeline --expires 30d --role service
  mesh keys create --owner board --role viewer --scope invocations:read
  mesh keys create --owner admin --tenant daarion      the first key of another tenant
  MESH_API_KEY=$(mesh keys create --owner ann --json | jq -r .secret) mesh invoke sofia hello";

pub(crate) async fn run(args: KeysArgs, session: &Session) -> anyhow::Result<()> {
    let output = session.output;
    match args.action {
        None => list(&session.client()?, output, args.limit as usize).await,
        Some(KeysAction::Create {
            owner,
            name,
            expires,
            role,
            scopes,
        }) => {
            let request = KeyRequest {
                owner: owner.to_string(),
                name,
                expires_in_seconds: expires.map(|expires| expires.0.as_secs()),
                tenant: session.tenant().cloned(),
                role: role.map(Into::into),
                scopes,
            };
            // The tenant is the new key's; who asks is of his own.
            create(&session.client()?.for_tenant(None), output, &request).await
        }
        Some(KeysAction::Revoke { ids }) => revoke(&session.client()?, output, ids).await,
    }
}

async fn list(client: &Client, output: Output, limit: usize) -> anyhow::Result<()> {
    let page: Page<KeyView> = client.list("/api/v1/keys", &[], limit).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            nothing(output)?;
            output.note("mesh keys create --owner NAME makes one");
            return Ok(());
        }
        let mut table = Table::new(output, &["KEY", "OWNER", "ROLE", "NAME", "AGE", "USED", "STATE"]);
        let now = now();
        for key in &page.items {
            table.row([
                key.id.clone(),
                key.owner.clone(),
                may(key),
                key.name.clone(),
                age(key.created_at, now),
                key.last_used_at
                    .map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at, now))),
                state(output, key.revoked_at, key.expires_at, now),
            ]);
        }
        table.print()
    })
}

async fn create(client: &Client, output: Output, request: &KeyRequest) -> anyhow::Result<()> {
    let created: KeyCreated = client.post("/api/v1/keys", request).await?;
    output.show(&created, || {
        let KeyCreated { key, secret } = &created;
        output.line(secret)?;
        let until = key
            .expires_at
            .map_or_else(String::new, |at| format!(", good until {at}"));
        output.note(&format!(
            "{} of {} in tenant {}{until}; it is shown this once",
            key.id, key.owner, key.tenant
        ));
        output.note("use it as MESH_API_KEY, or as the header X-Service-API-Key");
        Ok(())
    })
}

async fn revoke(client: &Client, output: Output, ids: Vec<Token>) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for id in ids {
        let key: KeyView = client.post(&format!("/api/v1/keys/{id}/revoke"), &json!({})).await?;
        if output.is_table() {
            output.line(&format!("{id} of {} is revoked", key.owner))?;
        }
        done.push(key);
    }
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}

/// The role, and what narrows it.
fn may(key: &KeyView) -> String {
    let role = key.role.map_or("node", mesh_api::Role::as_str);
    if key.scopes.is_empty() {
        return role.to_owned();
    }
    format!("{role}: {}", key.scopes.join(" "))
}

/// What has become of a credential.
pub(super) fn state(
    output: Output,
    revoked_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> String {
    match (revoked_at, expires_at) {
        (Some(_), _) => output.mood(Mood::Doubtful, "revoked"),
        (None, Some(at)) if at <= now => output.mood(Mood::Doubtful, "expired"),
        // The age of what is still to come, seen from there.
        (None, Some(at)) => format!("{} left", age(now, at)),
        (None, None) => "good".to_owned(),
    }
}
