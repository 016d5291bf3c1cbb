//! `mesh knowledge`: documents that agents can be given; add, list, search with citations, delete.

mod add;

use clap::{Args, Subcommand};
use mesh_api::Page;
use mesh_api::knowledge::{
    Citation, Document, DocumentDeleted, DocumentState, DocumentText, KnowledgeHit, KnowledgeReply, SearchKnowledge,
};
use mesh_types::{DocumentId, Token};
use reqwest::Method;
use serde_json::json;

use super::Session;
use super::get::nothing;
use super::width::wrapped;
use crate::client::Client;
use crate::failure::Usage;
use crate::output::{Mood, Output, Table, age, now, shortened, terminal_width};

/// List documents that agents can be given; add, search, delete
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct KnowledgeArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

const EXAMPLES: &str = "Examples:
  mesh knowledge add handbook docs/*.md https://example.com/guide.html
  mesh knowledge list handbook
  mesh knowledge search handbook \"how many days of leave?\"
  mesh knowledge delete doc_01ARZ3NDEKTSV4RRFFQ69G5FAV

An agent reads the bases that its spec names: memory: {knowledge: [handbook]}.";

#[derive(Debug, Subcommand)]
enum Action {
    /// Add documents to a base; one of the same name gets a new version
    #[command(after_help = add::EXAMPLES)]
    Add(add::AddArgs),
    /// List documents
    #[command(after_help = "Examples:\n  mesh knowledge list\n  mesh knowledge list handbook -o json")]
    List(ListArgs),
    /// Show one document: its version, its pieces, how far its embedding is
    #[command(
        after_help = "Examples:\n  mesh knowledge show doc_01ARZ3NDEKTSV4RRFFQ69G5FAV\n  mesh knowledge show doc_01ARZ3NDEKTSV4RRFFQ69G5FAV --text"
    )]
    Show {
        id: DocumentId,
        /// Its text as it was read
        #[arg(long)]
        text: bool,
    },
    /// Find the pieces of documents nearest to a question, with where they stand
    #[command(
        after_help = "Examples:\n  mesh knowledge search handbook \"how many days of leave?\"\n  mesh knowledge search handbook policies \"remote work\" -k 10"
    )]
    Search {
        /// One base or several, then the question
        #[arg(required = true, num_args = 2.., value_names = ["BASE", "TEXT"])]
        words: Vec<String>,
        /// Hits wanted
        #[arg(short, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        k: u32,
        /// Least score of a hit, 0 to 1
        #[arg(long, value_name = "NUMBER")]
        min_score: Option<f64>,
    },
    /// Delete documents with all their versions
    #[command(after_help = "Examples:\n  mesh knowledge delete doc_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Delete {
        #[arg(required = true)]
        ids: Vec<DocumentId>,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Of this base
    base: Option<Token>,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

pub(crate) async fn run(args: KnowledgeArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    match args.action {
        None => list(args.list, &client, output).await,
        Some(Action::List(args)) => list(args, &client, output).await,
        Some(Action::Add(args)) => add::run(args, &client, output).await,
        Some(Action::Show { id, text }) => show(id, text, &client, output).await,
        Some(Action::Search { words, k, min_score }) => {
            let request = asked(words, k, min_score)?;
            let reply: KnowledgeReply = client.post("/api/v1/knowledge/search", &request).await?;
            output.show(&reply, || {
                if let Some(reason) = &reply.degraded {
                    output.note(&format!("by words only: {}", shortened(reason, 300)));
                }
                hits(output, &reply.items)
            })
        }
        Some(Action::Delete { ids }) => delete(ids, &client, output).await,
    }
}

/// All words but the last name bases.
fn asked(mut words: Vec<String>, k: u32, score_min: Option<f64>) -> anyhow::Result<SearchKnowledge> {
    let query = words.pop().unwrap_or_default();
    let bases = words.iter().map(|word| {
        let base = word.parse::<Token>();
        base.map_err(|error| anyhow::Error::from(Usage(format!("{error}; the question goes into one pair of quotes"))))
    });
    Ok(SearchKnowledge {
        bases: bases.collect::<Result<_, _>>()?,
        query,
        k,
        score_min,
    })
}

async fn list(args: ListArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [("base", args.base.map(|base| base.to_string()))];
    let path = "/api/v1/knowledge/documents";
    let page: Page<Document> = client.list(path, &query, args.limit as usize).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            nothing(output)?;
            output.note("mesh knowledge add BASE FILE adds one");
            return Ok(());
        }
        let mut table = Table::new(output, &["ID", "BASE", "NAME", "VERSION", "PIECES", "STATE", "AGE"]);
        let now = now();
        for document in &page.items {
            table.row([
                document.id.to_string(),
                shortened(document.base.as_str(), 24),
                shortened(&document.name, 40),
                document.version.to_string(),
                document.chunks.to_string(),
                state(output, document),
                age(document.updated_at, now),
            ]);
        }
        table.print()?;
        if page.next.is_some() {
            output.note(&format!("there are more: --limit {}", args.limit.saturating_mul(5)));
        }
        Ok(())
    })
}

fn state(output: Output, document: &Document) -> String {
    match document.state {
        DocumentState::Ready => output.mood(Mood::Good, "ready"),
        DocumentState::Embedding => output.mood(Mood::Doubtful, &format!("embedding, {} %", percent(document))),
    }
}

/// Of its pieces, those that are embedded; rounded down.
fn percent(document: &Document) -> u64 {
    u64::from(document.embedded) * 100 / u64::from(document.chunks.max(1))
}

async fn show(id: DocumentId, with_text: bool, client: &Client, output: Output) -> anyhow::Result<()> {
    let path = format!("/api/v1/knowledge/documents/{id}");
    if with_text {
        let found: DocumentText = client.get(&format!("{path}/text"), &[]).await?;
        return output.show(&found, || {
            for line in found.text.lines() {
                output.line(&shortened_line(line))?;
            }
            Ok(())
        });
    }
    let document: Document = client.get(&path, &[]).await?;
    output.show(&document, || print(output, &document))
}

/// Indented as it is, without what would steer the terminal.
fn shortened_line(line: &str) -> String {
    let is_harmless = |letter: &char| !letter.is_control();
    line.chars().filter(is_harmless).collect()
}

fn print(output: Output, document: &Document) -> anyhow::Result<()> {
    let now = now();
    output.line(&output.bold(&format!("{}  {}", document.id, shortened(&document.name, 200))))?;
    let rows = [
        ("base", document.base.to_string()),
        ("type", document.media_type.clone()),
        ("from", document.url.clone().unwrap_or_default()),
        ("size", format!("{} bytes", document.bytes)),
        ("version", document.version.to_string()),
        (
            "pieces",
            format!(
                "{}, {} of them embedded, {} kept from the version before",
                document.chunks, document.embedded, document.kept
            ),
        ),
        ("state", state(output, document)),
        ("error", document.error.clone().unwrap_or_default()),
        ("sha-256", document.sha256.clone()),
        ("added", format!("{} ago", age(document.created_at, now))),
        ("changed", format!("{} ago", age(document.updated_at, now))),
    ];
    for (what, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Colours of ours stay, control characters of others were refused or are shown as spaces.
        let value = if what == "state" { value } else { shortened(&value, 400) };
        output.line(&format!("  {what:<10}{value}"))?;
    }
    Ok(())
}

/// Lines of a piece's text that a hit shows.
const TEXT_LINES: usize = 4;
const SET_IN: &str = "       ";

pub(super) fn hits(output: Output, hits: &[KnowledgeHit]) -> anyhow::Result<()> {
    if hits.is_empty() {
        return nothing(output);
    }
    let width = terminal_width().unwrap_or(100);
    for hit in hits {
        let score = output.bold(&format!("{:.3}", hit.score));
        output.line(&format!(
            "{score}  {}",
            shortened(&place(&hit.citation), width.saturating_sub(7))
        ))?;
        for line in wrapped(&hit.text, width.saturating_sub(SET_IN.len()), TEXT_LINES) {
            output.line(&format!("{SET_IN}{line}"))?;
        }
        let Citation {
            document,
            version,
            start,
            end,
            ..
        } = &hit.citation;
        output.line(&output.faint(&format!(
            "{SET_IN}{document}, version {version}, characters {start} to {end}"
        )))?;
    }
    Ok(())
}

/// `handbook/leave.md › Leave › How much`.
fn place(citation: &Citation) -> String {
    let mut place = format!("{}/{}", citation.base, citation.name);
    for heading in &citation.headings {
        place.push_str(" › ");
        place.push_str(heading);
    }
    place
}

async fn delete(ids: Vec<DocumentId>, client: &Client, output: Output) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for id in ids {
        let path = format!("/api/v1/knowledge/documents/{id}");
        let deleted: DocumentDeleted = client.send::<(), _>(Method::DELETE, &path, &[], None).await?;
        if output.is_table() {
            output.line(&format!("{id} deleted, with {} pieces", deleted.chunks))?;
        }
        done.push(deleted);
    }
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_the_question() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let request = asked(words(&["handbook", "policies", "how much leave?"]), 5, None).unwrap();
        assert_eq!((request.bases.len(), request.query.as_str()), (2, "how much leave?"));
        let unquoted = asked(words(&["handbook", "how much", "leave?"]), 5, None).unwrap_err();
        assert!(
            unquoted.is::<Usage>() && unquoted.to_string().contains("quotes"),
            "{unquoted}"
        );
    }
}
