//! What `mesh doctor` reads in the database of a mesh: one question each, and beside it the judgement, which is pure.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::Finding;

/// An owner that has nothing to do beats each second; so long without a sign it is dead or stalled.
const LOOK_TWICE: Duration = Duration::from_millis(2_500);
/// Halves have 16 bits since this version of pgvector.
const PGVECTOR_MIN: (u32, u32) = (0, 7);
/// Seconds that a committed fact may wait before it is told of: the relay works at a bell and each 5 s.
const LAG_WARNING_SECONDS: f64 = 15.0;
const LAG_WRONG_SECONDS: f64 = 120.0;

/// Whether `execution` answers: what it does not do while it is stopped is no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    Yes,
    No,
}

/// (owner, epoch, batch, beat) by shard.
type Shards = BTreeMap<i16, (String, i64, i64, i64)>;

/// All of them, on a connection of a user who may not see all rows: then some are left out, and that is said.
pub(super) async fn look(
    connection: &mut PgConnection,
    served: Served,
    pools: u32,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = vec![pgvector(one(connection, PGVECTOR).await?)];
    let (max, reserved): (i32, i32) = sqlx::query_as(CONNECTIONS).fetch_one(&mut *connection).await?;
    findings.push(pool(pools, i64::from(max) - i64::from(reserved)));
    if one(connection, UNFINISHED).await? {
        findings.push(Finding::wrong(
            "restore",
            "a restore was cut off: PostgreSQL is restored, NATS is not",
            "mesh down, and the same mesh restore again",
        ));
    }
    let sees_all: bool = one(connection, SEES_ALL).await?;
    if !sees_all {
        let next =
            "let a superuser say ALTER ROLE … BYPASSRLS to have dead letters, keys and lags looked at, and for backups";
        findings.push(Finding::warning(
            "rows",
            "its user does not see the rows of every tenant",
            next,
        ));
        return Ok(findings);
    }
    let first = all_shards(connection).await?;
    if served == Served::Yes {
        tokio::time::sleep(LOOK_TWICE).await;
    }
    let second = all_shards(connection).await?;
    findings.push(shards(&first, &second, served));
    findings.push(lag("feed", one(connection, FEED_LAG).await?, served));
    findings.push(lag("events", events_wait(connection).await?, served));
    findings.push(dead_letters(one(connection, DEAD_LETTERS).await?));
    let (count, soonest): (i64, Option<String>) = sqlx::query_as(KEYS).fetch_one(&mut *connection).await?;
    findings.push(keys(count, soonest));
    let (count, soonest): (i64, Option<String>) = sqlx::query_as(JOIN_TOKENS).fetch_one(&mut *connection).await?;
    findings.extend(join_tokens(count, soonest));
    findings.extend(signing_keys(one(connection, SIGNING_KEYS).await?));
    findings.push(nodes(one(connection, NODES).await?));
    Ok(findings)
}

const PGVECTOR: &str = "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector')";
const CONNECTIONS: &str = "SELECT current_setting('max_connections')::integer,
    current_setting('superuser_reserved_connections')::integer";
const UNFINISHED: &str = "SELECT to_regclass('public._mesh_restore') IS NOT NULL";
const SEES_ALL: &str = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";
const SHARDS: &str = "SELECT id, owner, epoch, batch, beat FROM execution.shard";
const FEED_LAG: &str = "SELECT extract(epoch FROM clock_timestamp() - min(feed.at))::double precision
    FROM execution.feed JOIN execution.shard ON shard.id = feed.shard WHERE feed.batch > shard.relayed_batch";
const OUTBOXES: &str = "SELECT space.nspname FROM pg_class AS class
    JOIN pg_namespace AS space ON space.oid = class.relnamespace
    JOIN pg_attribute AS field ON field.attrelid = class.oid AND field.attname = 'published_at'
    WHERE space.nspname = ANY($1) AND class.relname = 'event' AND class.relkind = 'r'";
