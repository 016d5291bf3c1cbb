//! `memory-store`: taken for good once it is committed, with its vector or without; said again, it is counted.

use mesh_api::Caller;
use mesh_api::memory::{Memory, StoreRequest};
use mesh_runtime::MetricName;
use mesh_store::{IdExt, Outbox};
use mesh_types::event::Fact;
use mesh_types::{Code, MemoryId, Problem, Tenant};
use sqlx::PgConnection;

use super::database;
use crate::request::{body_hash, check_store, metadata_json, owner};
use crate::same::content_hash;
use crate::state::{State, not_found};
use crate::store::life::{self, Duplicates, Known, NewMemory};
use crate::store::{Row, embed_queue, memories};

const DOING: &str = "storing the memory";

pub(super) async fn handle(state: &State, caller: Caller, request: StoreRequest) -> Result<Memory, Problem> {
    check_store(&request)?;
    let embedded = state.embed_text(&caller.tenant, &request.content).await;
    let at = state.now();
    let lifetime = life::lifetime(&request, state.config.working_ttl());
    let new = NewMemory {
        id: request.id.unwrap_or_else(|| state.context.ids.next()),
        owner: owner(&request)?,
        metadata: metadata_json(&request)?,
        body_hash: body_hash(&request)?,
        content_hash: content_hash(request.kind, &request.content),
        vector: embedded
            .inspect_err(|error| tracing::warn!(%error, "a memory is stored without its vector"))
            .ok(),
        at,
        expires_at: lifetime.map(|lifetime| at.plus(lifetime)),
        request: &request,
    };
    let taken = Taking {
        state,
        caller: &caller,
        new: &new,
    };
    let memory = taken.take().await?;
    let expires_soon = |at| at <= new.at.plus(state.config.expire_tick());
    if memory.expires_at.is_some_and(expires_soon) {
        state.expire_bell.ring();
    }
    if !memory.embedded {
        state.embed_bell.ring();
    }
    Ok(memory)
}

/// One store on its way into the database.
struct Taking<'a> {
    state: &'a State,
    caller: &'a Caller,
    new: &'a NewMemory<'a>,
}

