//! The join token of each node of the installation: good for that node alone.

use mesh_api::identity::{JoinTokenCreate, JoinTokenRequest};
use mesh_runtime::Context;
use mesh_types::{NodeId, Tenant};

use super::{SeedArgs, is_good};
use crate::cli::setup::{Belongs, Open, file, put};

/// A node whose state is lost joins with it again; a later seed makes a new one where this one has ended.
const LIFE_SECONDS: u64 = 366 * 86_400;

pub(super) async fn ensure_token(context: &Context, args: &SeedArgs, node: &NodeId) -> anyhow::Result<()> {
    let path = file(&args.folder, node.as_str(), "token");
    if let Ok(token) = std::fs::read_to_string(&path)
        && is_good(context, token.trim()).await?.is_some()
    {
        return Ok(());
    }
    let request = JoinTokenRequest {
        owner: Some("admin".into()),
        expires_in_seconds: Some(LIFE_SECONDS),
        uses_max: None,
        node_id: Some(node.clone()),
    };
    let caller = context.caller(Tenant::default());
    let made = context.bus.call::<JoinTokenCreate>(&caller, &request).await?;
    put(&path, made.secret.as_bytes(), &Belongs::to(args.uid), Open::Owner)?;
    Ok(())
}
