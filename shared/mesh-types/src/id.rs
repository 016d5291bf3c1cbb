//! Ids: prefixed ULIDs, one type each, so that mix-ups do not compile and logs explain themselves.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

use crate::time::{Clock, Timestamp};

/// What every id can do. `PREFIX` includes the underscore.
pub trait Id: Sized + Copy + fmt::Display {
    const PREFIX: &'static str;
    fn from_ulid(ulid: Ulid) -> Self;
    fn ulid(self) -> Ulid;

    /// An id of this time; `random` gives the low 80 bits.
    fn new(at: Timestamp, random: u128) -> Self {
        Self::from_ulid(Ulid::from_parts(at.as_millis(), random & ((1 << 80) - 1)))
    }

    fn as_u128(self) -> u128 {
        self.ulid().0
    }

    fn from_u128(value: u128) -> Self {
        Self::from_ulid(Ulid(value))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no id of the form {prefix}01ARZ3NDEKTSV4RRFFQ69G5FAV")]
pub struct IdError {
    pub prefix: &'static str,
    pub text: String,
}

/// Mints ids from a clock and a source of randomness.
#[derive(Clone)]
pub struct IdSource {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

impl IdSource {
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Fn() -> u128 + Send + Sync>) -> Self {
        Self { clock, random }
    }

    pub fn next<T: Id>(&self) -> T {
        T::new(self.clock.now(), (self.random)())
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSource")
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $example:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        #[schema(value_type = String, example = $example)]
        pub struct $name(Ulid);

        impl Id for $name {
            const PREFIX: &'static str = $prefix;
            fn from_ulid(ulid: Ulid) -> Self { Self(ulid) }
            fn ulid(self) -> Ulid { self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_ulid($prefix, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// One durable execution.
    InvocationId = "inv_", "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One memory.
    MemoryId = "mem_", "mem_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One erasure of memories, as its receipt names it.
    ReceiptId = "rcp_", "rcp_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One document of a collection.
    DocumentId = "doc_", "doc_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One piece of a document.
    ChunkId = "chk_", "chk_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One event; also its `Nats-Msg-Id`.
    EventId = "evt_", "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One dead letter.
    DeadLetterId = "ded_", "ded_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One start of one process.
    InstanceId = "ins_", "ins_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// An agent's version on a node.
    ReplicaId = "rpl_", "rpl_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One pass of the reconciler.
    PassId = "pas_", "pas_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One tunnel between a client at the edge and a node.
    TunnelId = "tun_", "tun_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One exchange in a tunnel, where its client gave it no id.
    ExchangeId = "exc_", "exc_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One API key; its secret is `mak_…`.
    KeyId = "key_", "key_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One join token; its secret is `mjt_…`.
    JoinTokenId = "jtk_", "jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One person.
    UserId = "usr_", "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One sign-in of a person, until it ends.
    SessionId = "ses_", "ses_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    /// One request at the edge.
    RequestId = "req_", "req_01ARZ3NDEKTSV4RRFFQ69G5FAV";
}

fn parse_ulid(prefix: &'static str, text: &str) -> Result<Ulid, IdError> {
    let error = || IdError {
        prefix,
        text: text.chars().take(64).collect(),
    };
    let rest = text.strip_prefix(prefix).ok_or_else(error)?;
    let ulid = Ulid::from_string(rest).map_err(|_| error())?;
    // Crockford's base 32 takes lower case and look-alikes; one id has one spelling here.
    if ulid.to_string() != rest {
        return Err(error());
    }
    Ok(ulid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let id = InvocationId::new(Timestamp::from_millis(1), u128::MAX);
        assert!(id.to_string().parse::<MemoryId>().is_err());
        assert!(id.to_string().to_lowercase().parse::<InvocationId>().is_err());
        assert!("inv_".parse::<InvocationId>().is_err());
    }

    #[test]
    fn ids_sort_by_time() {
        let early = InvocationId::new(Timestamp::from_millis(1), u128::MAX);
        let late = InvocationId::new(Timestamp::from_millis(2), 0);
        assert!(early < late);
    }

    proptest! {
        #[test]
        fn an_id_survives_its_text(value in any::<u128>()) {
            let id = InvocationId::from_u128(value);
            prop_assert_eq!(id.to_string().parse::<InvocationId>().unwrap(), id);
            prop_assert_eq!(id.as_u128(), value);
        }
    }
}