impl Taking<'_> {
    fn tenant(&self) -> &Tenant {
        &self.caller.tenant
    }

    async fn take(&self) -> Result<Memory, Problem> {
        let (state, new, tenant) = (self.state, self.new, self.tenant());
        let mut tx = life::begin(&state.pool, tenant, new).await.map_err(database(DOING))?;
        let duplicates = if state.config.deduplicate {
            Duplicates::Merge
        } else {
            Duplicates::Keep
        };
        let known = life::look(&mut tx, tenant, new, duplicates)
            .await
            .map_err(database(DOING))?;
        if known.body_hash.is_some() || known.is_forgotten {
            return self.repeated(&mut tx, &known).await;
        }
        let same = known.same.map(IdExt::from_uuid);
        let related = self.related(&mut tx, same).await?;
        let seen = match same {
            Some(same) => life::see_again(&mut tx, tenant, same, new)
                .await
                .map_err(database(DOING))?,
            None => None,
        };
        let (is_new, row) = match seen {
            Some(row) => (false, row),
            None => (true, self.insert(&mut tx).await?),
        };
        let memory: Memory = row.try_into()?;
        if !is_new {
            let fact = Fact::MemoryChanged {
                memory: memory.id,
                agent: memory.agent.clone(),
                version: memory.version,
            };
            self.tell(&mut tx, fact).await?;
        }
        self.relate(&mut tx, memory.id, &related).await?;
        tx.commit().await.map_err(database(DOING))?;
        state.outbox_bell.ring();
        if is_new {
            let stored = state.context.metrics.counter(MetricName::MemoriesStored);
            stored.add(1, &[("type", new.request.kind.as_str())]);
        }
        Ok(memory)
    }

    /// The id is taken: the same body gets the memory as it is now, another one is refused.
    async fn repeated(&self, tx: &mut PgConnection, known: &Known) -> Result<Memory, Problem> {
        let id = self.new.id;
        if known.is_forgotten {
            return Err(conflict(id, "was forgotten, or its time was over").next("store it under a new id"));
        }
        if known.body_hash.as_deref() != Some(&self.new.body_hash) {
            return Err(conflict(id, "has another body").next("store it under a new id, or change the memory"));
        }
        let row = memories::get(tx, self.tenant(), id, self.new.at)
            .await
            .map_err(database(DOING))?;
        // Its time is over, and it is about to be deleted.
        row.ok_or_else(|| not_found(id))?.try_into()
    }

    async fn insert(&self, tx: &mut PgConnection) -> Result<Row, Problem> {
        let (state, new) = (self.state, self.new);
        let fact = Fact::MemoryStored {
            memory: new.id,
            agent: new.request.agent.clone(),
        };
        let event = state.event_of(self.caller, fact);
        let mut row = life::insert(tx, self.tenant(), new, &event)
            .await
            .map_err(database(DOING))?;
        if new.vector.is_none() {
            let next_at = new.at.plus(state.config.embed_retry(1));
            embed_queue::put(tx, self.tenant(), new.id, next_at)
                .await
                .map_err(database(DOING))?;
            row.waits();
        }
        Ok(row)
    }

    /// The memories that this one replaces or was made of, locked; each that is not there is refused by its field.
    async fn related(&self, tx: &mut PgConnection, same: Option<MemoryId>) -> Result<Related, Problem> {
        let request = self.new.request;
        if request.supersedes.is_empty() && request.derived_from.is_empty() {
            return Ok(Related::default());
        }
        let ids = [request.supersedes.as_slice(), request.derived_from.as_slice()].concat();
        let found = life::named(tx, self.tenant(), self.new, &ids, same)
            .await
            .map_err(database(DOING))?;
        let mut related = Related::default();
        for (index, (id, found)) in ids.iter().zip(found).enumerate() {
            let (field, index, into) = match index.checked_sub(request.supersedes.len()) {
                None => ("supersedes", index, &mut related.supersedes),
                Some(index) => ("derived_from", index, &mut related.derived_from),
            };
            let missing = || {
                not_found(*id)
                    .field(format!("{field}[{index}]"))
                    .next("leave it out: it was never stored for this agent, or is forgotten")
            };
            into.push(found.ok_or_else(missing)?);
        }
        Ok(related)
    }

    async fn relate(&self, tx: &mut PgConnection, id: MemoryId, related: &Related) -> Result<(), Problem> {
        let (tenant, at) = (self.tenant(), self.new.at);
        if !related.derived_from.is_empty() {
            life::derive(tx, tenant, id, &related.derived_from)
                .await
                .map_err(database(DOING))?;
        }
        if related.supersedes.is_empty() {
            return Ok(());
        }
        let replaced = life::supersede(tx, tenant, &related.supersedes, id, at)
            .await
            .map_err(database(DOING))?;
        for (memory, agent) in replaced {
            let agent = agent.parse()?;
            self.tell(tx, Fact::MemorySuperseded { memory, agent, by: id }).await?;
        }
        Ok(())
    }

    async fn tell(&self, tx: &mut PgConnection, fact: Fact) -> Result<(), Problem> {
        let event = self.state.event_of(self.caller, fact);
        Outbox::MEMORY.append(tx, &event).await.map_err(database(DOING))
    }
}

/// Ids of memories themselves, none that leads to another.
#[derive(Debug, Default)]
struct Related {
    supersedes: Vec<MemoryId>,
    derived_from: Vec<MemoryId>,
}

fn conflict(id: MemoryId, what: &str) -> Problem {
    Problem::new(Code::MemoryConflict, format!("memory `{id}` {what}")).field("id")
}
