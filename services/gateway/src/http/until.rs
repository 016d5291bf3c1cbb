//! Nothing goes on for long with a credential that is not good any more: a long request is answered 401, and a stream
//! of events ends, both within ten seconds. Around every route that waits or streams; WebSockets look for themselves.

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};

use super::credentials::{SignedIn, caller_of, unauthorized};
use super::live::Visitor;
use crate::state::App;

/// The last event of a stream whose reader's credential has ended, where its protocol has words for it; an extension of
/// the response.
#[derive(Debug, Clone)]
pub(super) struct Farewell(pub(super) Bytes);

/// A middleware inside of `admit`, which says who has signed in.
pub(super) async fn revoked(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(signed_in) = request.extensions().get::<SignedIn>() else {
        return next.run(request).await;
    };
    let caller = caller_of(&signed_in.principal, None);
    let visitor = Visitor::signed_in(caller, Some(signed_in));
    let mut revoked: BoxFuture<'static, ()> = Box::pin(visitor.until_revoked(app));
    // Dropped like the request of a client that has gone away: what it began goes on where it was accepted.
    let mut response = tokio::select! {
        response = next.run(request) => response,
        () = &mut revoked => return ended().into_response(),
    };
    if !is_of_events(&response) {
        return response;
    }
    let farewell = response.extensions_mut().remove::<Farewell>();
    response.map(|body| {
        let ending = Ending {
            body: body.into_data_stream(),
            revoked,
            farewell: farewell.map(|Farewell(bytes)| bytes),
            is_over: false,
        };
        Body::from_stream(ending.stream())
    })
}

pub(super) fn ended() -> super::problem::Failure {
    unauthorized("the credential is not good any more")
}

fn is_of_events(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

struct Ending {
    body: BodyDataStream,
    revoked: BoxFuture<'static, ()>,
    farewell: Option<Bytes>,
    is_over: bool,
}

impl Ending {
    /// Each piece of such a body is whole events, so the last one ends where an event does.
    fn stream(self) -> impl Stream<Item = Result<Bytes, axum::Error>> {
        futures::stream::unfold(self, |mut ending| async move {
            if ending.is_over {
                return None;
            }
            let piece = tokio::select! {
                biased;
                () = &mut ending.revoked => {
                    ending.is_over = true;
                    ending.farewell.take().map(Ok)
                }
                piece = ending.body.next() => piece,
            };
            piece.map(|piece| (piece, ending))
        })
    }
}
