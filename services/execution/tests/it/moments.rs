//! What is told of an invocation besides its steps: who held it, what it waited for, and who decided.

use std::time::Duration;

use mesh_api::history::{Happened, HistoryRequest, InvocationHistory, Moment};
use mesh_api::journal::{Outcome, WaitOn};
use mesh_api::steering::{ApprovalDecide, DecideRequest, Decision};
use mesh_api::{Page, PageQuery};
use mesh_testkit::wait_until;
use mesh_types::{Code, Id as _, InvocationId, Problem};
use serde_json::json;

use crate::forks::{Ledger, caller};
use crate::mesh::{Mesh, SOON, request};

impl Mesh {
    async fn history(&self, id: InvocationId, page: PageQuery) -> Result<Page<Moment>, Problem> {
        self.ask::<InvocationHistory>(HistoryRequest { id, page }).await
    }

    async fn moments(&self, id: InvocationId) -> Vec<Happened> {
        let page = self.history(id, PageQuery::default()).await.unwrap();
        page.items.into_iter().map(|moment| moment.what).collect()
    }
}

#[tokio::test]
async fn a_history_tells_who_held_it_what_it_waited_for_and_who_decided() {
    let (mesh, _process) = Mesh::start().await;
    let mut tool = Ledger::new().tool();
    tool["approval"] = json!("always");
    mesh.world.publish("default", "careful", &caller(1, &tool));
    let body = request(json!({"payload": {"text": "1"}}));
    let id = mesh.accept("careful", body, Duration::ZERO).await.unwrap().id;
    let waits = |moments: &[Happened]| moments.iter().any(|one| matches!(one, Happened::Waiting { .. }));
    wait_until(SOON, || async { waits(&mesh.moments(id).await) }).await;
    let decided = mesh.ask::<ApprovalDecide>(DecideRequest {
        invocation: id,
        step: 2,
        decision: Decision::Approve,
        note: Some("checked".into()),
        output: None,
    });
    decided.await.unwrap();
    let ended = |moments: &[Happened]| matches!(moments.last(), Some(Happened::Ended { .. }));
    wait_until(SOON, || async { ended(&mesh.moments(id).await) }).await;

    let moments = mesh.moments(id).await;
    let [
        Happened::Accepted { .. },
        Happened::Claimed { holder },
        Happened::Waiting { waits_for },
        Happened::Decided {
            step: 2,
            approved: true,
            note,
            ..
        },
        Happened::Claimed { holder: again },
        Happened::Ended {
            outcome: Outcome::Completed,
            ..
        },
    ] = moments.as_slice()
    else {
        panic!("{moments:?}");
    };
    assert_eq!(holder, again);
    assert_eq!(note.as_deref(), Some("checked"));
    assert!(matches!(&waits_for[0].on, WaitOn::Approval { tool } if tool == "pay"));

    // Page by page it is the same, and nothing of another is told.
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let page = PageQuery { limit: Some(2), after };
        let page = mesh.history(id, page).await.unwrap();
        read.extend(page.items.into_iter().map(|moment| moment.what));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read, moments);
    let unknown = mesh.history(InvocationId::from_u128(7), PageQuery::default()).await;
    assert!(unknown.unwrap_err().is(Code::InvocationNotFound));
}
