//! What travels of a trace: ids and the decision, as the W3C's `traceparent` says it.

use std::fmt;
use std::str::FromStr;

/// A place in a trace. Neither id is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    is_sampled: bool,
}

/// Tells the span that is first of a trace from the one that called for it.
const FIRST: u64 = 0x6a09_e667_f3bc_c908;

/// Id of the span, in another trace, that called for what has that id.
#[must_use]
pub const fn calling_span(id: u128) -> u64 {
    // The lower half: of ids that sort by time, the random one.
    id as u64
}

/// The text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAContext;

impl TraceContext {
    /// An id of zero, which the W3C forbids, becomes one.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64, is_sampled: bool) -> Self {
        Self {
            trace_id: trace_id.max(1),
            span_id: span_id.max(1),
            is_sampled,
        }
    }

    /// The first span of the trace that belongs to what has that id: whoever knows the id knows the trace, also after a
    /// crash, and without asking anybody.
    #[must_use]
    pub fn of_id(id: u128, is_sampled: bool) -> Self {
        Self::new(id, calling_span(id).rotate_left(32) ^ FIRST, is_sampled)
    }

    #[must_use]
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    #[must_use]
    pub const fn span_id(self) -> u64 {
        self.span_id
    }

    /// Whether its spans are recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.is_sampled
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            is_sampled,
        } = *self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(is_sampled))
    }
}

impl fmt::Display for NotAContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no W3C traceparent")
    }
}

impl std::error::Error for NotAContext {}

impl FromStr for TraceContext {
    type Err = NotAContext;

    /// W3C Trace Context, 3.2.2: lower case only; a later version may say more behind what version 00 says.
    fn from_str(text: &str) -> Result<Self, NotAContext> {
        let bytes = text.as_bytes();
        let has_dashes = bytes.len() >= 55 && [2, 35, 52].iter().all(|at| bytes[*at] == b'-');
        if !has_dashes {
            return Err(NotAContext);
        }
        let version = hex(&bytes[..2])?;
        let is_whole = match version {
            0 => bytes.len() == 55,
            0xff => false,
            _ => bytes.get(55).is_none_or(|next| *next == b'-'),
        };
        let (trace_id, span_id) = (hex(&bytes[3..35])?, hex(&bytes[36..52])?);
        let flags = hex(&bytes[53..55])?;
        let span_id = u64::try_from(span_id).map_err(|_| NotAContext)?;
        if !is_whole || trace_id == 0 || span_id == 0 {
            return Err(NotAContext);
        }
        Ok(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// At most 32 digits.
fn hex(digits: &[u8]) -> Result<u128, NotAContext> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(NotAContext),
        };
        Ok((value << 4) | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_reads_as_it_was_written() {
        let context = TraceContext::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7, true);
        let text = context.to_string();
        assert_eq!(text, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(text.parse(), Ok(context));
        let later = text.replacen("00", "42", 1) + "-more";
        assert_eq!(later.parse(), Ok(context));
        assert_eq!(
            TraceContext::new(0, 0, false).to_string().parse(),
            Ok(TraceContext::new(1, 1, false))
        );
    }

    #[test]
    fn what_the_w3c_forbids_is_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for bad in [
            "",
            "00-zz-zz-zz",
            &good.to_uppercase(),
            &format!("{good}-more"),
            &good.replacen("00", "ff", 1),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.replace('-', "_"),
            &good[..54],
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(NotAContext), "{bad}");
        }
    }
}
