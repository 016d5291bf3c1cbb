//! What can be subscribed to.

use std::fmt;
use std::str::FromStr;

use mesh_types::{ChannelId, Code, InvocationId, Problem};

/// One topic; what is in it is told in `said`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// Every invocation of the tenant: its states.
    Invocations,
    /// One invocation with its steps and text, as its own event stream tells it.
    Invocation(InvocationId),
    Agents,
    Nodes,
    Passes,
    Memories,
    Knowledge,
    Channels,
    Channel(ChannelId),
    Services,
    Models,
    Audit,
    DeadLetters,
}

const PLAIN: [(&str, Topic); 11] = [
    ("invocations", Topic::Invocations),
    ("agents", Topic::Agents),
    ("nodes", Topic::Nodes),
    ("passes", Topic::Passes),
    ("memories", Topic::Memories),
    ("knowledge", Topic::Knowledge),
    ("channels", Topic::Channels),
    ("services", Topic::Services),
    ("models", Topic::Models),
    ("audit", Topic::Audit),
    ("dead-letters", Topic::DeadLetters),
];

impl Topic {
    /// Whether it is told from what shards commit.
    pub(crate) fn is_of_shards(&self) -> bool {
        matches!(self, Self::Invocations | Self::DeadLetters)
    }

    /// Whether it is told from EVENTS; dead letters come by the one way and are settled by the other.
    pub(crate) fn is_of_events(&self) -> bool {
        !matches!(self, Self::Invocations | Self::Invocation(_))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invocation(id) => write!(f, "invocation:{id}"),
            Self::Channel(id) => write!(f, "channel:{id}"),
            plain => {
                let found = PLAIN.iter().find(|(_, topic)| topic == plain);
                f.write_str(found.map_or("", |(name, _)| name))
            }
        }
    }
}

impl FromStr for Topic {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some((_, topic)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Ok(topic.clone());
        }
        let named = match text.split_once(':') {
            Some(("invocation", id)) => id.parse().ok().map(Self::Invocation),
            Some(("channel", id)) => id.parse().ok().map(Self::Channel),
            _ => None,
        };
        named.ok_or_else(|| {
            let names: Vec<&str> = PLAIN.iter().map(|(name, _)| *name).collect();
            let text: String = text.chars().take(80).collect();
            Problem::new(Code::InvalidRequest, format!("`{text}` is no topic"))
                .field("topics")
                .next(format!("one of {}, invocation:ID, channel:ID", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_its_text() {
        let invocation = format!("invocation:{}", "inv_0000000000000000000000001A");
        for text in ["invocations", "dead-letters", "audit", &invocation, "channel:general"] {
            assert_eq!(text.parse::<Topic>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "invocation",
            "invocation:",
            "invocation:x",
            "channel:",
            "Agents",
            "agents:x",
        ] {
            assert!(text.parse::<Topic>().is_err(), "{text}");
        }
        for (_, topic) in PLAIN {
            let is_of_both = topic == Topic::DeadLetters;
            assert_eq!(topic.is_of_shards() == topic.is_of_events(), is_of_both, "{topic}");
        }
    }
}
