//! `mesh audit`: who did, or tried, what.

use clap::{Args, ValueEnum};
use mesh_api::Page;
use mesh_api::identity::{AuditFact, AuditOutcome};
use serde_json::Value;

use super::Session;
use super::get::nothing;
use crate::output::{Mood, Table, age, now, shortened};

/// List who did, or tried, what: credentials, nodes that joined, and everything that was refused
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// Only what was done, or only what was refused
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// Only this action, such as node.enroll
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    Done,
    Refused,
}

const EXAMPLES: &str = "Examples:
  mesh audit
  mesh audit --outcome refused
  mesh audit --action nats.connect -o json

Who is no administrator sees what he did himself. The same refusal again within a second is counted, not listed.";

pub(crate) async fn run(args: AuditArgs, session: &Session) -> anyhow::Result<()> {
    let output = session.output;
    let outcome = args.outcome.map(|outcome| match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Refused => "refused".to_owned(),
    });
    let query = [("outcome", outcome), ("action", args.action)];
    let client = session.client()?;
    let page: Page<AuditFact> = client.list("/api/v1/audit", &query, args.limit as usize).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            return nothing(output);
        }
        let mut table = Table::new(output, &["AGE", "WHO", "ACTION", "WHAT", "OUTCOME", "WHY"]);
        let now = now();
        for fact in &page.items {
            let entry = &fact.entry;
            let outcome = match entry.outcome {
                AuditOutcome::Done => output.mood(Mood::Good, "done"),
                AuditOutcome::Refused => output.mood(Mood::Bad, "refused"),
            };
            table.row([
                age(fact.at, now),
                entry.actor.clone(),
                entry.action.clone(),
                shortened(&entry.subject, 40),
                outcome,
                shortened(&why(&entry.reason, &entry.after), 60),
            ]);
        }
        table.print()
    })
}

/// The reason, and how often it happened where that was counted.
fn why(reason: &str, after: &Value) -> String {
    match after["times"].as_u64() {
        Some(times) => format!("{reason} (× {times})"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_counted_says_how_often() {
        assert_eq!(why("revoked", &json!({"times": 7})), "revoked (× 7)");
        assert_eq!(why("revoked", &Value::Null), "revoked");
    }
}
