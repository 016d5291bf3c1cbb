//! The API's own description: OpenAPI 3.1 from the handlers, and the page that shows it.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Content, ContentBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, ObjectBuilder, Type};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::extract::TENANT_HEADER;
use super::needs::SCHEME;

pub(super) const PATH: &str = "/api/v1/openapi.json";

/// What no handler says: title, and what holds for every operation.
pub(super) fn finish(document: OpenApi) -> OpenApi {
    let license = LicenseBuilder::new()
        .name("Apache-2.0")
        .identifier(Some("Apache-2.0"))
        .build();
    let info = InfoBuilder::new()
        .title("Agent Mesh")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Declare agents, invoke them, follow and steer their executions. Errors are RFC 9457 problem documents; \
             lists are `{\"items\",\"next\"}` with `limit` and `after`. Where credentials are demanded, `RateLimit` and \
             `RateLimit-Policy` say how many more requests are taken; 503 with `Retry-After` means that nothing was begun.",
        ))
        .license(Some(license))
        .build();
    let mut document = OpenApiBuilder::from(document).info(info).build();
    let components = document.components.get_or_insert_default();
    for (name, scheme) in schemes() {
        components.add_security_scheme(name, scheme);
    }
    for (_, name, description, _) in FAILURES {
        components
            .responses
            .insert(name.into(), failure("", description).into());
    }
    components.schemas.insert(OPENAI_ERROR.into(), openai_error());
    for (path, item) in &mut document.paths.paths {
        let (reads, writes) = (
            [&mut item.get],
            [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete],
        );
        for operation in reads.into_iter().flatten() {
            complete(operation, path, Does::Read);
        }
        for operation in writes.into_iter().flatten() {
            complete(operation, path, Does::Write);
        }
    }
    document
}

/// One credential, in either of two headers.
fn schemes() -> [(&'static str, SecurityScheme); 2] {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An API key, a person's access token, a node's secret or a join token. The names beside it are the least \
             role that may use the operation (viewer, service, operator, developer, owner), `node` (of itself only) \
             and `join`; any of them suffices. A key with scopes needs `<tag>:read` or `<tag>:write`, too.",
        ))
        .build();
    let header = ApiKeyValue::with_description(KEY_HEADER_NAME, "The same credential");
    [
        (SCHEME, SecurityScheme::Http(bearer)),
        (KEY_SCHEME, SecurityScheme::ApiKey(ApiKey::Header(header))),
    ]
}

/// The same needs by the other header, which clients that are generated from the document choose from.
fn either_header(security: &mut Vec<SecurityRequirement>) {
    let declared = serde_json::to_value(&*security).expect("requirements are plain data");
    for names in declared
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one[SCHEME].as_array())
    {
        let names = names.iter().filter_map(serde_json::Value::as_str);
        security.push(SecurityRequirement::new(KEY_SCHEME, names));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Read,
    Write,
}

/// The status, the name and the meaning of a failure, and whose it is.
type FailureOf = (&'static str, &'static str, &'static str, fn(&Operation, Does) -> bool);

/// What operations may fail with besides what their handlers say.
const FAILURES: [FailureOf; 13] = [
    (
        "400",
        "NotValid",
        "The request is not valid; `field` names the place",
        |_, _| true,
    ),
    ("401", "Unauthorized", "No credential, or none that is good", |_, _| {
        true
    }),
    (
        "403",
        "Forbidden",
        "The credential may not do that, or another page asks",
        |_, _| true,
    ),
    (
        "404",
        "NotFound",
        "There is no such thing, or it is not yours to see",
        |operation, does| does == Does::Write || names_something(operation),
    ),
    (
        "408",
        "RequestTimeout",
        "The body did not arrive in time",
        |operation, _| has_body(operation),
    ),
    (
        "409",
        "Conflict",
        "What is there does not go with it, such as an ended invocation",
        is_write,
    ),
    ("412", "PreconditionFailed", "It has changed meanwhile", is_write),
    ("413", "BodyTooLarge", "The body is over the limit", is_write),
    (
        "415",
        "UnsupportedMediaType",
        "The body is of another media type",
        is_write,
    ),
    (
        "422",
        "Unprocessable",
        "It can be read and not be done, such as a key used with another body",
        is_write,
    ),
    (
        "429",
        "TooManyRequests",
        "`Retry-After` says when to come again",
        |_, _| true,
    ),
    (
        "503",
        "Unavailable",
        "A service is away or has too much work; nothing was begun",
        |_, _| true,
    ),
    (
        "504",
        "Timeout",
        "No answer in time; whether it was done is not known",
        |_, _| true,
    ),
];

fn is_write(_operation: &Operation, does: Does) -> bool {
    does == Does::Write
}

fn names_something(operation: &Operation) -> bool {
    let parameters = operation.parameters.iter().flatten();
    let is_path = |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if one.parameter_in == ParameterIn::Path);
    parameters.into_iter().any(is_path)
}

