//! `mesh audit`: who did, or tried, what, and whether the record of it is whole.

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use mesh_api::Page;
use mesh_api::audit::AuditVerified;
use mesh_api::identity::{AuditFact, AuditOutcome};
use serde_json::Value;

use super::Session;
use super::get::nothing;
use super::width;
use crate::output::{Mood, Table, age, now, shortened, terminal_width};

/// List who did, or tried, what: credentials, nodes that joined, and everything that was refused
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
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

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Compute the chain of hashes again: a fact that was changed, taken out or put in between shows
    #[command(
        after_help = "Examples:\n  mesh audit verify\n  mesh audit verify --noted 74:1af163a38377f2757039f5614145fc3703e585de7e822079772a40fd8fa51892"
    )]
    Verify {
        /// A head that an earlier run printed and you kept elsewhere: a chain that was written anew shows, too
        #[arg(long, value_name = "SEQ:HASH")]
        noted: Option<String>,
    },
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
  mesh audit verify

Who is no administrator sees what he did himself. The same refusal again within a second is counted, not listed.";

/// Widths in characters: the longest age, `119s`; the least of what is shortened; the most of what was acted on; and what
/// is left for the reason in any case.
const AGE_MAX: usize = 4;
const COLUMN_MIN: usize = 6;
const WHAT_MAX: usize = 40;
const WHY_MIN: usize = 16;

pub(crate) async fn run(args: AuditArgs, session: &Session) -> anyhow::Result<()> {
    match args.command {
        Some(AuditCommand::Verify { noted }) => verify(noted, session).await,
        None => list(args, session).await,
    }
}

async fn verify(noted: Option<String>, session: &Session) -> anyhow::Result<()> {
    let output = session.output;
    let verified: AuditVerified = session
        .client()?
        .get("/api/v1/audit/verify", &[("noted", noted)])
        .await?;
    output.show(&verified, || {
        let verdict = match &verified.broken {
            None => output.mood(Mood::Good, "intact"),
            Some(_) => output.mood(Mood::Bad, "broken"),
        };
        println!(
            "The audit's chain is {verdict}: {} facts were checked.",
            verified.checked
        );
        if verified.pruned > 0 {
            println!("{} older ones were pruned by age.", verified.pruned);
        }
        if verified.unchained > 0 {
            println!("{} of the last seconds have no place yet.", verified.unchained);
        }
        if let Some(broken) = &verified.broken {
            let fact = broken.id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
            println!("At place {}{fact}: {}.", broken.seq, broken.why);
        }
        println!(
            "Head, to be kept elsewhere and given as --noted the next time:\n{}",
            verified.head
        );
        Ok(())
    })?;
    if !verified.intact {
        bail!("the audit was tampered with, or its database was restored from an older copy");
    }
    Ok(())
}

async fn list(args: AuditArgs, session: &Session) -> anyhow::Result<()> {
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
        let refused = output.mood(Mood::Bad, "refused");
        let (who, what) = room(&page.items, refused.chars().count(), terminal_width());
        for fact in &page.items {
            let entry = &fact.entry;
            let outcome = match entry.outcome {
                AuditOutcome::Done => output.mood(Mood::Good, "done"),
                AuditOutcome::Refused => refused.clone(),
            };
            table.row([
                age(fact.at, now),
                width::within(&entry.actor, who),
                entry.action.clone(),
                width::within(&entry.subject, what),
                outcome,
                shortened(&why(&entry.reason, &entry.after), 60),
            ]);
        }
        table.print()
    })
}

/// Characters for who and for what, so that the outcome and the beginning of the reason are never pushed out: they are
/// what is looked for. `outcome` is the width of that column.
fn room(facts: &[AuditFact], outcome: usize, width: Option<usize>) -> (usize, usize) {
    let longest = |text: fn(&AuditFact) -> &str| facts.iter().map(|fact| text(fact).chars().count()).max();
    let (who, action) = (longest(|fact| &fact.entry.actor), longest(|fact| &fact.entry.action));
    let who = who.unwrap_or_default();
    let Some(width) = width else {
        return (who, WHAT_MAX);
    };
    let others = [AGE_MAX, action.unwrap_or_default().max(COLUMN_MIN), outcome, WHY_MIN];
    let gaps = 2 * 5;
    let left = width.saturating_sub(others.iter().sum::<usize>() + gaps);
    let who = who.min(left / 2).max(COLUMN_MIN);
    (who, left.saturating_sub(who).clamp(COLUMN_MIN, WHAT_MAX))
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
    fn outcome_and_reason_fit_a_narrow_terminal() {
        let fact = |actor: &str, action: &str| -> AuditFact {
            serde_json::from_value(json!({
                "id": "aud_01ARZ3NDEKTSV4RRFFQ69G5FAV", "tenant": "default", "at": "2026-11-21T12:00:00Z",
                "actor": actor, "action": action, "subject": "nod_01ARZ3NDEKTSV4RRFFQ69G5FAV", "outcome": "refused",
                "reason": "revoked",
            }))
            .unwrap()
        };
        let facts = [
            fact("user:admin", "key.create"),
            fact("node:nod_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nats.connect"),
        ];
        // Colours count as characters of their column.
        for outcome in ["refused".len(), "refused".len() + 9] {
            let (who, what) = room(&facts, outcome, Some(80));
            let all = AGE_MAX + who + "nats.connect".len() + what + outcome + WHY_MIN + 2 * 5;
            assert!(all <= 80 && who >= 10 && what >= 10, "{who} {what}: {all}");
        }
        assert_eq!(room(&facts, 7, None), (35, WHAT_MAX));
        assert_eq!(room(&facts, 7, Some(200)), (35, WHAT_MAX));
        // No narrower than anything can be read in.
        assert_eq!(room(&facts, 7, Some(30)), (COLUMN_MIN, COLUMN_MIN));
    }

    #[test]
    fn what_was_counted_says_how_often() {
        assert_eq!(why("revoked", &json!({"times": 7})), "revoked (× 7)");
        assert_eq!(why("revoked", &Value::Null), "revoked");
    }
}
