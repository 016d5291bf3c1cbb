//! Spans of a process that records them. A test of its own: a process installs its sink once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use mesh_trace::{Incoming, Kind, Record, Sampling, Sink, Span, TraceContext, Value, Way, current_place, install};

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Record>>>);

impl Sink for Seen {
    fn service(&self) -> Option<String> {
        Some("gateway".to_owned())
    }

    fn ended(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }
}

#[tokio::test]
async fn a_trace_is_recorded_as_its_beginning_decides() {
    let nobody = Incoming::default();
    // Without a sink nothing is a trace.
    let nothing = Span::edge(&nobody, || 5, Way::Write, Kind::Server, || -> String { unreachable!() });
    assert_eq!(nothing.context(), None);

    let seen = Seen::default();
    let sampling = Sampling {
        ratio: 1.0,
        per_second: 1,
    };
    assert!(install(Box::new(seen.clone()), sampling) && !install(Box::new(seen.clone()), sampling));

    let mut root = Span::edge(&nobody, || 5, Way::Write, Kind::Server, || "GET /api");
    root.set("http.route", "/api");
    root.set("http.route", "/api/v1");
    root.set("text", "x".repeat(10_000));
    root.link(TraceContext::new(1, 2, true));
    let above = root.context().unwrap();
    let header = root
        .run(async {
            tokio::task::yield_now().await;
            let mut call = Span::child(Kind::Client, || "request");
            call.fail("timeout");
            call.enter(|| current_place().unwrap().context.to_string())
        })
        .await;
    let said = Incoming::new(Some(&header), ["other=1"]);
    let process = Span::of_header(&said, Kind::Server, || "process").with_id(77);
    let below = process.run(async { current_place() }).await.unwrap();
    assert_eq!((below.context.span_id(), below.state), (77, "other=1".parse().ok()));
    drop(process);
    drop(root);

    // One that lies behind says its own times.
    let (from, to) = (
        UNIX_EPOCH + Duration::from_secs(100),
        UNIX_EPOCH + Duration::from_secs(86_500),
    );
    drop(Span::of_place(Some(above.into()), Kind::Internal, || "wait timer").lasting(from, to));

    // The bound is used up: the second trace has ids all the same, for the log.
    let second = Span::edge(&nobody, || 6, Way::Write, Kind::Server, || -> String { unreachable!() });
    let context = second.context().unwrap();
    assert!(context.trace_id() == 6 && !context.is_sampled());
    let below = second.enter(|| Span::child(Kind::Client, || -> String { unreachable!() }).context());
    assert_eq!(below, Some(context));
    drop(second);

    // A caller's words are handed on, recorded or not.
    let said = Incoming::new(
        Some("00-000000000000000000000000000000aa-00000000000000bb-00"),
        ["other=1"],
    );
    let third = Span::edge(&said, || 7, Way::Write, Kind::Server, || -> String { unreachable!() });
    assert_eq!(third.place(), said.place().as_ref());
    assert_eq!(third.enter(current_place), said.place());
    drop(third);

    let seen = seen.0.lock().unwrap().clone();
    let [call, process, root, wait] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((wait.started_at, wait.ended_at), (from, to));
    assert_eq!(wait.parent, Some((above.span_id(), true)));
    assert_eq!(
        (root.name.as_ref(), root.parent, root.context),
        ("GET /api", None, above)
    );
    assert_eq!(root.attributes[0], ("mesh.service", "gateway".into()));
    assert_eq!(root.attributes[1], ("http.route", "/api/v1".into()));
    assert!(matches!(&root.attributes[2].1, Value::Text(text) if text.len() == 256));
    assert_eq!(root.links, [TraceContext::new(1, 2, true)]);
    assert_eq!(call.parent, Some((above.span_id(), false)));
    assert!(call.is_error && call.attributes.contains(&("error.type", "timeout".into())));
    assert_eq!(process.parent, Some((call.context.span_id(), true)));
    assert_eq!(process.context, TraceContext::new(5, 77, true));
    assert!(root.ended_at >= call.ended_at && call.started_at >= root.started_at);
}