fn has_body(operation: &Operation) -> bool {
    operation.request_body.is_some()
}

/// Problems everywhere, but for the routes that speak the words of another API.
fn failure_content(path: &str) -> (&'static str, Content) {
    let (media, schema) = if path.starts_with(OPENAI) {
        ("application/json", OPENAI_ERROR)
    } else {
        (PROBLEM_JSON, "Problem")
    };
    let schema = RefOr::Ref(Ref::from_schema_name(schema));
    (media, ContentBuilder::new().schema(Some(schema)).build())
}

fn failure(path: &str, description: &str) -> Response {
    let (media, content) = failure_content(path);
    ResponseBuilder::new()
        .description(description)
        .content(media, content)
        .build()
}

/// What clients of that API read.
fn openai_error() -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let or_null = || ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
    let error = ObjectBuilder::new()
        .property("message", text())
        .property("type", text())
        .property("param", or_null())
        .property("code", or_null())
        .required("message")
        .required("type");
    ObjectBuilder::new().property("error", error).required("error").into()
}

/// Every operation may answer with a failure, and asks for a tenant.
fn complete(operation: &mut Operation, path: &str, does: Does) {
    operation.security.iter_mut().for_each(either_header);
    for (status, name, description, is_its) in FAILURES {
        if is_its(operation, does) {
            let shared = || {
                if path.starts_with(OPENAI) {
                    failure(path, description).into()
                } else {
                    RefOr::Ref(Ref::from_response_name(name))
                }
            };
            operation
                .responses
                .responses
                .entry(status.into())
                .or_insert_with(shared);
        }
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with('4')
            && response.content.is_empty()
        {
            let (media, content) = failure_content(path);
            response.content.insert(media.into(), content.into());
        }
    }
    let any = failure("", "What went wrong, as a problem document").into();
    operation.responses.responses.entry("default".into()).or_insert(any);
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = if status == "201" { "created" } else { "done" }.into();
        }
    }
    let tenant = ParameterBuilder::new()
        .name(TENANT_NAME)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Tenant; `default` when left out"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .build();
    operation.parameters.get_or_insert_default().push(tenant.into());
}

const PROBLEM_JSON: &str = "application/problem+json";
/// Routes for clients of the OpenAI API.
const OPENAI: &str = "/v1/";
const OPENAI_ERROR: &str = "OpenAiError";
const KEY_SCHEME: &str = "api_key";
const KEY_HEADER_NAME: &str = "X-Service-API-Key";
const _: () = assert!(KEY_HEADER_NAME.len() == super::credentials::KEY_HEADER.len());
const TENANT_NAME: &str = "Mesh-Tenant";
const _: () = assert!(TENANT_NAME.len() == TENANT_HEADER.len());

/// `GET /api/v1/openapi.json` and `GET /docs`.
pub(super) fn router<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let json = document.to_json().expect("the document is plain data");
    let ui = SwaggerUi::new("/docs").config(Config::from(PATH).try_it_out_enabled(true));
    let serve = move || {
        let json = json.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], json).into_response() }
    };
    Router::<S>::new().route(PATH, get(serve)).merge(ui)
}
