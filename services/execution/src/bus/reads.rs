//! Reads: one invocation from its journal, lists from the read model, always under row level security.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::execution::{
    Counts, DeadLetter, DeadLetterListRequest, DeadLetterRequest, Empty, ExecutionStatusView, FeedRequest, Invocation,
    InvocationFilter, InvocationRequest, ListRequest, ShardView, Step, StepsRequest,
};
use mesh_api::journal::{JournalPage, Record};
use mesh_api::page::Page;
use mesh_types::{Code, InvocationId, Problem};

use crate::state::State;
use crate::steps::{self, Wanted};
use crate::store::{dead_letters, load, shards, summary};

/// Records of one feed page.
const FEED_PAGE: i64 = 200;
/// Below what a message may have.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) async fn get(state: &Arc<State>, caller: Caller, request: InvocationRequest) -> Result<Invocation, Problem> {
    state
        .router
        .read(&caller.tenant, request.id)
        .await?
        .ok_or_else(|| not_found(request.id))
}

pub(super) async fn list(
    state: &Arc<State>,
    caller: Caller,
    request: ListRequest,
) -> Result<Page<Invocation>, Problem> {
    let after = cursor(request.page.after.as_deref())?;
    let limit = request.page.limit();
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        summary::list(&mut *tx, &request.filter, after, limit).await
    };
    let items = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "list invocations"))?;
    Ok(Page::cut(items, limit, |invocation| invocation.id.to_string()))
}

pub(super) async fn counts(state: &Arc<State>, caller: Caller, filter: InvocationFilter) -> Result<Counts, Problem> {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        summary::counts(&mut *tx, &filter).await
    };
    read.await
        .map_err(|error| mesh_store::to_problem(error, "count invocations"))
}

pub(super) async fn steps(state: &Arc<State>, caller: Caller, request: StepsRequest) -> Result<Page<Step>, Problem> {
    let after: u32 = match request.page.after.as_deref() {
        None => 0,
        Some(text) => text.parse().map_err(|_| bad_cursor(text))?,
    };
    let wanted = Wanted {
        after,
        limit: request.page.limit(),
        bodies: request.bodies,
        bytes_max: ANSWER_BYTES_MAX,
    };
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        steps::page(&mut tx, request.id, wanted).await
    };
    let page = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read the steps"))?;
    page.ok_or_else(|| not_found(request.id))
}

pub(super) async fn feed(state: &Arc<State>, caller: Caller, request: FeedRequest) -> Result<JournalPage, Problem> {
    let mut records = records(state, &caller, request.invocation, request.after_seq, FEED_PAGE + 1).await?;
    let mut more = records.len() > usize::try_from(FEED_PAGE).unwrap_or(usize::MAX);
    records.truncate(usize::try_from(FEED_PAGE).unwrap_or(usize::MAX));
    let fit = fitting(&records);
    more |= fit < records.len();
    records.truncate(fit);
    Ok(JournalPage {
        tenant: caller.tenant,
        invocation: request.invocation,
        records,
        more,
    })
}

async fn records(
    state: &Arc<State>,
    caller: &Caller,
    id: InvocationId,
    after: u32,
    limit: i64,
) -> Result<Vec<Record>, Problem> {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        load::journal(&mut tx, id, after, limit).await
    };
    let records = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a journal"))?;
    if records.is_empty() && after == 0 {
        return Err(not_found(id));
    }
    Ok(records)
}

/// How many of them one answer holds, at least one.
pub(super) fn fitting<T: serde::Serialize>(items: &[T]) -> usize {
    let mut bytes = 0;
    let fits = |item: &&T| {
        bytes += serde_json::to_vec(item).map_or(0, |json| json.len());
        bytes <= ANSWER_BYTES_MAX
    };
    items.iter().take_while(fits).count().max(1)
}

pub(super) async fn dead_letters(
    state: &Arc<State>,
    caller: Caller,
    request: DeadLetterListRequest,
) -> Result<Page<DeadLetter>, Problem> {
    let after = cursor(request.page.after.as_deref())?;
    let limit = request.page.limit();
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        dead_letters::list(&mut *tx, after, request.all, limit).await
    };
    let items = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "list dead letters"))?;
    Ok(Page::cut(items, limit, |dead| dead.id.to_string()))
}

pub(super) async fn dead_letter(
    state: &Arc<State>,
    caller: Caller,
    request: DeadLetterRequest,
) -> Result<DeadLetter, Problem> {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        dead_letters::get(&mut *tx, request.id).await
    };
    let found = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a dead letter"))?;
    found.ok_or_else(|| Problem::new(Code::DeadLetterNotFound, format!("no dead letter {}", request.id)))
}

pub(super) async fn status(
    state: &Arc<State>,
    _caller: Caller,
    _request: Empty,
) -> Result<ExecutionStatusView, Problem> {
    let read = async {
        let feed_id = shards::feed_id(&state.readers).await?;
        let rows = shards::all(&state.readers).await?;
        Ok::<_, sqlx::Error>((feed_id, rows))
    };
    let (feed_id, rows) = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read the shards"))?;
    let shards: Vec<ShardView> = rows
        .iter()
        .map(|row| {
            let shard = row.id.cast_unsigned();
            let is_ours = row.owner == state.config.instance;
            let relayed = if is_ours {
                state.marks.get(shard)
            } else {
                row.relayed_batch
            };
            ShardView {
                shard,
                owner: row.owner.clone(),
                epoch: row.epoch.cast_unsigned(),
                batch: row.batch.cast_unsigned(),
                relayed_batch: relayed.cast_unsigned(),
            }
        })
        .collect();
    Ok(ExecutionStatusView {
        instance: state.config.instance.clone(),
        feed_id,
        relayed: shards.iter().all(|shard| shard.relayed_batch >= shard.batch) && !state.marks.is_deferring(),
        shards,
        open: state.open(),
        waiting_commands: state.waiting(),
    })
}

pub(super) fn cursor<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, Problem> {
    text.map(|text| text.parse().map_err(|_| bad_cursor(text))).transpose()
}

pub(super) fn bad_cursor(text: &str) -> Problem {
    let text: String = text.chars().take(64).collect();
    Problem::new(Code::InvalidRequest, format!("`{text}` is no cursor of this list"))
        .field("after")
        .next("pass `next` of the page before, or leave it out")
}

pub(super) fn not_found(id: InvocationId) -> Problem {
    Problem::new(Code::InvocationNotFound, format!("no invocation {id} in this tenant"))
        .next("`mesh invocations` lists them; check --tenant")
}
