//! The tickets that this service gives to nodes. Every process and every start of it makes the same, since the key
//! belongs to the installation; whoever else checks one asks for its public half.

use std::sync::Arc;

use mesh_api::node::{Ticket, TicketKey};
use mesh_runtime::{Roads, TicketSigner};
use mesh_types::{Code, NodeId, Problem, Timestamp};
use sqlx::PgPool;
use tokio::sync::OnceCell;

use crate::core::Meta;
use crate::store::nodes;

pub(crate) struct Tickets {
    pool: PgPool,
    signer: OnceCell<TicketSigner>,
    roads: Arc<Roads>,
}

impl Tickets {
    pub(crate) fn new(pool: PgPool, roads: Arc<Roads>) -> Self {
        Self {
            pool,
            signer: OnceCell::new(),
            roads,
        }
    }

    /// # Errors
    /// `Unavailable` while the database cannot be read for the first time.
    pub(crate) async fn make(
        &self,
        node: &NodeId,
        meta: &Meta,
        epoch: u32,
        issued_at: Timestamp,
    ) -> Result<Ticket, Problem> {
        let mut ticket = Ticket {
            tenant: meta.tenant.clone(),
            agent: meta.agent.clone(),
            invocation: meta.id,
            shard: meta.shard,
            epoch,
            issued_at,
            signature: String::new(),
        };
        self.signer().await?.sign(node, &mut ticket);
        Ok(ticket)
    }

    /// # Errors
    /// `Forbidden`: it was never given to that node, which is noted. `Unavailable` as above.
    pub(crate) async fn check(&self, node: &NodeId, endpoint: &str, ticket: &Ticket) -> Result<(), Problem> {
        self.signer().await?;
        self.roads.check(node, endpoint, ticket).await
    }

    /// # Errors
    /// `Unavailable` as above.
    pub(crate) async fn key(&self) -> Result<TicketKey, Problem> {
        let public = self.signer().await?.public();
        Ok(TicketKey { public })
    }

    async fn signer(&self) -> Result<&TicketSigner, Problem> {
        let read = async || {
            let seed = nodes::grant_key(&self.pool).await;
            let seed = seed.map_err(|error| mesh_store::to_problem(error, "read the key of tickets"))?;
            let signer = TicketSigner::from_seed(&seed);
            let signer = signer.ok_or_else(|| Problem::new(Code::Internal, "the key of tickets is none"))?;
            self.roads.know(signer.verifier());
            Ok(signer)
        };
        self.signer.get_or_try_init(read).await
    }
}
