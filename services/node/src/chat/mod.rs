//! A conversation with a model through the node's own choice of provider: who may have one, and what is said in it.

mod feed;
mod request;
mod talk;

use std::sync::Arc;

use mesh_types::fleet::NodeMode;
use mesh_types::{Code, Problem};
use tokio::sync::Semaphore;

use crate::local::Settings;
use crate::models::Models;

pub(crate) use request::ChatRequest;
pub(crate) use talk::{Said, Talk};

/// Conversations that are answered at the same time; the next one is told that it is busy.
const TALKS_MAX: usize = 8;
/// The provider that needs no network.
const MOCK: &str = "mock";

/// From where somebody talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talker {
    /// The page of this machine: what the node is for while it is private.
    Page,
    /// Its owner, through a tunnel.
    Owner,
    /// Somebody whom the sharing policy lets in, through a tunnel.
    Guest,
}

impl Talker {
    /// # Errors
    /// Why not, and what to do about it.
    pub(crate) fn may_talk(self, mode: NodeMode) -> Result<(), Problem> {
        let refused = |detail: &str| Err(Problem::new(Code::NodeNotPrivate, detail));
        match (self, mode) {
            (Self::Page, NodeMode::Private) | (Self::Owner, NodeMode::Private | NodeMode::Shared) => Ok(()),
            (Self::Guest, NodeMode::Shared) => Ok(()),
            (_, NodeMode::Sleep) => {
                refused("the node sleeps").map_err(|problem| problem.next("wake it: choose the mode `private`"))
            }
            (Self::Page, NodeMode::Shared) => {
                refused("the node is shared with others; its own chat is for private mode only")
                    .map_err(|problem| problem.next("choose the mode `private`"))
            }
            (Self::Guest, NodeMode::Private) => refused("the node is private"),
        }
    }
}

/// All conversations of a node.
pub(crate) struct Chat {
    models: Arc<Models>,
    settings: Arc<dyn Settings>,
    places: Arc<Semaphore>,
}

impl Chat {
    pub(crate) fn new(models: Arc<Models>, settings: Arc<dyn Settings>) -> Self {
        Self {
            models,
            settings,
            places: Arc::new(Semaphore::new(TALKS_MAX)),
        }
    }

    /// Begins one answer; it is made while somebody listens to it.
    ///
    /// # Errors
    /// Not in this mode, not such a request, or too many talk already.
    pub(crate) async fn talk(&self, from: Talker, request: ChatRequest) -> Result<Talk, Problem> {
        from.may_talk(self.settings.mode())?;
        let busy = |_| Problem::new(Code::Busy, "the node answers as much as it can");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(busy)?;
        let model = match request.model().or(self.models.default_model()) {
            Some(model) => model,
            None => self.first_offered().await?,
        };
        let request = request.complete(model)?;
        Ok(Talk::new(
            Arc::clone(&self.models),
            Arc::clone(&self.settings),
            from,
            request,
            place,
        ))
    }

    async fn first_offered(&self) -> Result<String, Problem> {
        let offered = self.models.offered().await;
        let available = || offered.items.iter().filter(|model| model.available);
        // The mock answers where nothing else does.
        let model = available()
            .find(|model| model.provider != MOCK)
            .or(available().next())
            .or(offered.items.first());
        model.map(|model| model.name.clone()).ok_or_else(|| {
            Problem::new(Code::InvalidRequest, "name a model: the node's own endpoint lists none").field("model")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_talk_in_which_mode() {
        let allowed = [
            (Talker::Page, [true, false, false]),
            (Talker::Owner, [true, true, false]),
            (Talker::Guest, [false, true, false]),
        ];
        for (from, may) in allowed {
            let modes = [NodeMode::Private, NodeMode::Shared, NodeMode::Sleep];
            let told = modes.map(|mode| from.may_talk(mode).is_ok());
            assert_eq!(told, may, "{from:?}");
        }
        let refusal = Talker::Page.may_talk(NodeMode::Shared).unwrap_err();
        assert_eq!(refusal.status, 409);
        assert!(refusal.next.is_some());
    }
}
