//! One answer, made while somebody listens to it: dropped, the model is not asked any more.

use std::sync::Arc;

use futures::future::BoxFuture;
use mesh_api::inference::{CompleteRequest, Completion};
use mesh_types::Problem;
use tokio::sync::OwnedSemaphorePermit;

use super::Talker;
use super::feed::{Feed, Piece};
use crate::local::Settings;
use crate::models::Models;

/// What is said next.
#[derive(Debug)]
pub(crate) enum Said {
    Text(String),
    /// What came before is void.
    Reset(u32),
    Done(Box<Completion>),
    Failed(Problem),
}

pub(crate) struct Talk {
    feed: Arc<Feed>,
    /// `None` once it has ended.
    work: Option<BoxFuture<'static, Result<Completion, Problem>>>,
    ended: Option<Result<Completion, Problem>>,
    settings: Arc<dyn Settings>,
    from: Talker,
    _place: OwnedSemaphorePermit,
}

impl Talk {
    pub(super) fn new(
        models: Arc<Models>,
        settings: Arc<dyn Settings>,
        from: Talker,
        request: CompleteRequest,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let feed = Arc::new(Feed::default());
        let heard = Arc::clone(&feed);
        let work = async move { models.chat(request, &mut |chunk| heard.push(chunk)).await };
        Self {
            feed,
            work: Some(Box::pin(work)),
            ended: None,
            settings,
            from,
            _place: place,
        }
    }

    /// `None` after the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        loop {
            if self.work.is_none() && self.ended.is_none() {
                return None;
            }
            // The mode may have changed since it began.
            if let Err(problem) = self.from.may_talk(self.settings.mode()) {
                (self.work, self.ended) = (None, None);
                return Some(Said::Failed(problem));
            }
            match self.feed.take() {
                Some(Piece::Text(text)) => return Some(Said::Text(text)),
                Some(Piece::Reset(attempt)) => return Some(Said::Reset(attempt)),
                None => {}
            }
            if let Some(ended) = self.ended.take() {
                return Some(match ended {
                    Ok(completion) => Said::Done(Box::new(completion)),
                    Err(problem) => Said::Failed(problem),
                });
            }
            let Some(work) = &mut self.work else { return None };
            tokio::select! {
                biased;
                ended = work => {
                    self.ended = Some(ended);
                    self.work = None;
                }
                () = self.feed.rung() => {}
            }
        }
    }
}