const DEAD_LETTERS: &str = "SELECT count(*) FROM execution.dead_letter WHERE settled IS NULL";
const KEYS: &str = "SELECT count(*), to_char(min(expires_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM identity.api_key
    WHERE revoked_at IS NULL AND expires_at > now() AND expires_at < now() + interval '14 days'";
/// Those that were made to last and may still be used; most are for one joining, on the same day.
const JOIN_TOKENS: &str = "SELECT count(*), to_char(min(expires_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD')
    FROM identity.join_token
    WHERE revoked_at IS NULL AND (uses_max IS NULL OR uses < uses_max) AND expires_at - created_at > interval '14 days'
        AND expires_at > now() AND expires_at < now() + interval '14 days'";
/// A key signs for 30 days.
const SIGNING_KEYS: &str = "SELECT count(*) FROM identity.signing_key WHERE signs_until > now() + interval '31 days'";
const NODES: &str = "SELECT count(*) FROM heartbeat.node WHERE NOT alive
    AND EXISTS (SELECT FROM registry.node AS known WHERE known.id = node.node)";

async fn one<T>(connection: &mut PgConnection, question: &'static str) -> Result<T, sqlx::Error>
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(question).fetch_one(connection).await
}

async fn all_shards(connection: &mut PgConnection) -> Result<Shards, sqlx::Error> {
    let rows = sqlx::query(SHARDS).fetch_all(connection).await?;
    let row = |row: &sqlx::postgres::PgRow| {
        Ok((
            row.try_get(0)?,
            (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?),
        ))
    };
    rows.iter().map(row).collect()
}

/// Age of the oldest fact that is not published, over all services.
async fn events_wait(connection: &mut PgConnection) -> Result<Option<f64>, sqlx::Error> {
    let schemas: Vec<String> = sqlx::query_scalar(OUTBOXES)
        .bind(mesh_store::schemas())
        .fetch_all(&mut *connection)
        .await?;
    let mut oldest: Option<f64> = None;
    for schema in schemas {
        let asked = format!(
            "SELECT extract(epoch FROM clock_timestamp() - min(at))::double precision FROM \"{schema}\".event
             WHERE published_at IS NULL"
        );
        let age: Option<f64> = sqlx::query_scalar(AssertSqlSafe(asked))
            .fetch_one(&mut *connection)
            .await?;
        if age > oldest {
            oldest = age;
        }
    }
    Ok(oldest)
}

fn pgvector(version: Option<String>) -> Finding {
    let Some(version) = version else {
        let next = "install the extension vector (pgvector), then mesh migrate";
        return Finding::wrong("pgvector", "the extension is not in the database", next);
    };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < PGVECTOR_MIN {
        let next = "install pgvector 0.7 or newer, then ALTER EXTENSION vector UPDATE";
        return Finding::wrong("pgvector", format!("{version} is too old"), next);
    }
    Finding::ok("pgvector", version)
}

/// `pools`: connections of one process of each service.
fn pool(pools: u32, available: i64) -> Finding {
    let found = format!("the services take up to {pools} connections of {available}");
    let next = "raise max_connections of PostgreSQL, or lower <service>.database.connections";
    if i64::from(pools) > available {
        Finding::wrong("pool", found, next)
    } else if i64::from(pools) * 10 > available * 9 {
        Finding::warning("pool", found, next)
    } else {
        Finding::ok("pool", found)
    }
}

fn shards(first: &Shards, second: &Shards, served: Served) -> Finding {
    if served == Served::No {
        return Finding::ok("shards", "nobody serves execution, so nobody owns them");
    }
    let owned_by_nobody: Vec<_> = second
        .iter()
        .filter(|(_, row)| row.0.is_empty())
        .map(|(id, _)| *id)
        .collect();
    if !owned_by_nobody.is_empty() {
        let found = format!("nobody owns {}: their invocations stand still", list(&owned_by_nobody));
        return Finding::wrong(
            "shards",
            found,
            "mesh logs execution says why; an owner takes them within seconds",
        );
    }
    let silent: Vec<_> = second
        .iter()
        .filter(|(id, row)| first.get(id) == Some(row))
        .map(|(id, _)| *id)
        .collect();
    if !silent.is_empty() {
        let found = format!(
            "no sign of the owner of {} for {:.1} s",
            list(&silent),
            LOOK_TWICE.as_secs_f64()
        );
        return Finding::warning(
            "shards",
            found,
            "look again: another process takes them over within seconds",
        );
    }
    Finding::ok("shards", format!("{}, all owned", second.len()))
}

