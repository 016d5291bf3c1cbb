//! What is over, in all tables of people's sign-ins.

use std::time::Duration;

use mesh_types::Timestamp;
use sqlx::PgConnection;

/// Sessions that are over are kept for this long: a stolen token that comes late is still known as one.
const SESSIONS_KEPT: Duration = Duration::from_secs(7 * 86_400);
const ATTEMPTS_KEPT: Duration = Duration::from_secs(86_400);

/// How many rows went; at most `limit` of each table.
pub(crate) async fn sweep(tx: &mut PgConnection, now: Timestamp, limit: i64) -> Result<u64, sqlx::Error> {
    let before = |age: Duration| {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(micros))
    };
    let mut swept = 0;
    for (statement, until) in [
        (
            "DELETE FROM identity.ticket WHERE hash IN \
             (SELECT hash FROM identity.ticket WHERE expires_at < $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM identity.sign_in_state WHERE hash IN \
             (SELECT hash FROM identity.sign_in_state WHERE expires_at < $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM identity.attempt WHERE subject IN \
             (SELECT subject FROM identity.attempt WHERE touched_at < $1 LIMIT $2)",
            before(ATTEMPTS_KEPT),
        ),
        (
            "DELETE FROM identity.session WHERE id IN \
             (SELECT id FROM identity.session WHERE expires_at < $1 OR ended_at < $1 LIMIT $2)",
            before(SESSIONS_KEPT),
        ),
        (
            "DELETE FROM identity.signing_key WHERE id IN \
             (SELECT id FROM identity.signing_key WHERE good_until < $1 LIMIT $2)",
            now,
        ),
    ] {
        let done = sqlx::query(statement)
            .bind(until.to_chrono())
            .bind(limit)
            .execute(&mut *tx)
            .await?;
        swept += done.rows_affected();
    }
    Ok(swept)
}
