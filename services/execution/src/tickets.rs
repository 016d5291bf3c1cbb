//! Tickets: what a node shows with each request for an invocation. Only `execution` can make one, and every process
//! and every start of it knows its own again, since the key belongs to the installation.

use hmac::{Hmac, KeyInit, Mac};
use mesh_api::node::Ticket;
use mesh_types::{Code, Id, InvocationId, NodeId, Problem, Tenant};
use sha2::Sha256;
use sqlx::PgPool;
use tokio::sync::OnceCell;

use crate::shards::ShardId;
use crate::store::nodes;

pub(crate) struct Tickets {
    pool: PgPool,
    key: OnceCell<Vec<u8>>,
}

impl Tickets {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            key: OnceCell::new(),
        }
    }

    /// # Errors
    /// `Unavailable` while the database cannot be read for the first time.
    pub(crate) async fn make(
        &self,
        node: &NodeId,
        tenant: &Tenant,
        invocation: InvocationId,
        shard: ShardId,
        epoch: u32,
    ) -> Result<Ticket, Problem> {
        let mut ticket = Ticket {
            tenant: tenant.clone(),
            invocation,
            shard,
            epoch,
            signature: String::new(),
        };
        let mac = self.mac(node, &ticket).await?;
        ticket.signature = hex::encode(mac.finalize().into_bytes());
        Ok(ticket)
    }

    /// # Errors
    /// `Forbidden`: it was never given to that node. `Unavailable` as above.
    pub(crate) async fn check(&self, node: &NodeId, ticket: &Ticket) -> Result<(), Problem> {
        let forbidden = || {
            let detail = format!("the ticket for {} was not given to node {node}", ticket.invocation);
            Problem::new(Code::Forbidden, detail)
        };
        let signature = hex::decode(&ticket.signature).map_err(|_| forbidden())?;
        let mac = self.mac(node, ticket).await?;
        // In constant time.
        mac.verify_slice(&signature).map_err(|_| forbidden())
    }

    async fn mac(&self, node: &NodeId, ticket: &Ticket) -> Result<Hmac<Sha256>, Problem> {
        let read = || nodes::grant_key(&self.pool);
        let key = self.key.get_or_try_init(read).await;
        let key = key.map_err(|error| mesh_store::to_problem(error, "read the key of tickets"))?;
        Ok(mac(key, node, ticket))
    }
}

fn mac(key: &[u8], node: &NodeId, ticket: &Ticket) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    // Names are tokens: none of them holds a line break.
    mac.update(b"grant\n");
    mac.update(node.as_str().as_bytes());
    mac.update(b"\n");
    mac.update(ticket.tenant.as_str().as_bytes());
    mac.update(b"\n");
    mac.update(&ticket.invocation.as_u128().to_be_bytes());
    mac.update(&ticket.shard.to_be_bytes());
    mac.update(&ticket.epoch.to_be_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            tenant: Tenant::default(),
            invocation: InvocationId::from_u128(7),
            shard: 3,
            epoch: 1,
            signature: String::new(),
        }
    }

    #[test]
    fn a_signature_is_of_all_that_the_ticket_says() {
        let node: NodeId = "n1".parse().unwrap();
        let of =
            |key: &[u8], node: &NodeId, ticket: &Ticket| hex::encode(mac(key, node, ticket).finalize().into_bytes());
        let first = of(b"key", &node, &ticket());
        assert_eq!(first, of(b"key", &node, &ticket()));
        assert_ne!(first, of(b"yek", &node, &ticket()));
        assert_ne!(first, of(b"key", &"n2".parse().unwrap(), &ticket()));
        let others = [
            Ticket {
                tenant: "t".parse().unwrap(),
                ..ticket()
            },
            Ticket {
                invocation: InvocationId::from_u128(8),
                ..ticket()
            },
            Ticket { shard: 4, ..ticket() },
            Ticket { epoch: 2, ..ticket() },
        ];
        assert!(others.iter().all(|other| of(b"key", &node, other) != first));
    }
}
