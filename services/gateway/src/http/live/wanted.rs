//! What a client asks to be told of, checked: topics that there are, that it may read, and not too many.

use mesh_types::InvocationId;

use super::visitor::Visitor;
use crate::feed::Cursor;
use crate::http::problem::Failure;
use crate::hub::Topic;

/// What a client asks for, checked.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) topics: Vec<Topic>,
    pub(super) invocations: Vec<(InvocationId, Option<Cursor>)>,
}

impl Wanted {
    /// `invocation:<id>@<cursor>` begins after that event of the invocation's own stream.
    pub(super) fn read<'a>(
        names: impl IntoIterator<Item = &'a str>,
        visitor: &Visitor,
        topics_max: usize,
    ) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for (number, name) in names.into_iter().enumerate() {
            if number >= topics_max {
                let detail = format!("a connection has {topics_max} topics at most");
                return Err(Failure::invalid("topics", detail).next("open another for the rest"));
            }
            let (name, after) = match name.split_once('@') {
                Some((name, after)) => (name, Some(after.parse().map_err(Failure)?)),
                None => (name, None),
            };
            let topic: Topic = name.parse().map_err(Failure)?;
            visitor.may_read(&topic)?;
            match topic {
                Topic::Invocation(id) => wanted.invocations.push((id, after)),
                topic => wanted.topics.push(topic),
            }
        }
        Ok(wanted)
    }
}
