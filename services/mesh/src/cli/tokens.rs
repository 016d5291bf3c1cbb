//! `mesh tokens`: what nodes join with.

use clap::{Args, Subcommand};
use mesh_api::Page;
use mesh_api::identity::{JoinTokenCreated, JoinTokenRequest, JoinTokenView};
use mesh_types::agent::Span;
use mesh_types::{NodeId, Token};
use serde_json::json;

use super::Session;
use super::get::nothing;
use super::keys::state;
use crate::client::Client;
use crate::output::{Output, Table, age, now};

/// List the tokens that nodes join with
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    action: Option<TokensAction>,
    /// At most so many
    #[arg(short, long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum TokensAction {
    /// Make a token, and show the command that joins a node with it; its secret is shown this once
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Who owns the nodes that join with it [default: you]
        #[arg(long, value_name = "OWNER")]
        owner: Option<Token>,
        /// How long nodes may join with it, such as 30m or 7d [default: 24h]
        #[arg(long, value_name = "TIME")]
        expires: Option<Span>,
        /// How many nodes may join with it [default: any number]
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// Only the node of this id may join with it
        #[arg(long, value_name = "ID")]
        node: Option<NodeId>,
    },
    /// Revoke tokens: nobody joins with them any more, and those that did stay
    #[command(after_help = "Examples:\n  mesh tokens revoke jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Revoke {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<Token>,
    },
}

const EXAMPLES: &str = "Examples:
  mesh tokens
  mesh tokens create --uses 1 --expires 1h
  mesh tokens revoke jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV

`mesh keys revoke NODE` cuts off a node that has joined.";

const CREATE_EXAMPLES: &str = "Examples:
  mesh tokens create
  mesh tokens create --owner ann --uses 3 --expires 7d
  mesh tokens create --node kitchen
  mesh tokens create --json | jq -r .secret";

pub(crate) async fn run(args: TokensArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    match args.action {
        None => list(&client, output, args.limit as usize).await,
        Some(TokensAction::Create {
            owner,
            expires,
            uses,
            node,
        }) => {
            let request = JoinTokenRequest {
                owner: owner.map(|owner| owner.to_string()),
                expires_in_seconds: expires.map(|expires| expires.0.as_secs()),
                uses_max: uses,
                node_id: node,
            };
            create(&client, output, &request).await
        }
        Some(TokensAction::Revoke { ids }) => revoke(&client, output, ids).await,
    }
}

async fn list(client: &Client, output: Output, limit: usize) -> anyhow::Result<()> {
    let page: Page<JoinTokenView> = client.list("/api/v1/join-tokens", &[], limit).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            nothing(output)?;
            output.note("mesh tokens create makes one");
            return Ok(());
        }
        let mut table = Table::new(output, &["TOKEN", "OWNER", "NODE", "USES", "AGE", "STATE"]);
        let now = now();
        for token in &page.items {
            let of = token.uses_max.map_or_else(String::new, |most| format!(" of {most}"));
            table.row([
                token.id.clone(),
                token.owner.clone(),
                token
                    .node_id
                    .as_ref()
                    .map_or_else(|| "any".to_owned(), NodeId::to_string),
                format!("{}{of}", token.uses),
                age(token.created_at, now),
                state(output, token.revoked_at, Some(token.expires_at), now),
            ]);
        }
        table.print()
    })
}

async fn create(client: &Client, output: Output, request: &JoinTokenRequest) -> anyhow::Result<()> {
    let created: JoinTokenCreated = client.post("/api/v1/join-tokens", request).await?;
    output.show(&created, || {
        let JoinTokenCreated { join_token, secret } = &created;
        output.line(&format!("mesh node --url {} --token {secret}", client.base()))?;
        let uses = join_token
            .uses_max
            .map_or_else(String::new, |most| format!(", for at most {most} joining"));
        output.note(&format!(
            "{} of {}, good until {}{uses}; it is shown this once",
            join_token.id, join_token.owner, join_token.expires_at
        ));
        output.note("run this on the machine that is to join");
        Ok(())
    })
}

async fn revoke(client: &Client, output: Output, ids: Vec<Token>) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for id in ids {
        let path = format!("/api/v1/join-tokens/{id}/revoke");
        let token: JoinTokenView = client.post(&path, &json!({})).await?;
        if output.is_table() {
            output.line(&format!("{id} of {} is revoked", token.owner))?;
        }
        done.push(token);
    }
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}
