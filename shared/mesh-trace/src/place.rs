//! What travels with a trace's ids: the W3C's `tracestate`, words of other tracing systems that are handed on as they
//! came. And what a request or message says of both.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{NotAContext, TRACEPARENT, TRACESTATE, TraceContext};

/// Longest `tracestate` that is handed on, in bytes: what the W3C wants at least (Trace Context, 3.3.1.5).
const STATE_BYTES_MAX: usize = 512;
/// Most members of it (3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// Longest key and longest value of a member, in bytes (3.3.1.3).
const PART_BYTES_MAX: usize = 256;

/// A `tracestate`, byte for byte as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceState(Arc<str>);

/// The text is no `tracestate`, or too long for one that is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAState;

impl TraceState {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceState {
    type Err = NotAState;

    /// 1 to 32 members `key=value` with commas between them; empty ones and blanks around them are allowed.
    fn from_str(text: &str) -> Result<Self, NotAState> {
        if text.len() > STATE_BYTES_MAX {
            return Err(NotAState);
        }
        let members = text.split(',').map(|member| member.trim_matches([' ', '\t']));
        let mut count = 0;
        for member in members.filter(|member| !member.is_empty()) {
            count += 1;
            if !is_member(member) {
                return Err(NotAState);
            }
        }
        let is_list = (1..=MEMBERS_MAX).contains(&count);
        is_list.then(|| Self(text.into())).ok_or(NotAState)
    }
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let is_begin = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_of_key = |byte: u8| is_begin(&byte) || b"_-*/@".contains(&byte);
    let is_of_value = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'=';
    (1..=PART_BYTES_MAX).contains(&key.len())
        && key.as_bytes().first().is_some_and(is_begin)
        && key.bytes().all(is_of_key)
        && (1..=PART_BYTES_MAX).contains(&value.len())
        && value.bytes().all(is_of_value)
}

/// A place in a trace, with the words that go along with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub context: TraceContext,
    pub state: Option<TraceState>,
}

impl Place {
    /// As headers of a request or message, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.as_ref().map(|state| (TRACESTATE, state.as_str().to_owned()));
        std::iter::once((TRACEPARENT, self.context.to_string())).chain(state)
    }
}

impl From<TraceContext> for Place {
    fn from(context: TraceContext) -> Self {
        Self { context, state: None }
    }
}

/// To keep it: the `traceparent`, and behind a blank the `tracestate` if there is one.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.context)?;
        match &self.state {
            Some(state) => write!(f, " {}", state.as_str()),
            None => Ok(()),
        }
    }
}

impl FromStr for Place {
    type Err = NotAContext;

    /// A bad `tracestate` is left away.
    fn from_str(text: &str) -> Result<Self, NotAContext> {
        let (context, state) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Self {
            context: context.parse()?,
            state: state.parse().ok(),
        })
    }
}

/// What a request or message says of its trace, unread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming<'a> {
    parent: Option<&'a str>,
    state: Option<Cow<'a, str>>,
}

impl<'a> Incoming<'a> {
    /// `states`: every `tracestate` header; several are one list (W3C Trace Context, 3.3.1). Without a `traceparent`
    /// they say nothing.
    pub fn new(parent: Option<&'a str>, states: impl IntoIterator<Item = &'a str>) -> Self {
        let mut state: Option<Cow<'a, str>> = None;
        if parent.is_some() {
            for one in states {
                state = Some(match state {
                    Some(all) if all.len() <= STATE_BYTES_MAX => Cow::Owned(format!("{all},{one}")),
                    Some(too_long) => too_long,
                    None => Cow::Borrowed(one),
                });
            }
        }
        Self { parent, state }
    }

    /// Whether it says none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.parent.is_none()
    }

    /// What it says, if it can be read.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        Some(Place {
            context: self.parent?.parse().ok()?,
            state: self.state.as_deref().and_then(|state| state.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_state_is_kept_as_it_came_and_a_malformed_one_is_none() {
        let longest = format!("{}={}", "k".repeat(255), "v".repeat(256));
        let many = vec!["a=1"; 32].join(",");
        for good in [
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "fw529a3039@dt=FfAAAA; x",
            " a=1 ,\t, 0b-_*/=! ~",
            &longest,
            &many,
        ] {
            assert_eq!(good.parse::<TraceState>().unwrap().as_str(), good);
        }
        let (too_long, too_many) = (longest.clone() + ",", many.clone() + ",a=1");
        for bad in [
            "",
            " , ",
            "a",
            "=1",
            "a=",
            "A=1",
            "a=1=2",
            "-a=1",
            "a b=1",
            "a=\u{e9}",
            "a=1\r\nx: y",
            &too_long,
            &too_many,
            &format!("{}=1", "k".repeat(257)),
            &format!("k={}", "v".repeat(257)),
        ] {
            assert_eq!(bad.parse::<TraceState>(), Err(NotAState), "{bad}");
        }
    }

    #[test]
    fn a_place_reads_as_it_was_written() {
        let place: Place = format!("{PARENT} a=1, b=2").parse().unwrap();
        assert_eq!(place.to_string(), format!("{PARENT} a=1, b=2"));
        let headers: Vec<_> = place.headers().collect();
        assert_eq!(
            headers,
            [("traceparent", PARENT.into()), ("tracestate", "a=1, b=2".into())]
        );
        let without: Place = PARENT.parse().unwrap();
        assert_eq!((without.state.clone(), without.to_string()), (None, PARENT.to_owned()));
        assert_eq!(format!("{PARENT} b=").parse(), Ok(without));
        assert_eq!("a=1".parse::<Place>(), Err(NotAContext));
    }

    #[test]
    fn several_headers_are_one_list_and_belong_to_a_parent() {
        let said = Incoming::new(Some(PARENT), ["a=1", "b=2"]).place().unwrap();
        assert_eq!(said.state.unwrap().as_str(), "a=1,b=2");
        assert_eq!(Incoming::new(None, ["a=1"]), Incoming::default());
        let endless = Incoming::new(Some(PARENT), std::iter::repeat_n("a=1", 1_000))
            .place()
            .unwrap();
        assert_eq!(endless, PARENT.parse().unwrap());
        assert_eq!(Incoming::new(Some("nonsense"), ["a=1"]).place(), None);
    }
}
