//! Names that people choose. A subject token is built only through [`Token`], so no name can widen a subject.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest token in characters; with the fixed parts every subject stays far below the server's 4 KB line.
pub const TOKEN_LENGTH_MAX: usize = 64;

/// `[A-Za-z0-9_-]{1,64}`: safe as one token of a NATS subject, as a KV key and in a URL path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
pub struct Token(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: use 1 to 64 of the characters A-Z a-z 0-9 _ -")]
pub struct NameError {
    pub what: &'static str,
    pub text: String,
}

impl Token {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(what: &'static str, text: &str) -> Result<Self, NameError> {
        let ok = (1..=TOKEN_LENGTH_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(NameError {
                what,
                // What is quoted back is bounded and shows control characters instead of sending them.
                text: text.chars().take(80).flat_map(char::escape_debug).collect(),
            })
        }
    }
}

impl FromStr for Token {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse("token", text)
    }
}

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $prefix:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
        pub struct $name(Token);

        impl $name {
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
            pub fn token(&self) -> &Token {
                &self.0
            }
        }

        impl From<Token> for $name {
            fn from(token: Token) -> Self {
                Self(token)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            /// Takes the name alone or, where the kind has one, behind its prefix (`agent:sofia`).
            fn from_str(text: &str) -> Result<Self, NameError> {
                let prefix: Option<&str> = $prefix;
                let rest = prefix.and_then(|p| text.strip_prefix(p)).unwrap_or(text);
                Token::parse($what, rest).map(Self)
            }
        }

        text_type!($name);
    )*};
}

text_type!(Token);
names! {
    /// A tenant; `microdao:daarion` names tenant `daarion`.
    Tenant, "tenant name", Some("microdao:");
    /// An agent within its tenant; `agent:sofia` names agent `sofia`.
    AgentName, "agent name", Some("agent:");
    /// A channel, named by its maker (any UUID or token), kept verbatim.
    ChannelId, "channel id", None;
    /// A message: ours is `msg_` and a ULID, its maker's is kept verbatim.
    MessageId, "message id", None;
    /// A node: ours is `nod_` and a ULID, a pinned one is kept verbatim.
    NodeId, "node id", None;
}

impl Default for Tenant {
    /// The tenant that is meant where none is named.
    fn default() -> Self {
        Self(Token("default".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_is_parsed_at_the_edge() {
        assert_eq!("agent:sofia".parse::<AgentName>().unwrap().as_str(), "sofia");
        assert_eq!("microdao:daarion".parse::<Tenant>().unwrap().as_str(), "daarion");
        assert!("agent:agent:sofia".parse::<AgentName>().is_err());
        assert!("agent:".parse::<AgentName>().is_err());
    }

    #[test]
    fn nothing_that_widens_a_subject_is_a_token() {
        for text in [
            "",
            "*",
            ">",
            "a.b",
            "a b",
            "a\0",
            "a\r\nPUB",
            "ü",
            &"x".repeat(65),
            "$JS",
        ] {
            assert!(text.parse::<Token>().is_err(), "{text:?}");
        }
        assert!("x".repeat(64).parse::<Token>().is_ok());
        let error = "a\r\nb".parse::<Token>().unwrap_err().to_string();
        assert!(!error.contains('\r'), "{error}");
    }

    proptest! {
        #[test]
        fn a_token_survives_json(text in "[A-Za-z0-9_-]{1,64}") {
            let token: Token = text.parse().unwrap();
            let json = serde_json::to_string(&token).unwrap();
            prop_assert_eq!(serde_json::from_str::<Token>(&json).unwrap(), token);
        }
    }
}
