//! The chunks of one try, with the counts that its provider tells on the way: a try that fails or is dropped after that
//! was paid for all the same, and is billed once.

use mesh_api::inference::Chunk;
use mesh_models::{Chunks, Tokens};

use crate::providers::Route;
use crate::usage::Used;

/// Counts a try; answers what it cost in US dollars.
pub(crate) type Bill<'a> = dyn Fn(Used<'_>) -> f64 + Send + Sync + 'a;

pub(super) struct Metered<'a, C> {
    chunks: &'a mut C,
    bill: &'a Bill<'a>,
    route: &'a Route<'a>,
    attempt: u32,
    counted: Option<Tokens>,
}

impl<'a, C: Chunks> Metered<'a, C> {
    pub(super) fn new(chunks: &'a mut C, bill: &'a Bill<'a>, route: &'a Route<'a>, attempt: u32) -> Self {
        Self {
            chunks,
            bill,
            route,
            attempt,
            counted: None,
        }
    }

    /// What the provider has counted so far.
    pub(super) fn so_far(&self) -> Option<Tokens> {
        self.counted
    }

    /// The try is over and took so much; 0 dollars where nobody knows.
    pub(super) fn settle(mut self, tokens: Option<Tokens>) -> f64 {
        self.counted = None;
        tokens.map_or(0.0, |tokens| self.pay(&tokens))
    }
}

impl<C> Metered<'_, C> {
    fn pay(&self, tokens: &Tokens) -> f64 {
        (self.bill)(Used {
            provider: self.route.provider_name,
            model: &self.route.model,
            attempt: self.attempt,
            tokens,
            is_local: self.route.provider.is_local(),
        })
    }
}

impl<C> Drop for Metered<'_, C> {
    fn drop(&mut self) {
        if let Some(tokens) = self.counted.take() {
            self.pay(&tokens);
        }
    }
}

impl<C: Chunks> Chunks for Metered<'_, C> {
    async fn send(&mut self, chunk: Chunk) {
        self.chunks.send(chunk).await;
    }

    fn counted(&mut self, tokens: Tokens) {
        self.counted = Some(tokens);
        self.chunks.counted(tokens);
    }
}
