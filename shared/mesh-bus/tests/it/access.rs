//! The second wall: a service refuses a caller whose role does not cover its endpoint, whatever the edge let through.

use std::time::Duration;

use mesh_api::{Access, Caller, Endpoint, Role, StreamEndpoint};
use mesh_testkit::TestNats;
use mesh_types::{Code, Problem, Subject};

use crate::support::{SOON, Text, caller, connect, text};

macro_rules! endpoint {
    ($name:ident, $subject:literal, $access:ident) => {
        struct $name;
        impl Endpoint for $name {
            const SERVICE: &'static str = "tester";
            const NAME: &'static str = $subject;
            type Request = Text;
            type Reply = Text;
            const DEADLINE: Duration = Duration::from_secs(5);
            const ACCESS: Access = Access::$access;
        }
    };
}

endpoint!(Look, "look", Viewer);
endpoint!(Steer, "steer", Operator);
endpoint!(Tell, "tell", Developer);
endpoint!(Inside, "inside", Service);

impl StreamEndpoint for Tell {
    type Chunk = Text;
}

fn with(role: Option<Role>) -> Caller {
    Caller { role, ..caller() }
}

fn status(reply: Result<Text, Problem>) -> u16 {
    reply.map_or_else(|problem| problem.status, |_| 200)
}

#[tokio::test]
async fn a_role_must_cover_what_the_endpoint_asks_for() {
    let nats = TestNats::start().await;
    let bus = connect(&nats).await;
    let at: Subject = "mesh.svc.tester.inside-of-one".parse().unwrap();
    let _service = bus
        .service("tester", "1.0.0")
        .endpoint::<Look, _, _>(|_, what| async move { Ok(what) })
        .endpoint::<Steer, _, _>(|_, what| async move { Ok(what) })
        .endpoint::<Inside, _, _>(|_, what| async move { Ok(what) })
        .endpoint_at::<Inside, _, _>(&at, |_, what| async move { Ok(what) })
        .stream_endpoint::<Tell, _, _>(|_, what, _| async move { Ok(what) })
        .start()
        .await
        .unwrap();
    for (role, expected) in [
        (Some(Role::Viewer), [200, 403, 403, 403]),
        (Some(Role::Service), [200, 403, 403, 403]),
        (Some(Role::Operator), [200, 200, 403, 403]),
        (Some(Role::Developer), [200, 200, 200, 403]),
        (Some(Role::Owner), [200, 200, 200, 403]),
        // A service in its own name.
        (None, [200, 200, 200, 200]),
    ] {
        let caller = with(role);
        let found = [
            status(bus.call::<Look>(&caller, &text("x")).await),
            status(bus.call::<Steer>(&caller, &text("x")).await),
            status(bus.call_stream::<Tell>(&caller, &text("x"), |_| {}).await),
            status(bus.call::<Inside>(&caller, &text("x")).await),
        ];
        assert_eq!(found, expected, "{role:?}");
    }
    let refused = bus
        .call::<Steer>(&with(Some(Role::Viewer)), &text("x"))
        .await
        .unwrap_err();
    assert!(refused.is(Code::Forbidden) && refused.next.is_some(), "{refused:?}");
    // A peer passes on what it let in.
    let owner = with(Some(Role::Owner));
    assert_eq!(status(bus.call_at::<Inside>(&at, &owner, &text("x"), SOON).await), 200);
}
