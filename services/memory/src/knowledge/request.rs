//! What is asked to be added, checked: where it goes, what it is, and how it comes. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_api::knowledge::{AddDocument, SearchKnowledge};
use mesh_api::memory::BaseName;
use mesh_types::{Code, Problem};
use url::Url;

use super::read::MediaType;
use crate::request::{CONTENT_BYTES_MAX, HITS_MAX};

const NAME_CHARACTERS_MAX: usize = 200;
const URL_BYTES_MAX: usize = 2_048;
/// Collections that one search covers.
const BASES_MAX: usize = 32;

/// A checked request to add a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) base: BaseName,
    pub(crate) name: String,
    /// As it was declared, with its parameters.
    pub(crate) media: Option<(MediaType, String)>,
    pub(crate) comes: Comes,
}

/// How a document comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Comes {
    Text(String),
    Data(Vec<u8>),
    Url(Url),
}

impl Comes {
    /// The field of the request.
    pub(crate) const fn field(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Data(_) => "data",
            Self::Url(_) => "url",
        }
    }
}

impl TryFrom<AddDocument> for Asked {
    type Error = Problem;

    fn try_from(request: AddDocument) -> Result<Self, Problem> {
        let base = request.base.ok_or_else(|| invalid("base", "no collection is named"))?;
        let media = request.media_type.map(declared).transpose()?;
        let comes = match (request.text, request.data, request.url) {
            (Some(text), None, None) => Comes::Text(text),
            (None, Some(data), None) => Comes::Data(bytes(&data)?),
            (None, None, Some(url)) => Comes::Url(address(&url)?),
            (None, None, None) => return Err(invalid("text", "no document: give one of `text`, `data` and `url`")),
            _ => {
                return Err(invalid(
                    "text",
                    "more than one document: give one of `text`, `data` and `url`",
                ));
            }
        };
        let name = match (request.name, &comes) {
            (Some(name), _) => name,
            (None, Comes::Url(url)) => name_of(url),
            (None, _) => return Err(invalid("name", "the document has no name, such as `handbook.md`")),
        };
        check_name(&name)?;
        Ok(Self {
            base,
            name,
            media,
            comes,
        })
    }
}

pub(super) fn check_search(request: &SearchKnowledge) -> Result<(), Problem> {
    if !(1..=BASES_MAX).contains(&request.bases.len()) {
        return Err(invalid(
            "bases",
            format!("a search covers 1 to {BASES_MAX} collections"),
        ));
    }
    if request.query.len() > CONTENT_BYTES_MAX {
        return Err(invalid(
            "query",
            format!(
                "{} bytes of text, at most {CONTENT_BYTES_MAX} are taken",
                request.query.len()
            ),
        ));
    }
    if request.query.trim().is_empty() || request.query.contains('\0') {
        return Err(invalid("query", "no text to search by"));
    }
    if !(1..=HITS_MAX).contains(&request.k) {
        return Err(invalid(
            "k",
            format!("{} hits; 1 to {HITS_MAX} can be asked for", request.k),
        ));
    }
    if request.score_min.is_some_and(|least| !least.is_finite()) {
        return Err(invalid("score_min", "not a finite number"));
    }
    Ok(())
}

fn declared(media_type: String) -> Result<(MediaType, String), Problem> {
    let Some(media) = MediaType::declared(&media_type) else {
        let shown: String = media_type.chars().take(80).collect();
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("documents of type `{shown}` are not read"),
        )
        .field("media_type")
        .next("send text/plain, text/markdown, text/html or application/pdf"));
    };
    Ok((media, media_type))
}

fn bytes(data: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(data).map_err(|error| {
        invalid(
            "data",
            format!("it is no base64 of the standard alphabet with padding: {error}"),
        )
    })
}

