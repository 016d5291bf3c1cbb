//! The context of what runs now: of the task, across its waits. Tasks that are spawned begin without one.

use tokio::task::futures::TaskLocalFuture;

use crate::{Place, TraceContext};

tokio::task_local! {
    static CURRENT: Option<Place>;
}

/// Where the work of this task belongs.
pub fn current() -> Option<TraceContext> {
    CURRENT
        .try_with(|place| place.as_ref().map(|place| place.context))
        .ok()
        .flatten()
}

/// The same with what is to be handed on, for what leaves this process.
pub fn current_place() -> Option<Place> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// The future, each of whose polls belongs there.
pub fn within<F: Future>(place: Option<Place>, future: F) -> TaskLocalFuture<Option<Place>, F> {
    CURRENT.scope(place, future)
}

/// Calls it there.
pub fn enter<T>(place: Option<Place>, call: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(place, call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_holds_across_waits_and_only_inside() {
        let context = TraceContext::new(7, 8, true);
        let place = Place {
            context,
            state: "a=1".parse().ok(),
        };
        let inside = within(Some(place.clone()), async {
            tokio::task::yield_now().await;
            let inner = TraceContext::new(7, 9, true);
            (current(), enter(Some(inner.into()), current_place), current_place())
        });
        let inner = Place::from(TraceContext::new(7, 9, true));
        assert_eq!(inside.await, (Some(context), Some(inner), Some(place)));
        assert_eq!((current(), current_place()), (None, None));
    }
}
