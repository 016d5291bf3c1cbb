//! What a fork takes from its source: nothing is copied, so it is read along the chain of forks.

use mesh_api::journal::{About, Fact, Record};
use mesh_types::InvocationId;
use sqlx::PgConnection;

use super::load;
use super::read;
use crate::core::Meta;

/// Records of one source that are read.
const RECORDS_MAX: i64 = 100_000;
/// Forks of forks of forks.
const CHAIN_MAX: usize = 256;

/// The source of a fork as the fork sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Source {
    /// Of the steps below the fork.
    pub(crate) inherited: Vec<Record>,
    /// Of the step where it leaves, and those after it.
    pub(crate) recording: Vec<Record>,
}

/// Empty for one that is no fork.
pub(crate) async fn of(connection: &mut PgConnection, meta: &Meta) -> Result<Source, sqlx::Error> {
    let Some(fork) = meta.fork() else {
        return Ok(Source::default());
    };
    let all = steps(connection, fork.of, meta.input.source_seq).await?;
    let (inherited, recording) = all
        .into_iter()
        .partition(|record| step_of(&record.fact).is_some_and(|step| step < fork.from_step));
    Ok(Source { inherited, recording })
}

/// Step records of an invocation up to `seq`, with those that it inherits, oldest first.
pub(crate) async fn steps(
    connection: &mut PgConnection,
    id: InvocationId,
    seq: Option<u32>,
) -> Result<Vec<Record>, sqlx::Error> {
    let mut chain = Vec::new();
    let mut next = Some((id, u32::MAX));
    // What a source itself inherits is done, and does not change.
    let mut seq_max = seq.unwrap_or(u32::MAX);
    while let Some((id, below)) = next.filter(|_| chain.len() < CHAIN_MAX) {
        let own = load::journal(connection, id, 0, RECORDS_MAX).await?;
        let own = own
            .into_iter()
            .filter(|record| record.seq <= seq_max && step_of(&record.fact).is_some_and(|step| step < below));
        chain.push(own.collect::<Vec<_>>());
        seq_max = u32::MAX;
        let found = read::invocations(&mut *connection, &[id]).await?.pop();
        next = found.and_then(|(meta, _)| meta.fork().map(|fork| (fork.of, fork.from_step.min(below))));
    }
    Ok(chain.into_iter().rev().flatten().collect())
}

/// The step that a record is about, for those that a fork can take over.
pub(crate) fn step_of(fact: &Fact) -> Option<u32> {
    match fact {
        Fact::Begun(begun) => Some(begun.step),
        Fact::Done(done) => Some(done.step),
        // What joined it before its first step is part of what it was asked.
        Fact::Signalled(signalled) if matches!(signalled.about, About::Merged { .. }) => Some(0),
        Fact::Signalled(signalled) => signalled.about.step(),
        _ => None,
    }
}