fn list(ids: &[i16]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    format!("shard {}", ids.join(", "))
}

fn lag(check: &'static str, seconds: Option<f64>, served: Served) -> Finding {
    let seconds = seconds.unwrap_or(0.0).max(0.0);
    let found = format!("what was committed {seconds:.0} s ago is not told of yet");
    let next = "mesh logs shows whether the relay reaches NATS; mesh status";
    if seconds < LAG_WARNING_SECONDS {
        Finding::ok(check, "up to date")
    } else if seconds < LAG_WRONG_SECONDS || served == Served::No {
        Finding::warning(check, found, next)
    } else {
        Finding::wrong(check, found, next)
    }
}

fn dead_letters(count: i64) -> Finding {
    match count {
        0 => Finding::ok("dead letters", "none waits"),
        _ => {
            let next = "mesh dead-letters lists them; requeue or discard each";
            Finding::warning("dead letters", format!("{count} wait for a person"), next)
        }
    }
}

fn keys(count: i64, soonest: Option<String>) -> Finding {
    match soonest {
        Some(day) if count > 0 => {
            let found = format!("{count} expire within 14 days, the first on {day}");
            Finding::warning(
                "API keys",
                found,
                "mesh keys lists them; mesh keys create makes new ones",
            )
        }
        _ => Finding::ok("API keys", "none expires within 14 days"),
    }
}

/// Nothing is said where nothing is to do.
fn join_tokens(count: i64, soonest: Option<String>) -> Option<Finding> {
    let day = soonest.filter(|_| count > 0)?;
    let found = format!("{count} expire within 14 days, the first on {day}");
    let next = "mesh tokens lists them; nodes that have joined need none, mesh tokens create makes one for others";
    Some(Finding::warning("join tokens", found, next))
}

/// They follow each other by themselves; only one that was made while a clock was ahead stays too long.
fn signing_keys(from_the_future: i64) -> Option<Finding> {
    (from_the_future > 0).then(|| {
        let found = format!("{from_the_future} sign access tokens for longer than 30 days: a clock was ahead");
        let next = "correct the clocks of the machines that identity runs on; the keys stay good until their end";
        Finding::warning("signing keys", found, next)
    })
}

