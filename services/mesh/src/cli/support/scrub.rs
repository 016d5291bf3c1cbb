//! Takes secrets out of text, whatever it is: those that are known by their value, those that look like one, and values
//! of fields with such a name. Rather too much than too little.

use std::collections::BTreeSet;

const HIDDEN: &str = "***";
/// A known secret that is shorter would tear ordinary words apart.
const KNOWN_CHARS_MIN: usize = 6;
/// Beginnings of secrets: our keys, join tokens and nodes' secrets; providers' keys; signed tokens; hashes of passwords.
const BEGINNINGS: [&str; 17] = [
    "mak_",
    "mjt_",
    "mns_",
    "sk-",
    "sk_",
    "pk_live",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "hf_",
    "AKIA",
    "AIza",
    "eyJ",
    "$argon2id$",
];
/// Seeds of NATS keys: 58 characters of base 32, the first an S, the second the kind.
const SEED_CHARS: usize = 58;
const SEED_KINDS: &str = "ACNOUX";
const SCHEMES: [&str; 4] = ["bearer", "basic", "digest", "token"];
/// A field whose name ends so holds a secret, unless its value is a number or a word such as `true`.
const FIELDS: [&str; 15] = [
    "password",
    "passwd",
    "pass",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "authorization",
    "credential",
    "cookie",
    "seed",
    "signature",
];

/// Knows the secrets of this installation by value.
#[derive(Default)]
pub(super) struct Scrubber {
    /// Longest first: one may be a part of another.
    known: Vec<String>,
}

impl Scrubber {
    pub(super) fn new(known: impl IntoIterator<Item = String>) -> Self {
        let known: BTreeSet<_> = known
            .into_iter()
            .filter(|secret| secret.len() >= KNOWN_CHARS_MIN)
            .collect();
        let mut known: Vec<_> = known.into_iter().collect();
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { known }
    }

    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            text = text.replace(secret.as_str(), HIDDEN);
        }
        let mut is_in_key = false;
        let mut lines = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            // The lines of a private key in PEM say nothing but the key.
            if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
                is_in_key = !line.contains("-----END");
                lines.push_str("*** (a private key)\n");
                continue;
            }
            if is_in_key {
                is_in_key = !line.contains("-----END");
                continue;
            }
            lines.push_str(&fields(&words(&users(line))));
        }
        lines
    }
}

/// Whether a field of that name holds a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    // `MESH_API_KEY_FILE` names a file, `input_tokens` counts.
    FIELDS.iter().any(|field| name.ends_with(field)) || name == "key" || name.ends_with("_key")
}

/// `scheme://user:password@host` and `scheme://token@host`.
fn users(line: &str) -> String {
    let mut done = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        done.push_str(before);
        let end = after.find(|letter: char| letter.is_whitespace() || "/\"'<>,;)]}".contains(letter));
        let (authority, following) = after.split_at(end.unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                if let Some((name, _)) = user.split_once(':') {
                    done.push_str(name);
                    done.push(':');
                }
                done.push_str(HIDDEN);
                done.push('@');
                done.push_str(host);
            }
            // A password with a slash in it: up to the `@` before the next blank it is taken for one.
            None => match password_with_slash(authority, following) {
                Some((name, left)) => {
                    done.push_str(name);
                    done.push(':');
                    done.push_str(HIDDEN);
                    rest = left;
                    continue;
                }
                None => done.push_str(authority),
            },
        }
        rest = following;
    }
    done.push_str(rest);
    done
}

fn password_with_slash<'a>(authority: &'a str, following: &'a str) -> Option<(&'a str, &'a str)> {
    let (name, after) = authority.split_once(':')?;
    if after.is_empty() || after.bytes().all(|letter| letter.is_ascii_digit()) {
        return None;
    }
    let end = following.find(char::is_whitespace).unwrap_or(following.len());
    let at = following[..end].find('@')?;
    Some((name, &following[at..]))
}

/// Words that look like a secret, and the word after `Bearer`.
fn words(line: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_-.$+/=~".contains(letter);
    let mut done = String::with_capacity(line.len());
    let mut rest = line;
    let mut is_expected = false;
    while !rest.is_empty() {
        let length = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let (word, following) = rest.split_at(length);
        if word.is_empty() {
            let other = following.chars().next().map_or(0, char::len_utf8);
            done.push_str(&following[..other]);
            is_expected &= following.starts_with(' ');
            rest = &following[other..];
            continue;
        }
        if is_expected && word.len() >= KNOWN_CHARS_MIN {
            done.push_str(HIDDEN);
        } else {
            done.push_str(&without_secret(word));
        }
        is_expected = SCHEMES.contains(&word.to_ascii_lowercase().as_str());
        rest = following;
    }
    done
}

/// A word without the secret that it is, or that stands behind a `=` in it.
fn without_secret(word: &str) -> String {
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
        && !looks_secret(word)
    {
        let kept = if looks_secret(value) { HIDDEN } else { value };
        return format!("{name}={kept}");
    }
    if looks_secret(word) {
        HIDDEN.to_owned()
    } else {
        word.to_owned()
    }
}

