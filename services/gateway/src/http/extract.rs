//! What handlers take from a request: who asks, names in the path, the query, a JSON body. Each refuses by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use mesh_api::PageQuery;
use mesh_types::{Code, Problem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::Failure;
use crate::state::App;

pub(crate) use super::credentials::{Who, WhoNode};

pub(crate) const TENANT_HEADER: &str = "mesh-tenant";

/// A header's text; named twice or not visible ASCII, it is refused.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Failure::invalid(name, format!("the header {name} stands twice")));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| Failure::invalid(name, format!("the header {name} must be visible ASCII")))
}

/// The one name or id in the path.
pub(crate) struct Segment<T>(pub(crate) T);

impl<T> FromRequestParts<App> for Segment<T>
where
    T: FromStr,
    Problem: From<T::Err>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        parse_next(&mut path_params(parts, app).await?.iter()).map(Self)
    }
}

/// Two names or ids in the path, in its order.
pub(crate) struct TwoSegments<A, B>(pub(crate) A, pub(crate) B);

impl<A, B> FromRequestParts<App> for TwoSegments<A, B>
where
    A: FromStr,
    B: FromStr,
    Problem: From<A::Err> + From<B::Err>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let params = path_params(parts, app).await?;
        let mut params = params.iter();
        Ok(Self(parse_next(&mut params)?, parse_next(&mut params)?))
    }
}

async fn path_params(parts: &mut Parts, app: &App) -> Result<RawPathParams, Failure> {
    RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| Failure::new(Code::InvalidName, "the path is not UTF-8"))
}

fn parse_next<'a, T>(params: &mut impl Iterator<Item = (&'a str, &'a str)>) -> Result<T, Failure>
where
    T: FromStr,
    Problem: From<T::Err>,
{
    let (name, text) = params.next().unwrap_or(("path", ""));
    text.parse().map_err(|error| Failure(Problem::from(error).field(name)))
}

/// Parameters of the query, taken one by one; what is left over is refused.
pub(crate) struct Params(BTreeMap<String, String>);

/// A type that is read from the query.
pub(crate) trait FromParams: Sized {
    const NAMES: &'static [&'static str];
    fn from_params(params: &mut Params) -> Result<Self, Failure>;
}

/// The query as `T`; unknown and repeated parameters are refused by name.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: FromParams> FromRequestParts<App> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Failure> {
        let mut params = Params::of(parts)?;
        let value = T::from_params(&mut params)?;
        match params.0.keys().next() {
            None => Ok(Self(value)),
            Some(unknown) => {
                let shown: String = unknown.chars().take(64).collect();
                let known = if T::NAMES.is_empty() {
                    "none".to_owned()
                } else {
                    T::NAMES.join(", ")
                };
                Err(Failure::invalid(
                    &shown,
                    format!("unknown query parameter `{shown}`; this route takes {known}"),
                ))
            }
        }
    }
}

impl Params {
    pub(crate) fn of(parts: &Parts) -> Result<Self, Failure> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Failure::new(Code::InvalidRequest, error.body_text()))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs.0 {
            if params.insert(name.clone(), value).is_some() {
                return Err(Failure::invalid(
                    &name,
                    format!("the query parameter `{name}` stands twice"),
                ));
            }
        }
        Ok(Self(params))
    }

    pub(crate) fn take<T>(&mut self, name: &str) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.0.remove(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|error: T::Err| Failure::invalid(name, format!("{name}: {error}")))
    }

    /// A whole number within bounds.
    pub(crate) fn take_number(&mut self, name: &str, least: u32, most: u32) -> Result<Option<u32>, Failure> {
        let Some(text) = self.0.remove(name) else {
            return Ok(None);
        };
        match text.parse::<u32>() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(Failure::invalid(
                name,
                format!("{name} must be a whole number from {least} to {most}"),
            )),
        }
    }
}

/// No parameters at all.
pub(crate) struct Nothing;

impl FromParams for Nothing {
    const NAMES: &'static [&'static str] = &[];
    fn from_params(_params: &mut Params) -> Result<Self, Failure> {
        Ok(Self)
    }
}

impl FromParams for PageQuery {
    const NAMES: &'static [&'static str] = &["limit", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        let limit = params.take_number("limit", 1, mesh_api::page::LIMIT_MAX)?;
        Ok(Self {
            limit,
            after: params.take("after")?,
        })
    }
}

