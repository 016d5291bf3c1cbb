//! One clock type: microseconds since the Unix epoch, RFC 3339 in UTC on the wire. The ambient clock lives here only.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeZone, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time in microseconds since 1970-01-01T00:00:00Z, the resolution of Postgres.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-21T12:00:00.000000Z")]
pub struct Timestamp(i64);

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000)
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch; never negative, as ULIDs want it.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0 / 1_000).unwrap_or(0)
    }

    /// Time since `earlier`, zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// Saturates at the ends of the range instead of panicking on hostile durations.
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        // Year 9999 is the last that RFC 3339 can say.
        Self(self.0.saturating_add(micros).min(253_402_300_799_999_999))
    }

    pub fn to_chrono(self) -> DateTime<Utc> {
        Utc.timestamp_micros(self.0).single().unwrap_or_default()
    }

    /// `YYYY-MM-DDTHH:MM:SS.ffffffZ`, by hand: each record of the journal has three of them, and the general formatter
    /// took 4 % of the time of a busy owner.
    fn text(self, into: &mut [u8; TEXT_BYTES]) -> &str {
        let known = Self(self.0.clamp(YEAR_0, YEAR_9999_END));
        let (days, micros) = (known.0.div_euclid(DAY), known.0.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let seconds = micros / 1_000_000;
        into.copy_from_slice(b"0000-00-00T00:00:00.000000Z");
        digits(&mut into[0..4], year);
        digits(&mut into[5..7], month);
        digits(&mut into[8..10], day);
        digits(&mut into[11..13], seconds / 3_600);
        digits(&mut into[14..16], seconds / 60 % 60);
        digits(&mut into[17..19], seconds % 60);
        digits(&mut into[20..26], micros % 1_000_000);
        std::str::from_utf8(into).unwrap_or_default()
    }
}

const TEXT_BYTES: usize = 27;
const DAY: i64 = 86_400_000_000;
/// 0000-01-01T00:00:00Z.
const YEAR_0: i64 = -62_167_219_200_000_000;
const YEAR_9999_END: i64 = 253_402_300_799_999_999;

/// Writes `value` with leading zeros.
fn digits(into: &mut [u8], mut value: i64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

/// Year, month and day of a count of days since 1970-01-01 in the proleptic Gregorian calendar, by eras of 400 years
/// that begin in March (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_micros())
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(at: Timestamp) -> Self {
        at.to_chrono()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; TEXT_BYTES]))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(DateTime::parse_from_rfc3339(text)?.with_timezone(&Utc).into())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; TEXT_BYTES]))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| de::Error::custom(format!("`{text}` is no RFC 3339 time")))
    }
}

/// Where time comes from. A service's state holds one; pure functions take a [`Timestamp`].
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    /// Never goes back; only differences mean anything.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    fn now(&self) -> Timestamp {
        Utc::now().into()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        let at = Timestamp::from_micros(1_795_258_800_123_456);
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }

    proptest::proptest! {
        /// As chrono writes it, over all years that have four digits.
        #[test]
        fn a_time_is_written_as_chrono_writes_it(micros in YEAR_0..=YEAR_9999_END) {
            let at = Timestamp::from_micros(micros);
            let wanted = at.to_chrono().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            proptest::prop_assert_eq!(at.to_string(), wanted);
        }
    }

    #[test]
    fn a_hostile_duration_saturates() {
        let far = Timestamp::from_millis(0).plus(Duration::MAX);
        assert!(far.to_string().starts_with("9999-12-31"));
    }
}
