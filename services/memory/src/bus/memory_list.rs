//! `memory-list`: pages, newest first.

use mesh_api::Caller;
use mesh_api::memory::{ListMemories, Memory};
use mesh_api::page::Page;
use mesh_store::tenant_tx;
use mesh_types::{Code, Problem, Timestamp};

use super::database;
use crate::request::check_list;
use crate::state::State;
use crate::store::memories::{self, Place};

const DOING: &str = "listing memories";

pub(super) async fn handle(state: &State, caller: Caller, request: ListMemories) -> Result<Page<Memory>, Problem> {
    check_list(&request)?;
    let after = request.after.as_deref().map(place).transpose()?;
    let mut tx = tenant_tx(&state.pool, &caller.tenant).await.map_err(database(DOING))?;
    let (rows, more) = memories::list(&mut tx, &caller.tenant, &request, after, state.now())
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    let items: Vec<Memory> = rows.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    let next = if more { items.last().map(cursor) } else { None };
    Ok(Page { items, next })
}

fn cursor(last: &Memory) -> String {
    format!("{}-{}", last.created_at.as_micros(), last.id)
}

fn place(cursor: &str) -> Result<Place, Problem> {
    let parse = || {
        let (micros, id) = cursor.split_once('-')?;
        Some(Place {
            created_at: Timestamp::from_micros(micros.parse().ok()?),
            id: id.parse().ok()?,
        })
    };
    parse().ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "this is no place in a list of memories")
            .field("after")
            .next("pass `next` of the page before, as it came")
    })
}

#[cfg(test)]
mod tests {
    use mesh_types::{Id, MemoryId};

    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place_and_another_text_nowhere() {
        let id = MemoryId::from_u128(7);
        let created_at = Timestamp::from_micros(1_795_258_800_000_001);
        let text = format!("{}-{id}", created_at.as_micros());
        assert_eq!(place(&text).unwrap(), Place { created_at, id });
        for text in [
            "",
            "1",
            "-",
            "x-y",
            "1-mem_",
            "99999999999999999999-mem_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ] {
            assert_eq!(place(text).unwrap_err().field.as_deref(), Some("after"), "{text}");
        }
    }
}