fn nodes(silent: i64) -> Finding {
    match silent {
        0 => Finding::ok("nodes", "none is silent"),
        _ => {
            let next = "mesh nodes shows since when; mesh nodes forget ID for one that is gone for good";
            Finding::warning("nodes", format!("{silent} known to the mesh are silent"), next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn row(owner: &str, beat: i64) -> (String, i64, i64, i64) {
        (owner.to_owned(), 1, 5, beat)
    }

    #[test]
    fn a_shard_without_owner_is_wrong_and_a_silent_one_is_doubtful() {
        let before: Shards = [(0, row("a", 1)), (1, row("a", 1))].into();
        let fine: Shards = [(0, row("a", 2)), (1, row("b", 1))].into();
        assert_eq!(shards(&before, &fine, Served::Yes).verdict, Verdict::Ok);
        let silent: Shards = [(0, row("a", 2)), (1, row("a", 1))].into();
        let finding = shards(&before, &silent, Served::Yes);
        assert!(
            finding.verdict == Verdict::Warning && finding.found.contains("shard 1"),
            "{finding:?}"
        );
        let orphan: Shards = [(0, row("a", 2)), (1, row("", 2))].into();
        assert_eq!(shards(&before, &orphan, Served::Yes).verdict, Verdict::Wrong);
        assert_eq!(shards(&before, &orphan, Served::No).verdict, Verdict::Ok);
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(pgvector(None).verdict, Verdict::Wrong);
        assert_eq!(pgvector(Some("0.6.2".into())).verdict, Verdict::Wrong);
        assert_eq!(pgvector(Some("0.8.1".into())).verdict, Verdict::Ok);
        assert_eq!(pool(30, 97).verdict, Verdict::Ok);
        assert_eq!(pool(90, 97).verdict, Verdict::Warning);
        assert_eq!(pool(98, 97).verdict, Verdict::Wrong);
        assert_eq!(lag("feed", None, Served::Yes).verdict, Verdict::Ok);
        assert_eq!(lag("feed", Some(60.0), Served::Yes).verdict, Verdict::Warning);
        assert_eq!(lag("feed", Some(600.0), Served::Yes).verdict, Verdict::Wrong);
        assert_eq!(lag("feed", Some(600.0), Served::No).verdict, Verdict::Warning);
        assert_eq!(dead_letters(0).verdict, Verdict::Ok);
        assert_eq!(dead_letters(2).verdict, Verdict::Warning);
        assert_eq!(keys(0, None).verdict, Verdict::Ok);
        assert!(keys(1, Some("2026-12-01".into())).found.contains("2026-12-01"));
        assert_eq!(nodes(0).verdict, Verdict::Ok);
        assert_eq!(nodes(3).verdict, Verdict::Warning);
    }

    #[tokio::test]
    async fn a_planted_fault_is_read_from_a_real_database() {
        let database = mesh_testkit::TestDatabase::create().await;
        let pool = database.pool().await;
        let mut connection = pool.acquire().await.unwrap();
        let told = async |connection: &mut PgConnection| -> BTreeMap<&'static str, Verdict> {
            let findings = look(connection, Served::No, 10).await.unwrap();
            findings
                .into_iter()
                .map(|finding| (finding.check, finding.verdict))
                .collect()
        };
        let fresh = told(&mut connection).await;
        assert!(fresh.values().all(|verdict| *verdict == Verdict::Ok), "{fresh:?}");
        for planted in [
            "INSERT INTO execution.dead_letter (id, tenant, origin, reason, created_at)
             VALUES (gen_random_uuid(), 't', 'intake', '', now())",
            "INSERT INTO execution.feed VALUES (3, 7, '', now() - interval '1 hour')",
            "INSERT INTO registry.event (tenant, id, body, at)
             VALUES ('t', gen_random_uuid(), '{}', now() - interval '1 hour')",
            "INSERT INTO identity.api_key (id, tenant, owner, name, hash, created_at, created_by, expires_at, role)
             VALUES (gen_random_uuid(), 't', 'a', 'n', sha256(''), now(), 'a', now() + interval '3 days', 'owner')",
            "INSERT INTO identity.join_token (id, tenant, owner, hash, created_at, created_by, expires_at)
             VALUES (gen_random_uuid(), 't', 'a', sha256(''), now() - interval '1 year', 'a', now() + interval '3 days')",
            "INSERT INTO identity.signing_key (id, seed, created_at, signs_until, good_until)
             VALUES ('k', sha256(''), now(), now() + interval '1 year', now() + interval '2 years')",
            "INSERT INTO registry.tenant VALUES ('t', now(), 'a')",
            "CREATE TABLE public._mesh_restore (at timestamptz)",
        ] {
            sqlx::query(planted).execute(&mut *connection).await.unwrap();
        }
        let sick = told(&mut connection).await;
        for check in [
            "dead letters",
            "feed",
            "events",
            "API keys",
            "join tokens",
            "signing keys",
        ] {
            assert_eq!(sick[check], Verdict::Warning, "{check}: {sick:?}");
        }
        assert_eq!(sick["restore"], Verdict::Wrong);
    }
}