/// A JSON body, read strictly; also a JSON answer.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        check_media_type(request.headers())?;
        let bytes = read_body(request.into_body(), app).await?;
        parse_object(&bytes).map(Self)
    }
}

/// As [`Json`], where an empty body means the default.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        check_media_type(request.headers())?;
        let bytes = read_body(request.into_body(), app).await?;
        if bytes.is_empty() {
            Ok(Self(T::default()))
        } else {
            parse_object(&bytes).map(Self)
        }
    }
}

/// The body of a route that takes none: empty or `{}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoFields {}

/// Every body of the API is an object; serde would also take a list of the fields' values for one.
pub(super) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let value = mesh_types::json::parse_value(bytes)?;
    if !value.is_object() {
        return Err(Failure::new(Code::InvalidRequest, "the body must be a JSON object"));
    }
    Ok(mesh_types::json::from_value(value)?)
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(kind) = media_type(headers)? else {
        return Ok(());
    };
    if is_json(&kind) {
        return Ok(());
    }
    let shown: String = kind.chars().take(80).collect();
    Err(
        Failure::new(Code::UnsupportedMediaType, format!("`{shown}` is not taken"))
            .next("send Content-Type: application/json"),
    )
}

/// What the body is said to be, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let kind = header_text(headers, header::CONTENT_TYPE.as_str())?;
    Ok(kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()))
}

pub(super) fn is_json(kind: &str) -> bool {
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

pub(super) async fn read_body(body: Body, app: &App) -> Result<Bytes, Failure> {
    let read = collect(body, app.body_bytes_max);
    match tokio::time::timeout(app.request_timeout, read).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Failure::new(Code::RequestTimeout, "the body did not arrive in time")),
    }
}

/// Reads at most `limit` bytes. What is over is read and thrown away up to four times the limit, as a client that
/// is still sending would see a broken connection instead of the answer.
async fn collect(body: Body, limit: usize) -> Result<Bytes, Failure> {
    let mut kept = BytesMut::new();
    let mut seen = 0_usize;
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| Failure::new(Code::InvalidRequest, "the body broke off"))?;
        seen = seen.saturating_add(piece.len());
        if seen <= limit {
            kept.extend_from_slice(&piece);
        } else if seen > limit.saturating_mul(4) {
            break;
        }
    }
    if seen > limit {
        let detail = format!("the body is larger than {limit} bytes");
        return Err(
            Failure::new(Code::BodyTooLarge, detail).next("send less; large content goes into several requests")
        );
    }
    Ok(kept.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query<T: FromParams>(query: &str) -> Result<T, Failure> {
        let (parts, ()) = axum::http::Request::get(format!("/x?{query}"))
            .body(())
            .unwrap()
            .into_parts();
        T::from_params(&mut Params::of(&parts)?)
    }

    #[test]
    fn a_limit_outside_its_bounds_is_refused_by_name() {
        for wrong in ["0", "-1", "501", "abc", "", "1.5", "99999999999999999999"] {
            let Failure(problem) = query::<PageQuery>(&format!("limit={wrong}")).unwrap_err();
            assert_eq!(
                (problem.status, problem.field.as_deref()),
                (400, Some("limit")),
                "{wrong}"
            );
        }
        assert_eq!(
            query::<PageQuery>("limit=500&after=x%20y").unwrap().after.as_deref(),
            Some("x y")
        );
        assert_eq!(query::<PageQuery>("").unwrap().limit, None);
    }

    #[test]
    fn a_parameter_named_twice_is_refused() {
        assert_eq!(
            query::<PageQuery>("limit=1&limit=2").unwrap_err().0.field.as_deref(),
            Some("limit")
        );
    }

    #[tokio::test]
    async fn a_body_is_taken_to_the_byte() {
        let of = |size: usize| collect(Body::from(vec![b'x'; size]), 1_000);
        assert_eq!(of(1_000).await.unwrap().len(), 1_000);
        for size in [1_001, 4_000, 1_000_000] {
            assert_eq!(of(size).await.unwrap_err().0.status, 413, "{size}");
        }
    }

    #[test]
    fn only_json_is_taken() {
        let check = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            check_media_type(&headers).map_err(|failure| failure.0.status)
        };
        assert_eq!(check_media_type(&HeaderMap::new()), Ok(()));
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
        ] {
            assert_eq!(check(kind), Ok(()), "{kind}");
        }
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "json",
        ] {
            assert_eq!(check(kind), Err(415), "{kind}");
        }
    }
}
