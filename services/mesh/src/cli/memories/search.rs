//! `mesh memories search`: hits, best first, and with --explain what each score is made of.

use clap::{Args, ValueEnum};
use mesh_api::memory::{Hit, MemoryType, QueryFilters, QueryMode, QueryReply, QueryRequest, Scores};
use mesh_types::{AgentName, Token};

use super::show::owner;
use super::types;
use crate::cli::get::nothing;
use crate::cli::knowledge;
use crate::cli::width::{listed, wrapped};
use crate::client::Client;
use crate::output::{Output, Table, age, now, shortened, terminal_width};

#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    agent: AgentName,
    /// The question, or words
    text: String,
    /// Hits wanted
    #[arg(short, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    k: u32,
    /// Of this type: episodic semantic procedural working
    #[arg(short = 't', long = "type", value_name = "TYPE", hide_possible_values = true, value_parser = types())]
    kind: Option<MemoryType>,
    /// With this tag; several: all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Also what is of this session
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Also what is of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Least score of a hit, 0 to 1
    #[arg(long, value_name = "NUMBER")]
    min_score: Option<f64>,
    /// By meaning, by words, or by both
    #[arg(long, value_enum, default_value_t = Mode::Hybrid)]
    mode: Mode,
    /// Prefer variety: 1 looks at relevance only, 0 at variety only
    #[arg(long, value_name = "NUMBER")]
    mmr: Option<f64>,
    /// Count new ones more: 0 to 1
    #[arg(long, value_name = "WEIGHT")]
    recency: Option<f64>,
    /// Count important ones more: 0 to 1
    #[arg(long, value_name = "WEIGHT")]
    importance: Option<f64>,
    /// Search this base of documents, too; may stand several times
    #[arg(long = "knowledge", value_name = "BASE")]
    bases: Vec<Token>,
    /// Say what each score is made of
    #[arg(short, long)]
    explain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Hybrid,
    Vector,
    Text,
}

pub(super) const EXAMPLES: &str = "Examples:
  mesh memories search sofia \"what does Ann drink?\"
  mesh memories search sofia refund -k 20 --type procedural --explain
  mesh memories search sofia \"how do we deploy?\" --knowledge handbook -o json";

pub(super) async fn run(args: SearchArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    let explain = args.explain;
    let request = request(args);
    let reply: QueryReply = client.post("/api/v1/memories/search", &request).await?;
    output.show(&reply, || {
        if let Some(reason) = &reply.degraded {
            output.note(&format!("by words only: {}", shortened(reason, 300)));
        }
        match (reply.items.as_slice(), explain) {
            ([], _) => nothing(output)?,
            (items, false) => table(output, items)?,
            (items, true) => items.iter().try_for_each(|hit| explained(output, hit))?,
        }
        if request.knowledge.is_empty() {
            return Ok(());
        }
        output.line("")?;
        knowledge::hits(output, &reply.knowledge)
    })
}

fn request(args: SearchArgs) -> QueryRequest {
    let mut request = QueryRequest::new(args.agent, args.text, args.k);
    request.mode = match args.mode {
        Mode::Hybrid => QueryMode::Hybrid,
        Mode::Vector => QueryMode::Vector,
        Mode::Text => QueryMode::Text,
    };
    request.filters = QueryFilters {
        kind: args.kind,
        tags: args.tags,
        score_min: args.min_score,
        session: args.session,
        user: args.user,
        ..QueryFilters::default()
    };
    request.mmr = args.mmr;
    request.weights.recency = args.recency.unwrap_or(request.weights.recency);
    request.weights.importance = args.importance.unwrap_or(request.weights.importance);
    request.knowledge = args.bases;
    request
}

fn table(output: Output, hits: &[Hit]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["ID", "SCORE", "TYPE", "AGE", "CONTENT"]);
    let now = now();
    for Hit { memory, score, .. } in hits {
        table.row([
            memory.id.to_string(),
            format!("{score:.3}"),
            memory.kind.as_str().to_owned(),
            age(memory.created_at, now),
            shortened(&memory.content, 200),
        ]);
    }
    table.print()
}

const SET_IN: &str = "       ";
/// Lines of a memory's text that an explained hit shows.
const TEXT_LINES: usize = 3;

fn explained(output: Output, hit: &Hit) -> anyhow::Result<()> {
    let Hit { memory, score, scores } = hit;
    let score = output.bold(&format!("{score:.3}"));
    let age = age(memory.created_at, now());
    let kind = memory.kind.as_str();
    let owner = shortened(&owner(memory), 40);
    output.line(&format!("{score}  {}  {kind}, of {owner}, {age}", memory.id))?;
    let width = terminal_width();
    for line in wrapped(
        &memory.content,
        width.unwrap_or(100).saturating_sub(SET_IN.len()),
        TEXT_LINES,
    ) {
        output.line(&format!("{SET_IN}{line}"))?;
    }
    for line in listed(SET_IN, &parts(scores), width) {
        output.line(&output.faint(&line))?;
    }
    Ok(())
}

/// What a score is made of, each with how many characters of it show.
fn parts(scores: &Scores) -> Vec<(String, usize)> {
    let ranked = |value: f64, rank: Option<u32>| match rank {
        Some(rank) => format!("{value:.3} (place {rank})"),
        None => format!("{value:.3}"),
    };
    let all = [
        ("meaning", scores.vector.map(|value| ranked(value, scores.vector_rank))),
        ("words", scores.text.map(|value| ranked(value, scores.text_rank))),
        ("fusion", scores.fusion.map(|value| format!("{value:.3}"))),
        ("recency", scores.recency.map(|value| format!("{value:.3}"))),
        ("importance", scores.importance.map(|value| format!("{value:.3}"))),
        ("variety", scores.mmr.map(|value| format!("{value:.3}"))),
    ];
    let shown = all.into_iter().filter_map(|(name, value)| {
        let text = format!("{name} {}", value?);
        let letters = text.chars().count();
        Some((text, letters))
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_explained_by_the_parts_that_it_has() {
        let scores = Scores {
            vector: Some(0.5),
            vector_rank: Some(1),
            fusion: Some(0.75),
            ..Scores::default()
        };
        let parts: Vec<_> = parts(&scores).into_iter().map(|(text, _)| text).collect();
        assert_eq!(parts, ["meaning 0.500 (place 1)", "fusion 0.750"]);
    }
}