/// Without the fragment, which no server is told.
fn address(text: &str) -> Result<Url, Problem> {
    if text.len() > URL_BYTES_MAX {
        return Err(invalid(
            "url",
            format!("{} bytes, at most {URL_BYTES_MAX} are taken", text.len()),
        ));
    }
    let mut url = Url::parse(text).map_err(|error| invalid("url", format!("it is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(invalid("url", "it is no URL of http or https with a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("url", "it holds a password, which would be kept and shown")
            .next("fetch the document yourself, and send it as `text` or `data`"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The last part of the path, or the host.
fn name_of(url: &Url) -> String {
    let last = url
        .path_segments()
        .and_then(|mut parts| parts.rfind(|part| !part.is_empty()));
    let name = match last {
        Some(part) => unescaped(part),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(NAME_CHARACTERS_MAX)
        .collect()
}

fn unescaped(part: &str) -> String {
    // A query's value is escaped alike, but for `+`.
    let pair = format!("={}", part.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map_or_else(|| part.to_owned(), |(_, value)| value.into_owned())
}

fn check_name(name: &str) -> Result<(), Problem> {
    if name.trim().is_empty() || name.chars().count() > NAME_CHARACTERS_MAX {
        return Err(invalid(
            "name",
            format!("a name has 1 to {NAME_CHARACTERS_MAX} characters"),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid("name", "a name has no control characters"));
    }
    Ok(())
}

fn invalid(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail).field(field)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(request: Value) -> Result<Asked, Problem> {
        Asked::try_from(serde_json::from_value::<AddDocument>(request).unwrap())
    }

    fn field(request: Value) -> String {
        asked(request.clone()).expect_err(&request.to_string()).field.unwrap()
    }

    #[test]
    fn each_refusal_names_its_field() {
        assert_eq!(field(json!({"name": "a", "text": "x"})), "base");
        assert_eq!(field(json!({"base": "b", "name": "a"})), "text");
        assert_eq!(
            field(json!({"base": "b", "name": "a", "text": "x", "data": ""})),
            "text"
        );
        assert_eq!(field(json!({"base": "b", "text": "x"})), "name");
        assert_eq!(field(json!({"base": "b", "name": " ", "text": "x"})), "name");
        assert_eq!(field(json!({"base": "b", "name": "a\nb", "text": "x"})), "name");
        assert_eq!(
            field(json!({"base": "b", "name": "x".repeat(201), "text": "x"})),
            "name"
        );
        assert_eq!(field(json!({"base": "b", "name": "a", "data": "a-_="})), "data");
        assert_eq!(
            field(json!({"base": "b", "name": "a", "text": "x", "media_type": "image/png"})),
            "media_type"
        );
        for url in [
            "x",
            "ftp://a/b",
            "https://ann:pw@a.example/b",
            "data:text/plain,x",
            &format!("https://a/{}", "x".repeat(2_048)),
        ] {
            assert_eq!(field(json!({"base": "b", "url": url})), "url");
        }
    }

    #[test]
    fn a_document_by_url_is_named_by_it() {
        let name = |url: &str| asked(json!({"base": "b", "url": url})).unwrap().name;
        assert_eq!(name("https://a.example/docs/Teil%201%2B2.md?x=1#y"), "Teil 1+2.md");
        assert_eq!(name("https://a.example/docs/a+b&c/"), "a+b&c");
        assert_eq!(name("https://a.example"), "a.example");
        let kept = asked(json!({"base": "b", "url": "https://a.example/x#y", "name": "n"})).unwrap();
        assert_eq!(kept.comes, Comes::Url("https://a.example/x".parse().unwrap()));
        assert_eq!(kept.name, "n");
    }

    #[test]
    fn searches_are_bounded() {
        let check = |request: Value| check_search(&serde_json::from_value(request).unwrap());
        assert!(check(json!({"bases": ["a"], "query": "x", "k": 100})).is_ok());
        let many: Vec<String> = (0..33).map(|number| format!("b{number}")).collect();
        for (request, field) in [
            (json!({"bases": [], "query": "x"}), "bases"),
            (json!({"bases": many, "query": "x"}), "bases"),
            (json!({"bases": ["a"], "query": " "}), "query"),
            (json!({"bases": ["a"], "query": "x", "k": 0}), "k"),
            (json!({"bases": ["a"], "query": "x", "k": 101}), "k"),
        ] {
            assert_eq!(check(request).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
