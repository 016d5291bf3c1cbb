//! When a provider that refuses wants to be asked again, from the headers of its answer. Pure: a date is read against
//! the answer's own `Date`, so that neither clock's error counts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The pause that the answer wishes for: `retry-after-ms` (OpenAI), else `Retry-After` in seconds or as a date (RFC 9110,
/// section 10.2.3), else the reset of those rate limits that are used up, in the forms of OpenAI (`1m30.5s`), Anthropic
/// (RFC 3339) and OpenRouter (Unix time). `None`: it wishes nothing that can be understood.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let date = text(headers, DATE.as_str()).and_then(http_date);
    let milliseconds = text(headers, "retry-after-ms").and_then(|text| seconds(text, 1e-3));
    milliseconds
        .or_else(|| {
            let wish = text(headers, RETRY_AFTER.as_str())?;
            seconds(wish, 1.0).or_else(|| until(http_date(wish)?, date?))
        })
        .or_else(|| used_up(headers, date))
}

/// The longest of the resets of limits that have nothing left.
fn used_up(headers: &HeaderMap, date: Option<DateTime<Utc>>) -> Option<Duration> {
    let of_openai = ["requests", "tokens"].into_iter().filter_map(|what| {
        let left = text(headers, &format!("x-ratelimit-remaining-{what}"))?;
        let reset = text(headers, &format!("x-ratelimit-reset-{what}"))?;
        (left == "0").then(|| units(reset)).flatten()
    });
    let of_anthropic = ["requests", "tokens", "input-tokens", "output-tokens"]
        .into_iter()
        .filter_map(|what| {
            let left = text(headers, &format!("anthropic-ratelimit-{what}-remaining"))?;
            let reset = text(headers, &format!("anthropic-ratelimit-{what}-reset"))?;
            let reset = DateTime::parse_from_rfc3339(reset).ok().filter(|_| left == "0")?;
            until(reset.to_utc(), date?)
        });
    let plain = text(headers, "x-ratelimit-remaining")
        .filter(|left| *left == "0")
        .and_then(|_| reset_time(text(headers, "x-ratelimit-reset")?, date));
    of_openai.chain(of_anthropic).chain(plain).max()
}

/// A number of seconds, or a time in seconds or milliseconds since 1970: the sizes tell them apart.
fn reset_time(reset: &str, date: Option<DateTime<Utc>>) -> Option<Duration> {
    let number: i64 = reset.parse().ok()?;
    match number {
        ..0 => None,
        0..1_000_000_000 => seconds(reset, 1.0),
        1_000_000_000..1_000_000_000_000 => until(DateTime::from_timestamp(number, 0)?, date?),
        _ => until(DateTime::from_timestamp_millis(number)?, date?),
    }
}

/// `1h2m3.5s`, `120ms`: numbers with their units.
fn units(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let factor = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum = sum.checked_add(seconds(number, factor)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// A number that is not negative, times `factor`, as seconds.
fn seconds(text: &str, factor: f64) -> Option<Duration> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = text.parse().ok().filter(|_| is_plain)?;
    Duration::try_from_secs_f64(number * factor).ok()
}

fn until(then: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
    // A time that has passed asks for no pause.
    Some((then - now).to_std().unwrap_or(Duration::ZERO))
}

/// The three forms of RFC 9110, section 5.6.7.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return Some(date.to_utc());
    }
    // `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok())
        .map(|date| date.and_utc())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn wish(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        retry_after(&map)
    }

    const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");

    #[test]
    fn seconds_milliseconds_and_all_forms_of_a_date_are_understood() {
        let second = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wish(&[("retry-after", "120")]), second(120));
        assert_eq!(wish(&[("retry-after", " 0 ")]), second(0));
        assert_eq!(wish(&[("retry-after", "1.5")]), Some(Duration::from_millis(1_500)));
        assert_eq!(
            wish(&[("retry-after-ms", "250"), ("retry-after", "1")]),
            Some(Duration::from_millis(250))
        );
        for date in [
            "Sun, 06 Nov 1994 08:50:07 GMT",
            "Sunday, 06-Nov-94 08:50:07 GMT",
            "Sun Nov  6 08:50:07 1994",
        ] {
            assert_eq!(wish(&[("retry-after", date), DATE]), second(30), "{date}");
        }
        assert_eq!(
            wish(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), DATE]),
            second(0)
        );
    }

    #[test]
    fn what_cannot_be_understood_wishes_nothing() {
        for text in ["-5", "soon", "inf", "NaN", "1e3", "", "99999999999999999999999999"] {
            assert_eq!(wish(&[("retry-after", text)]), None, "{text}");
        }
        assert_eq!(
            wish(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]),
            None,
            "no date to read it by"
        );
        assert_eq!(wish(&[]), None);
    }

    #[test]
    fn a_limit_that_is_used_up_says_when_it_is_not() {
        let openai = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m30.5s"),
            ("x-ratelimit-remaining-tokens", "12"),
            ("x-ratelimit-reset-tokens", "6h"),
        ];
        assert_eq!(wish(&openai), Some(Duration::from_millis(90_500)));
        let anthropic = [
            DATE,
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:50:00Z"),
        ];
        assert_eq!(wish(&anthropic), Some(Duration::from_secs(23)));
        for (reset, seconds) in [("42", 42), ("784111780", 784_111_780), ("1784111780", 1_000_000_003)] {
            let plain = [DATE, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
            assert_eq!(wish(&plain), Some(Duration::from_secs(seconds)), "{reset}");
        }
        let milliseconds = [
            DATE,
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1784111780500"),
        ];
        assert_eq!(wish(&milliseconds), Some(Duration::from_millis(1_000_000_003_500)));
        assert_eq!(wish(&openai[2..]), None, "there are tokens left");
    }

    proptest! {
        #[test]
        fn no_header_however_strange_panics(value in "[ -~]{0,40}", name in 0..5_usize) {
            let names = ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-requests", "date"];
            let left = [("x-ratelimit-remaining", "0"), ("x-ratelimit-remaining-requests", "0")];
            let mut headers = vec![DATE, left[0], left[1]];
            headers.push((names[name], &value));
            let _ = wish(&headers);
        }

        #[test]
        fn units_add_up(hours in 0..48_u64, minutes in 0..60_u64, milliseconds in 0..60_000_u64) {
            let text = format!("{hours}h{minutes}m{}s", milliseconds as f64 / 1_000.0);
            let expected = hours * 3_600_000 + minutes * 60_000 + milliseconds;
            let found = units(&text).unwrap().as_micros();
            prop_assert!(found.abs_diff(u128::from(expected) * 1_000) <= 1, "{text}: {found}");
        }
    }
}
