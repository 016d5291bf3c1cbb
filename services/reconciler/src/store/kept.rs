//! The tables of what is kept, read whole, or one node's or one tenant's part.

use mesh_store::every_tenant_tx;
use mesh_types::fleet::Assignment;
use mesh_types::{AgentName, NodeId, Tenant};
use sqlx::PgPool;

use super::{leader, read_body, small};
use crate::core::{Kept, KeptNode, Replica};

/// Everything. Only who leads, under the epoch `leading`, may build on it: another one's commits may come between the
/// statements, and its own last one, whose answer was lost, may still be on its way. The leader's row waits for that.
pub(crate) async fn load(pool: &PgPool, leading: Option<u64>) -> Result<Kept, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    if let Some(epoch) = leading {
        leader::fence(&mut tx, epoch).await?;
    }
    let mut kept = Kept::default();
    let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM reconciler.replica")
        .fetch_all(&mut *tx)
        .await?;
    for body in bodies {
        let replica: Replica = read_body(&body)?;
        kept.replicas.insert(replica.id, replica);
    }
    let nodes: Vec<(String, String)> = sqlx::query_as("SELECT id, body FROM reconciler.node")
        .fetch_all(&mut *tx)
        .await?;
    for (id, body) in nodes {
        kept.nodes.insert(name::<NodeId>(&id)?, read_body(&body)?);
    }
    let agents: Vec<(String, String, String)> = sqlx::query_as("SELECT tenant, agent, body FROM reconciler.agent")
        .fetch_all(&mut *tx)
        .await?;
    for (tenant, agent, body) in agents {
        let key = (name::<Tenant>(&tenant)?, name::<AgentName>(&agent)?);
        kept.agents.insert(key, read_body(&body)?);
    }
    tx.commit().await?;
    Ok(kept)
}

fn name<T>(text: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// What one node is to run; generation 0 where it never had anything.
pub(crate) async fn assignment(pool: &PgPool, node: &NodeId) -> Result<Assignment, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    // One statement, so that generation and replicas are of one moment.
    let row: Option<(i64, i64, String, Vec<String>)> = sqlx::query_as(
        "SELECT n.generation, n.epoch, n.body, \
                ARRAY(SELECT r.body FROM reconciler.replica AS r WHERE r.node = n.id ORDER BY r.id) \
         FROM reconciler.node AS n WHERE n.id = $1",
    )
    .bind(node.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    let Some((generation, epoch, kept, bodies)) = row else {
        return Ok(Assignment::default());
    };
    let kept: KeptNode = read_body(&kept)?;
    let mut replicas = Vec::with_capacity(bodies.len());
    for body in bodies {
        replicas.push(read_body::<Replica>(&body)?.assigned());
    }
    Ok(Assignment {
        generation: small(generation),
        epoch: small(epoch),
        replicas,
        drained: kept.drained,
        others_max: kept.others_max,
    })
}