fn looks_secret(word: &str) -> bool {
    const REST_CHARS_MIN: usize = 8;
    let begins = |beginning: &&str| word.starts_with(*beginning) && word.len() >= beginning.len() + REST_CHARS_MIN;
    // At the end of a sentence.
    BEGINNINGS.iter().any(begins) || is_seed(word.trim_end_matches('.'))
}

fn is_seed(word: &str) -> bool {
    let mut letters = word.chars();
    word.len() == SEED_CHARS
        && letters.next() == Some('S')
        && letters.next().is_some_and(|kind| SEED_KINDS.contains(kind))
        && word
            .chars()
            .all(|letter| letter.is_ascii_uppercase() || ('2'..='7').contains(&letter))
}

/// `name=value`, `name: value`, `"name":"value"`, `\"name\":\"value\"` where the name says that it is secret.
fn fields(line: &str) -> String {
    let mut done = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find([':', '=']) {
        let (before, after) = rest.split_at(at + 1);
        done.push_str(before);
        rest = after;
        let quoted = before[..at].trim_end().trim_end_matches(['"', '\'', '\\']);
        let from = quoted
            .rfind(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'))
            .map_or(0, |at| at + quoted[at..].chars().next().map_or(1, char::len_utf8));
        if !is_secret_name(&quoted[from..]) || after.starts_with("//") {
            continue;
        }
        let opening = after
            .find(|letter: char| !" \\\"'".contains(letter))
            .unwrap_or(after.len());
        let is_quoted = after[..opening].contains(['"', '\'']);
        let ends = |letter: char| match is_quoted {
            true => "\\\"'\n".contains(letter),
            false => letter.is_whitespace() || ",;)]}&\"'".contains(letter),
        };
        let value = &after[opening..];
        let value = &value[..value.find(ends).unwrap_or(value.len())];
        done.push_str(&after[..opening]);
        done.push_str(if is_harmless(value, is_quoted) { value } else { HIDDEN });
        rest = &after[opening + value.len()..];
    }
    done.push_str(rest);
    done
}

fn is_harmless(value: &str, is_quoted: bool) -> bool {
    let words = ["", "true", "false", "null", "None", "{", "[", "default", HIDDEN];
    words.contains(&value)
        || value.starts_with(['{', '['])
        || SCHEMES.contains(&value.to_ascii_lowercase().as_str())
        || (!is_quoted && value.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: &[&str] = &[
        "postgres://mesh:hunter2@db:5432/mesh is where it is",
        "nats://hunter2@nats:4222,nats://a:hunter2@b:1",
        "postgres://mesh:hun/hunter2@db/mesh",
        "Authorization: Bearer hunter2hunter2",
        r#"{"authorization":"Basic hunter2hunter2=="}"#,
        "X-Service-API-Key: mak_hunter2_0000000000000",
        "token mjt_00000000000000000000000008_hunter2hunter2",
        "provider said: invalid key sk-proj-hunter2hunter2",
        "OPENAI_API_KEY=hunter2 MESH_X=1",
        r#"{"password":"hunter2 with blanks","user":"ann"}"#,
        r#"body="{\"client_secret\":\"hunter2\"}""#,
        "database.password = \"hunter2\"",
        "secret: hunter2",
        "https://a.example/x?api_key=hunter2&b=1",
        "cookie: session=hunter2; Path=/",
        "jwt eyJhbGciOiJIUzI1NiJ9.hunter2.hunter2",
        "key=hunter2",
    ];

    #[test]
    fn nothing_that_is_secret_stays() {
        let scrubber = Scrubber::default();
        for line in SECRETS {
            let clean = scrubber.scrub(line);
            assert!(!clean.contains("hunter2"), "{line}: {clean}");
            assert!(clean.contains(HIDDEN), "{clean}");
        }
        let seed = format!("SU{}", "A2".repeat(28));
        assert!(!scrubber.scrub(&format!("seed of {seed}.")).contains(&seed));
        let pem = "x\n-----BEGIN PRIVATE KEY-----\nhunter2\nhunter2\n-----END PRIVATE KEY-----\ny\n";
        let clean = scrubber.scrub(pem);
        assert!(!clean.contains("hunter2") && clean.ends_with("y\n"), "{clean}");
    }

    #[test]
    fn what_is_known_is_found_anywhere() {
        let scrubber = Scrubber::new(["correct horse".to_owned(), "x".to_owned()]);
        assert_eq!(scrubber.scrub("say correct horse twice: x"), "say *** twice: x");
    }

    #[test]
    fn what_is_not_secret_stays() {
        let scrubber = Scrubber::default();
        for line in [
            r#"{"input_tokens":12,"output_tokens":7,"cost_usd":0.5}"#,
            "2026-11-21T12:00:00.000000Z  INFO memory memory::bus: stored agent=sofia",
            "http://127.0.0.1:8000/api/v1/agents?limit=5",
            "mesh_invocations_total{agent=\"sofia\"} 12",
            "the risk-free desk-top",
            "MESH_REQUIRE_CREDENTIALS=1",
        ] {
            assert_eq!(scrubber.scrub(line), line);
        }
    }
}
