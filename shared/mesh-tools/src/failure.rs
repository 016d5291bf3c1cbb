//! What went wrong outside, as problems. A problem that a repeat may heal has a transient status, any other 422 or 403.

use std::error::Error;

use mesh_types::{Code, Problem};
use reqwest::StatusCode;

use crate::guard::Refused;

/// Characters of a foreign answer that a problem quotes.
const QUOTED_MAX: usize = 500;

/// A repeat may heal it.
pub(crate) fn transient(detail: impl Into<String>) -> Problem {
    Problem::new(Code::ToolFailed, detail)
}

/// The same call would fail again.
pub(crate) fn permanent(detail: impl Into<String>) -> Problem {
    let mut problem = Problem::new(Code::ToolFailed, detail);
    problem.status = 422;
    problem
}

pub(crate) fn refused(why: &Refused) -> Problem {
    let problem = Problem::new(Code::ToolRefused, why.to_string());
    match why {
        Refused::Address(_) | Refused::Host(_) => {
            problem.next("if it is meant to be reached, add its network to execution.tools.private_networks")
        }
        Refused::NotListed(_) => problem.next("add the host to the tool's `allow`"),
        Refused::Url(_) => problem,
    }
}

pub(crate) fn too_long(bytes_max: usize) -> Problem {
    permanent(format!("the answer is longer than {bytes_max} bytes"))
}

/// Of a request that got no answer: the guard's refusal where it is the cause.
pub(crate) fn of_request(error: reqwest::Error) -> Problem {
    // The URL may carry credentials.
    let error = error.without_url();
    if let Some(why) = cause::<Refused>(&error) {
        return refused(why);
    }
    if error.is_timeout() {
        return Problem::new(Code::Timeout, said(&error));
    }
    if error.is_builder() {
        return permanent(said(&error));
    }
    transient(said(&error))
}

/// Of an answer that is not 2xx.
pub(crate) fn of_status(status: StatusCode, retry_after_seconds: Option<u32>, text: &str) -> Problem {
    let detail = match quoted(text).as_str() {
        "" => format!("the answer is {status}"),
        quoted => format!("the answer is {status}: {quoted}"),
    };
    let mut problem = match status.as_u16() {
        408 | 429 | 503 | 504 => {
            let mut problem = transient(detail);
            problem.status = status.as_u16();
            problem
        }
        500.. => transient(detail),
        _ => permanent(detail),
    };
    if problem.is_transient() {
        problem.retry_after_seconds = retry_after_seconds;
    }
    problem
}

/// The first characters of a foreign text.
pub(crate) fn quoted(text: &str) -> String {
    text.trim().chars().take(QUOTED_MAX).collect()
}

/// The error and its causes in one line.
pub(crate) fn said(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    quoted(&line)
}

/// The first error of this type among the error and its causes.
pub(crate) fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
