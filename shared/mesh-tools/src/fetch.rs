//! One document by its URL, for others than tools: the same guard on every hop, bounded in size and time.

use std::time::Duration;

use mesh_types::agent::Span;
use mesh_types::{Code, Problem};
use reqwest::Method;

use crate::failure;
use crate::guard::Guard;
use crate::web::{self, Ask, Web};

const ACCEPT: &str = "text/html, text/markdown, text/plain, application/pdf, */*;q=0.5";

/// What a URL led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    /// In lower case with its parameters; empty where none was said.
    pub content_type: String,
}

/// Fetches with GET. Public addresses, and those of `private_networks`, as in [`crate::ToolsConfig`].
///
/// # Errors
/// `FetchFailed`, which says what may be done; also for more than `bytes_max` bytes, and after `limit`.
pub async fn fetch(
    url: &str,
    private_networks: &[String],
    bytes_max: usize,
    limit: Duration,
) -> Result<Fetched, Problem> {
    let guard = Guard::new(private_networks).map_err(|error| Problem::new(Code::Internal, error))?;
    let web = Web::new(guard).map_err(|error| Problem::new(Code::Internal, failure::said(&error)))?;
    let asked = async {
        let ask = Ask {
            method: Method::GET,
            url,
            accept: ACCEPT,
            idempotency_key: None,
            body: None,
            hosts: None,
        };
        let response = web::successful(web.send(ask).await?).await?;
        let content_type = web::content_type(&response);
        let (bytes, is_cut) = web::read(response, bytes_max).await?;
        Ok((bytes, content_type, is_cut))
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok((bytes, content_type, false))) => Ok(Fetched { bytes, content_type }),
        Ok(Ok((_, _, true))) => Err(Problem::new(
            Code::FetchFailed,
            format!("the answer has more than {bytes_max} bytes"),
        )
        .next("split the document, or send its text")),
        Ok(Err(problem)) => Err(failed(&problem)),
        Err(_) => Err(
            Problem::new(Code::FetchFailed, format!("no whole answer within {}", Span(limit)))
                .next("try again, or send the document itself"),
        ),
    }
}

/// Refuses what [`fetch`] could not use.
///
/// # Errors
/// Names the network that is none.
pub fn check_networks(private_networks: &[String]) -> Result<(), String> {
    Guard::new(private_networks).map(drop)
}

fn failed(problem: &Problem) -> Problem {
    let next = if problem.is(Code::ToolRefused) {
        "give a public address of http or https, or send the document itself"
    } else if problem.is_transient() {
        "try again later, or send the document itself"
    } else {
        "check the URL, or send the document itself"
    };
    Problem::new(Code::FetchFailed, problem.detail.clone()).next(next)
}
