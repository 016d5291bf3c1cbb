//! The world outside of the mesh: a ledger of effects and a model, real HTTP servers that no injection reaches.

mod ledger;
mod model;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use mesh_types::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::draw::Draw;
use crate::evidence::{Call, ModelCall};

/// Both servers on one port. They end with this value.
pub(crate) struct Fakes {
    pub(crate) base: String,
    kept: Shared,
    _tasks: JoinSet<()>,
}

pub(super) type Shared = Arc<Kept>;

pub(super) struct Kept {
    pub(super) clock: SystemClock,
    seed: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) ledger: Vec<Call>,
    pub(super) model: Vec<ModelCall>,
    /// Results of the ledger by key, as a server that takes idempotency keys keeps them.
    pub(super) results: BTreeMap<String, u64>,
}

impl Fakes {
    pub(crate) async fn start(seed: u64) -> anyhow::Result<Self> {
        let kept = Arc::new(Kept {
            clock: SystemClock::default(),
            seed,
            seen: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(model::complete))
            .route("/ledger/{class}", post(ledger::write))
            .with_state(Arc::clone(&kept));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // It ends with its task only.
            let _: Result<(), io::Error> = axum::serve(listener, router).await;
        });
        Ok(Self {
            base,
            kept,
            _tasks: tasks,
        })
    }

    /// Calls so far: of the ledger, of the model.
    pub(crate) fn seen(&self) -> (Vec<Call>, Vec<ModelCall>) {
        let seen = self.kept.seen();
        (seen.ledger.clone(), seen.model.clone())
    }

    /// The ledger's result under a key, if the effect has happened.
    pub(crate) fn result(&self, key: &str) -> Option<u64> {
        self.kept.seen().results.get(key).copied()
    }
}

impl Kept {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> mesh_types::Timestamp {
        self.clock.now()
    }

    /// Draws for one try of one key: the same in every run of the seed.
    pub(super) fn draw(&self, key: &str, nth: usize) -> Draw {
        Draw::of(self.seed.wrapping_add(nth as u64), key)
    }
}

pub(super) fn key_of(headers: &HeaderMap) -> String {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    key.unwrap_or_default().to_owned()
}

/// A body that breaks after these pieces, as a lost connection does.
pub(super) fn broken(kind: &'static str, pieces: Vec<Bytes>) -> Response {
    let pieces = pieces.into_iter().map(Ok);
    let end = std::iter::once(Err(io::Error::other("cut as the schedule asks")));
    let body = Body::from_stream(futures::stream::iter(pieces.chain(end)));
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

pub(super) fn whole(kind: &'static str, pieces: impl futures::Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(futures::StreamExt::map(pieces, Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}
