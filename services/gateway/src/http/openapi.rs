//! The API's own description: OpenAPI 3.1 from the handlers, and the page that shows it.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ContentBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, ObjectBuilder, Type};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::extract::TENANT_HEADER;

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
             lists are `{\"items\",\"next\"}` with `limit` and `after`.",
        ))
        .license(Some(license))
        .build();
    let mut document = OpenApiBuilder::from(document).info(info).build();
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.patch,
            &mut item.delete,
        ];
        operations.into_iter().flatten().for_each(complete);
    }
    document
}

/// Every operation may answer with a problem, and asks for a tenant.
fn complete(operation: &mut Operation) {
    let problem = ContentBuilder::new()
        .schema(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
        .build();
    let response = ResponseBuilder::new()
        .description("What went wrong, as a problem document")
        .content("application/problem+json", problem)
        .build();
    operation.responses.responses.insert("default".into(), response.into());
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
