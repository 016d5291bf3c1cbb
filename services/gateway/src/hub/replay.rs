//! What a reader that comes back lacks and no log holds any more: from the feed of its tenant, and from EVENTS.

use mesh_api::Caller;
use mesh_api::live::{SHARDS, ShardFeed, ShardFeedPage, ShardFeedRequest, ShardMark};
use mesh_bus::StreamName;
use mesh_types::subject::Filter;
use mesh_types::{Problem, Tenant};

use super::Hub;
use super::nodes::Nodes;
use super::position::{Lane, Mark, Origin, Position};
use super::said::{Audience, Event, Note, Push, of_event, of_note};
use super::topic::Topic;

/// What a reader gets next.
pub(crate) enum Replayed {
    Push(Lane, Mark, Push),
    /// All of the lane up to there is told.
    Passed(Lane, Mark),
}

/// What is asked when nothing is at hand.
pub(crate) enum Page {
    Some(Vec<Replayed>),
    /// All is told.
    End,
    /// Not kept any more, in a word why.
    Lost(&'static str),
}

/// From a position to another, page by page.
pub(crate) struct Replay {
    hub: Hub,
    tenant: Tenant,
    needs_nodes: bool,
    from: Position,
    to: Position,
    nodes: Nodes,
}

impl Replay {
    pub(super) fn new(hub: &Hub, caller: &Caller, topics: &[Topic], from: Position, to: Position) -> Self {
        Self {
            hub: hub.clone(),
            tenant: caller.tenant.clone(),
            needs_nodes: topics.contains(&Topic::Nodes),
            from,
            to,
            nodes: Nodes::default(),
        }
    }

    /// What comes next. Dropped while it waits, it has moved nothing.
    ///
    /// # Errors
    /// When the bus or `execution` do not answer; it may be asked again.
    pub(crate) async fn next(&mut self) -> Result<Page, Problem> {
        // Of a page, not of the whole: who does not read what he was given holds up nobody.
        let _permit = std::sync::Arc::clone(&self.hub.0.replays).acquire_owned().await.ok();
        if !self.from.covers_shards(&self.to) {
            return self.next_of_shards().await;
        }
        if self.from.events < self.to.events {
            return self.next_of_events().await;
        }
        Ok(Page::End)
    }

    async fn next_of_shards(&mut self) -> Result<Page, Problem> {
        let lacking = (0..SHARDS).filter(|shard| {
            let lane = Lane::Shard(*shard);
            self.from.mark(lane) < self.to.mark(lane)
        });
        let after = lacking.map(|shard| ShardMark {
            shard,
            after: self.from.mark(Lane::Shard(shard)).done(),
        });
        let request = ShardFeedRequest {
            after: after.collect(),
            tenant: Some(self.tenant.clone()),
        };
        let caller = Caller::service("gateway", self.tenant.clone());
        let page = self.hub.0.context.bus.call::<ShardFeed>(&caller, &request).await?;
        Ok(self.take_page(page, &request.after))
    }

    fn take_page(&mut self, page: ShardFeedPage, asked: &[ShardMark]) -> Page {
        if Origin::of(&page.feed_id) != self.to.feed {
            return Page::Lost("another_feed");
        }
        let is_lost = |mark: &ShardMark| {
            let head = page.heads.iter().find(|head| head.shard == mark.shard);
            head.is_none_or(|head| head.oldest > mark.after + 1)
        };
        if asked.iter().any(is_lost) {
            return Page::Lost("expired");
        }
        let mut told = Vec::new();
        for found in page.pages {
            let lane = Lane::Shard(found.shard);
            for note in found.notes {
                let (batch, ordinal) = (note.batch, note.ordinal);
                let note = Note {
                    batch,
                    ordinal,
                    invocation: note.invocation,
                    agent: note.agent,
                    version: note.version,
                    session: note.session,
                    record: note.record,
                };
                for (part, push) in (1..).zip(of_note(&note)) {
                    let mark = Mark {
                        at: batch,
                        ordinal: ordinal + 1,
                        part,
                    };
                    told.push(Replayed::Push(lane, mark, push));
                }
            }
            let mark = Mark::whole(found.to);
            told.push(Replayed::Passed(lane, mark));
            self.from.raise(lane, mark);
        }
        Page::Some(told)
    }

    async fn next_of_events(&mut self) -> Result<Page, Problem> {
        let bus = self.hub.0.context.bus.clone();
        let filter = if self.needs_nodes {
            Filter::Events
        } else {
            Filter::EventsOf(self.tenant.clone())
        };
        let after = self.from.events.done();
        let found = bus
            .read_above(StreamName::Events, &filter, after)
            .await
            .map_err(Problem::from)?;
        // After each page was read: what had expired by then might be missing in it, and a reader may take hours from
        // one page to the next.
        let extent = bus.stream_extent(StreamName::Events).await.map_err(Problem::from)?;
        if Origin::of(&extent.created) != self.to.stream {
            return Ok(Page::Lost("another_feed"));
        }
        if extent.first > after + 1 {
            return Ok(Page::Lost("expired"));
        }
        let mut told = Vec::new();
        let mut up_to = self.to.events.done();
        if let Some(last) = found.last() {
            up_to = up_to.min(last.sequence);
        }
        for numbered in found {
            if numbered.sequence > self.to.events.done() {
                break;
            }
            let Ok(event) = serde_json::from_slice::<Event>(&numbered.message.payload) else {
                continue;
            };
            let node = self.nodes.seen(&bus, &event).await;
            let is_own = event.tenant == self.tenant;
            for (part, push) in (1..).zip(of_event(event, node)) {
                if !is_own && !matches!(push.audience, Audience::Node(_)) {
                    continue;
                }
                let mark = Mark {
                    at: numbered.sequence,
                    ordinal: 0,
                    part,
                };
                told.push(Replayed::Push(Lane::Events, mark, push));
            }
        }
        let mark = Mark::whole(up_to);
        told.push(Replayed::Passed(Lane::Events, mark));
        self.from.raise(Lane::Events, mark);
        Ok(Page::Some(told))
    }
}
