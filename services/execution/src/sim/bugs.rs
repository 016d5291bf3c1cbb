//! Planted bugs: each breaks one rule of EXECUTION.md, and the checks must find it. Most live in the models around the
//! owner's core; those that cannot are switches in it, which are compiled into tests only.

use std::cell::Cell;

use crate::core::append::Around;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Intake acks a message before it is accepted.
    AckBeforeCommit,
    /// A batch is answered that never reaches the database.
    AnswerBeforeCommit,
    /// The fence is checked, and not held until the write.
    UnlockedFence,
    /// Workers leave out `begun`.
    BegunOmitted,
    /// A claim keeps the epoch.
    NoEpochRaise,
    /// Effects start before the append is answered.
    PipelinedEffect,
    /// The next one of a session is claimed while the one before runs.
    SessionAdvanced,
    /// Each claim has keys of its own.
    RetryUnderNewKey,
    /// Neither a look-up nor an index keeps a key unique.
    KeysAreNotUnique,
    /// The row of `open` stays after the end.
    EndKeepsOpenRow,
    /// Letters are not written with the batch of their sender.
    MailOutsideTheBatch,
    /// A wait is taken although its worker has not seen all news.
    WaitIgnoresNews,
}

impl Bug {
    pub(super) const ALL: [Self; 12] = [
        Self::AckBeforeCommit,
        Self::AnswerBeforeCommit,
        Self::UnlockedFence,
        Self::BegunOmitted,
        Self::NoEpochRaise,
        Self::PipelinedEffect,
        Self::SessionAdvanced,
        Self::RetryUnderNewKey,
        Self::KeysAreNotUnique,
        Self::EndKeepsOpenRow,
        Self::MailOutsideTheBatch,
        Self::WaitIgnoresNews,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}

thread_local! {
    /// Of the run on this thread; runs have a thread each.
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

pub(super) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether that bug is planted in this run.
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Planted: news keep nobody from waiting.
pub(crate) fn in_wait(around: Around<'_>) -> Around<'_> {
    Around {
        has_news: around.has_news && !is_planted(Bug::WaitIgnoresNews),
        ..around
    }
}
