//! Who may call now: calls at once, and requests and tokens a minute, of each provider and of each tenant; tenants wait
//! for a provider in turns. Pure: time is an argument, a permit is a value that its taker gives back.

mod bucket;
mod line;

pub(crate) use bucket::{Bucket, Ready};
pub(crate) use line::{Line, Place};

use tokio::time::Instant;

use crate::config::Rates;

/// What a call that is over took of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It was never made.
    Nothing,
    /// It was made; nobody knows its tokens, so that the guess stands.
    Guess,
    Tokens(u64),
}

/// The bounds of one provider or of one tenant, and what is taken of them.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    concurrency: Option<u32>,
    in_flight: u32,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Gate {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            concurrency: rates.concurrency,
            in_flight: 0,
            requests: rates.requests_per_minute.map(Bucket::per_minute),
            tokens: rates.tokens_per_minute.map(Bucket::per_minute),
        }
    }

    /// When a call of so many tokens may pass.
    fn ready(&self, tokens: u64, now: Instant) -> Ready {
        if self.concurrency.is_some_and(|bound| self.in_flight >= bound) {
            return Ready::WhenOneEnds;
        }
        let wait =
            |bucket: &Option<Bucket>, units| bucket.as_ref().map_or(Ready::Now, |bucket| bucket.ready(units, now));
        wait(&self.requests, 1).max(wait(&self.tokens, tokens))
    }

    fn take(&mut self, tokens: u64, now: Instant) {
        self.in_flight += 1;
        if let Some(bucket) = &mut self.requests {
            bucket.take(1, now);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(tokens, now);
        }
    }

    fn give_back(&mut self, guessed: u64, spent: Spent) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let used = match spent {
            Spent::Guess => return,
            Spent::Nothing => 0,
            Spent::Tokens(used) => used,
        };
        if let Some(bucket) = &mut self.tokens {
            bucket.correct(guessed, used);
        }
        if let (Some(bucket), Spent::Nothing) = (&mut self.requests, spent) {
            bucket.correct(1, 0);
        }
    }

    /// Nothing would be lost without it.
    fn is_idle(&self, now: Instant) -> bool {
        let full = |bucket: &Option<Bucket>| bucket.as_ref().is_none_or(|bucket| bucket.is_full(now));
        self.in_flight == 0 && full(&self.requests) && full(&self.tokens)
    }
}

#[cfg(test)]
mod tests;
